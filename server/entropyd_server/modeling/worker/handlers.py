"""Handles the requests of a worker; holds its live models and fits.

Invariant: live models are bounded in bytes. One that was dropped is asked for again, and rebuilt from its
configuration.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import tensorflow as tf

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import (
    EntropydError,
    InternalError,
    LimitExceededError,
    OverloadedError,
    UnavailableError,
)
from entropyd_server.coding.cache import BytesLRU
from entropyd_server.modeling.build_frames import BUILD_TABLES, config_of
from entropyd_server.modeling.fit_frames import FIT_ADVANCE, FIT_END, FIT_START, FitTask
from entropyd_server.modeling.perturbation import PERTURB, UNKNOWN_MODEL, perturb_of
from entropyd_server.modeling.protocol import Frame, FrameError, error_frame
from entropyd_server.modeling.unavailable import WORKER_LOST
from entropyd_server.modeling.worker.entropy_model import build_tables
from entropyd_server.modeling.worker.fit import Fit
from entropyd_server.modeling.worker.live_model import LiveModel
from entropyd_server.modeling.worker.table_shape import BuildLimits

log = logging.getLogger(__name__)

_MAX_LIVE_BYTES = 2**30
# Each holds its samples in memory, and takes turns with the others.
_MAX_FITS = 8


class Handlers:
    def __init__(self, limits: BuildLimits) -> None:
        self._limits = limits
        self._live: BytesLRU[str, LiveModel] = BytesLRU(_MAX_LIVE_BYTES)
        self._fits: dict[str, tuple[Fit, ModelConfig]] = {}
        self._kinds: dict[str, Callable[[Frame], Frame]] = {
            BUILD_TABLES: self._build_tables,
            PERTURB: self._perturb,
            FIT_START: self._fit_start,
            FIT_ADVANCE: self._fit_advance,
            FIT_END: self._fit_end,
        }

    def handle(self, request: Frame) -> Frame:
        """The response; an error becomes an `error` frame."""
        try:
            if request.kind not in self._kinds:
                raise FrameError(f"a worker has no handler for a {request.kind!r} frame")
            return self._kinds[request.kind](request)
        except EntropydError as error:
            return error_frame(error)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            message = "the modeling device ran out of memory; send fewer coding units or samples in a call"
            return error_frame(LimitExceededError(message, metadata={"limit": "device_memory"}))
        except Exception:
            log.exception("a request failed")
            return error_frame(InternalError("the modeling worker failed on this request"))

    def _build_tables(self, request: Frame) -> Frame:
        return build_tables(config_of(request), self._limits).to_frame()

    def _perturb(self, request: Frame) -> Frame:
        key, units, config = perturb_of(request)
        live = self._live.get(key.model_id)
        if live is None:
            if config is None:
                return Frame(UNKNOWN_MODEL)
            live = LiveModel(config)
        perturbed = live.perturb(key, units)
        self._live[key.model_id] = live  # which may have grown
        return perturbed.to_frame()

    def _fit_start(self, request: Frame) -> Frame:
        if len(self._fits) >= _MAX_FITS:
            message = f"{_MAX_FITS} fits are running on this device already"
            raise OverloadedError(message, retry_after_s=10.0)
        task = FitTask.from_frame(request)
        fit = Fit(task.config, task.samples, task.max_steps, task.validation_share)
        self._fits[request.metadata["fit_id"]] = (fit, task.config)
        return fit.advance(0).to_frame(task.config)

    def _fit_advance(self, request: Frame) -> Frame:
        if request.metadata["fit_id"] not in self._fits:
            # Its worker, before this one, was lost between two turns.
            raise UnavailableError("the modeling worker was lost, and the fit with it", reason=WORKER_LOST)
        fit, config = self._fits[request.metadata["fit_id"]]
        return fit.advance(float(request.metadata["seconds"])).to_frame(config)

    def _fit_end(self, request: Frame) -> Frame:
        self._fits.pop(request.metadata["fit_id"], None)
        # TensorFlow's graphs are circles, of 10 MiB for a fit; by itself Python looks for such too rarely.
        gc.collect()
        return Frame(FIT_END)
