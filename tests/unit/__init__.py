"""Laws of single modules; nothing here starts a server."""
