"""Which Python runs the servers of tests: this one or, where it cannot, the one that a variable names."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

# Set by tests/matrix/run.py and `make test-torch`: a Python that has the modeling role, for those that lack
# TensorFlow.
NAMED = "ENTROPYD_TEST_SERVER_PYTHON"

_other = os.environ.get(NAMED, sys.executable)
SERVER = (_other, "-m", "entropyd_server")
CODING_SERVER = (sys.executable if find_spec("numba") else _other, "-m", "entropyd_server")
