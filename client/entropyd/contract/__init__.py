"""What client and server share, without I/O: configurations and ids, wire conversion, errors."""
