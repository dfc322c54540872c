"""What guards a server: TLS, tokens and their scopes, and how many calls may be in hand."""
