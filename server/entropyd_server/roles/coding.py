"""The coding role: Compress and Decompress, without TensorFlow."""

from __future__ import annotations

import asyncio
from typing import Any

from entropyd.v1 import coding_pb2
from entropyd_server.batching.batcher import Batcher
from entropyd_server.batching.queue import Operation
from entropyd_server.coding import self_test
from entropyd_server.coding.compilation import compile_kernels
from entropyd_server.coding.operations import COMPRESS, DECOMPRESS
from entropyd_server.machine import keep_freed_memory
from entropyd_server.observe.batch_metrics import BatchMetrics
from entropyd_server.roles.base import Role, Shared
from entropyd_server.rpc.coding_service import CodingService

# Calls of at most this many symbols (some 200 us of work) run on the thread that reads them: handing one to
# another thread costs about as much. For decoding it is fewer, because units decoded together decode faster.
_INLINE_SYMBOLS: dict[Operation, int] = {COMPRESS: 65536, DECOMPRESS: 16384}


class CodingRole(Role):
    """A batcher that runs kernels on threads, behind CodingService."""

    service = coding_pb2.DESCRIPTOR.services_by_name["CodingService"]

    def __init__(self, shared: Shared) -> None:
        self._batcher = batcher = _batcher(shared)
        self.servicer = CodingService(shared.models, batcher, shared.limits, shared.metrics, shared.call_log)
        # The batcher refuses the messages of streams one by one.
        self.admit = {
            f"/{self.service.full_name}/{method}": batcher.admit for method in ("Compress", "Decompress")
        }

    @property
    def stalled_s(self) -> float:
        return self._batcher.stalled_s

    async def start(self) -> None:
        await asyncio.to_thread(compile_kernels)
        await asyncio.to_thread(self_test.warm_up)
        keep_freed_memory()

    async def close(self) -> None:
        await self._batcher.close()


def _batcher(shared: Shared) -> Batcher[Any, Any]:
    settings, metrics = shared.settings, shared.metrics
    batcher: Batcher[Any, Any] = Batcher(
        max_queue_symbols=settings.max_queue_symbols,
        max_batch_symbols=settings.max_batch_symbols,
        max_batch_delay_s=settings.max_batch_delay_ms / 1000,
        inline_symbols=_INLINE_SYMBOLS,
        threads=settings.codec_threads,
        observer=shared.observer(BatchMetrics(metrics)),
        vital=shared.vital,
        resume=shared.resume,
    )
    metrics.queue_symbols = lambda: batcher.queue_symbols
    metrics.batching_stalled_seconds = lambda: batcher.stalled_s
    return batcher
