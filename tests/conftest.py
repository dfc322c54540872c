"""Settings of the property tests and of gRPC, which hold for all tests."""

from __future__ import annotations

import importlib
import os
import signal
from unittest import mock

from hypothesis import settings

from entropyd_server.transport.polling import read_where_asked

# The first example of a test may have to compile a kernel, and machines are shared.
settings.register_profile("entropyd", deadline=None)
settings.register_profile("brief", deadline=None, max_examples=5)
settings.load_profile("entropyd")

# A shell has what it starts in the background ignore SIGINT, which programs under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As in a server's process; processes that tests start set it themselves.
with mock.patch.dict(os.environ):
    read_where_asked()
    importlib.import_module("grpc")

pytest_plugins = ["tests.support.fixtures", "tests.support.transports"]
