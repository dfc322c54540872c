"""Bulk coding on Dask: chunks of a dask.array are compressed into a Zarr array, on any Dask cluster.

    entropyd.dask.compress(array, model, "s3://bucket/data.zarr", max_error=0.001)
    restored = entropyd.dask.decompress("s3://bucket/data.zarr", client)

Invariants: a task writes whole Zarr chunks, each by one atomic write, so that a chunk that is there is
complete and no run codes it again; a run that ends without an error has found every chunk there.

bulk: what users call; coded_array: the Zarr array; layout: how Dask's chunks become Zarr's.
"""

from entropyd.dask.bulk import compress, decompress

__all__ = ["compress", "decompress"]
