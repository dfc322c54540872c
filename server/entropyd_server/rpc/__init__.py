"""The gRPC services, and what every call passes on its way to them."""
