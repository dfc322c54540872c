"""How calls reach servicers: gRPC's core, driven by a thread that takes turns with the event loop."""
