"""What a worker holds after its work."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from entropyd import ContinuousBatchedConfig, priors
from entropyd_server.modeling.fit_frames import FIT_END, FitTask, advance_frame
from entropyd_server.modeling.protocol import Frame
from entropyd_server.modeling.worker.table_shape import BuildLimits

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")


def test_a_fit_that_ended_leaves_no_graph() -> None:
    from tensorflow.python.framework.func_graph import FuncGraph  # noqa: PLC0415

    from entropyd_server.modeling.worker.handlers import Handlers  # noqa: PLC0415 - imports TensorFlow

    def graphs() -> int:
        return sum(type(held) is FuncGraph for held in gc.get_objects())

    handlers = Handlers(BuildLimits(2**24, 2**31))
    config = ContinuousBatchedConfig(priors.NoisyNormal([0.0, 0.0], [1.0, 1.0]), coding_rank=1)
    samples = np.random.default_rng(0).normal(0, 2, (50, 2)).astype(np.float32)
    gc.collect()
    before = graphs()
    assert handlers.handle(FitTask(config, samples, 2, 0.1).to_frame("fit")).kind == "fit_state"
    assert handlers.handle(advance_frame("fit", 1.0)).kind == "fit_state"
    assert graphs() > before
    handlers.handle(Frame(FIT_END, {"fit_id": "fit"}))
    assert graphs() == before
