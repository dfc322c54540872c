"""A Zarr v3 codec: chunks of float arrays are stored as archives, compressed by an entropyd server.

    serializer = EntropydCodec(model_id=model.id, max_error=0.001)
    array = zarr.create_array(
        store, shape=shape, chunks=chunks, dtype="float32", serializer=serializer, compressors=None
    )

zarr finds the codec by its entry point, so a program that only reads need not import this module. The server
is set in zarr's configuration, as in `zarr.config.set({"entropyd.server": "host:7070"})` or with
ZARR_ENTROPYD__SERVER in the environment; the default is 127.0.0.1:7070. `entropyd.tls`, `tls_ca`, `tls_cert`,
`tls_key` and `token_file` are as the options of the `entropyd` command.

Invariant: a chunk is a whole archive, so `entropyd inspect` and `verify` work on it, and damage is an error
of that chunk.

codec: the codec that zarr calls; chunks: chunks as archives; server: the server that codes.
"""

from entropyd.zarr.codec import EntropydCodec
from entropyd.zarr.server import DEFAULT_SERVER

__all__ = ["DEFAULT_SERVER", "EntropydCodec"]
