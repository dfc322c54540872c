#!/bin/sh
# Installs entropyd at the versions of ./constraints.txt and compiles its kernels: install.sh PREFIX EXTRAS WHEEL
#
# The environment has no pip, and everything in it comes from wheels, so there is no compiler to remove.
# Kernels are compiled for the processor of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES. Set both, here and when the server
# starts: if only the name is set, Numba uses the features of the building machine, and the code fits no other.
set -eu
prefix=$1 extras=$2 wheel=$3
: "${NUMBA_CPU_NAME?}" "${NUMBA_CPU_FEATURES?}"

python3 -m venv --without-pip "$prefix"
in_prefix() { python3 -m pip --python "$prefix/bin/python3" "$@"; }
in_prefix install --quiet --only-binary :all: --constraint constraints.txt "$wheel[$extras]"
in_prefix check
install "$(dirname "$0")/start.sh" "$prefix/bin/entropyd-start"

NUMBA_CACHE_DIR=$prefix/kernels "$prefix/bin/python3" -c 'from entropyd_server.coding import self_test; self_test.warm_up()'
