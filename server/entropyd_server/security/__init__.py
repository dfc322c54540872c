"""TLS, tokens and their scopes."""
