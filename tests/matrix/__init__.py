"""Client and coding role on every Python version and grpcio release that they promise to run on."""
