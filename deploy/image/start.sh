#!/bin/sh
# Starts the server of a read-only image.
#
# Numba uses a cache folder only if it can write there. So each start copies the kernels that were compiled when the
# image was built, less than a megabyte. On a processor that cannot use them, Numba compiles them again into the copy,
# in some seconds.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -R "$(dirname "$0")/../kernels/." "$NUMBA_CACHE_DIR"
exec "$(dirname "$0")/entropyd-server" "$@"
