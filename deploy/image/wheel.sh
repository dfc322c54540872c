#!/bin/sh
# Builds entropyd's wheel from the tree in the current folder: wheel.sh FOLDER
set -eu
exec python3 -m pip wheel --quiet --no-deps --wheel-dir "$1" .
