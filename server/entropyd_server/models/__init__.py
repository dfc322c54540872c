"""Models as the server holds them: found or built, cached, counted."""
