"""What client and server agree on: configurations and identity, wire conversion, errors."""
