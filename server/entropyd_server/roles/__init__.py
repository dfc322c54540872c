"""The roles of a server: each adds one gRPC service and the parts that it needs."""
