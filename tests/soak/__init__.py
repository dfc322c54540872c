"""A server under everything that callers do, for minutes or hours: what it holds must not grow."""
