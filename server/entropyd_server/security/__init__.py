"""TLS, and tokens with their scopes."""
