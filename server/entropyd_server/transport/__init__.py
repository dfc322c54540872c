"""Serves methods over gRPC: on gRPC's core, or on grpc.aio."""
