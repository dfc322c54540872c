"""Log lines, metrics over HTTP, the status page and traces of a running server."""
