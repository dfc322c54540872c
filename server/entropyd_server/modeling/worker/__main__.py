"""A worker process: serves one request at a time until the server closes its pipe.

Invariant: the pipe to the server carries frames only; what a library prints goes to stderr, which the server
logs.

`process.WorkerProcess` starts it as `python -m entropyd_server.modeling.worker`. Requests arrive on stdin;
responses go to what stdout was at the start.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO

from entropyd_server.machine import end_with_parent
from entropyd_server.modeling.devices import NO_GPU
from entropyd_server.modeling.protocol import read_frame, ready_frame, write_frame
from entropyd_server.modeling.worker.table_shape import BuildLimits


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m entropyd_server.modeling.worker", description=__doc__)
    parser.add_argument("--cuda-visible-devices", required=True, help="one GPU, or -1 for the CPU")
    parser.add_argument("--max-model-bytes", type=int, required=True)
    parser.add_argument("--max-build-memory-bytes", type=int, required=True)
    options = parser.parse_args(arguments)

    requests, responses = _take_pipes()
    _end_with_server(requests)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    os.environ["CUDA_VISIBLE_DEVICES"] = options.cuda_visible_devices
    # Fatal messages only: they tell why a process aborts. Importing TensorFlow 2.14 alone logs three errors.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow imports absl's tests, which look for a folder for temporary files, and there may be none.
    os.environ.setdefault("TEST_TMPDIR", "/tmp")  # noqa: S108 - nothing is written there
    # What TensorFlow and Keras import if it is there, and nothing here uses: a tenth of the time of a start.
    os.environ["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
    sys.modules["pandas"] = None  # type: ignore[assignment]  # raises ImportError, as if it were not there
    # Importing the 4,000 modules of TensorFlow takes a fifth longer where garbage is looked for. They stay,
    # so nothing needs to look through them later either.
    gc.disable()
    # After the environment is set, which TensorFlow reads when it is imported.
    from entropyd_server.modeling.worker.entropy_model import use_gpus, versions  # noqa: PLC0415
    from entropyd_server.modeling.worker.handlers import Handlers  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    if options.cuda_visible_devices != NO_GPU:
        use_gpus()
    worker = Handlers(BuildLimits(options.max_model_bytes, options.max_build_memory_bytes))
    try:
        write_frame(responses, ready_frame(versions()))
        while (request := read_frame(requests)) is not None:
            write_frame(responses, worker.handle(request))
    except BrokenPipeError:
        pass  # the server is gone


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Moves the pipes to other descriptors; stdin becomes empty, and stdout stderr."""
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, responses


def _end_with_server(requests: BinaryIO) -> None:
    """Ends this process with the server, and not by signals.

    A terminal or a service manager signals the whole process group; the server finishes what is in flight
    first, or reloads files. The end of stdin ends the loop in `main`, but not a TensorFlow call, so on Linux
    the kernel kills this process with its parent.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    hung_up = select.poll()
    hung_up.register(requests, 0)
    if hung_up.poll(0):
        sys.exit("the server ended before its worker had started")


if __name__ == "__main__":
    main()
