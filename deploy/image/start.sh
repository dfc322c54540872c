#!/bin/sh
# Starts the server of an image, which nobody may write to.
#
# Numba uses a cache folder only if it can write there, so a start works on a copy, of less than a megabyte, of the
# kernels that were compiled when the image was built. What it cannot use, on a processor of another kind, it compiles
# anew into the copy, which takes some seconds.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -R "$(dirname "$0")/../kernels/." "$NUMBA_CACHE_DIR"
exec "$(dirname "$0")/entropyd-server" "$@"
