"""A stored model with awaitable calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from entropyd import _messages
from entropyd._compression import Compression
from entropyd._decompression import Decompression
from entropyd._messages import Perturbed
from entropyd._model_base import ModelBase
from entropyd._symbols import Symbols
from entropyd.aio._session import Session
from entropyd.archive import CompressedTensor, MeasuredTensor


class Model(ModelBase):
    """`entropyd.Model` with awaitables; `tables` takes the place of its `cdf` and `cdf_offset`."""

    _session: Session

    async def compress(
        self,
        bottleneck: Any,
        indexes: Any = None,
        loc: Any = None,
        *,
        first_unit: int = 0,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MeasuredTensor:
        """See entropyd.Model.compress."""
        work = partial(Compression, self.info, bottleneck, indexes, loc, first_unit)
        return await self._session.run(work, self._symbols, timeout_s, progress)

    async def _symbols(self, timeout_s: float | None) -> Symbols | None:
        if not self._asked:
            self._asked = [await self._session.symbols(self.info, timeout_s)]
        return self._asked[0]

    @overload
    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        *inputs: Any,
        broadcast_shape: Sequence[int] | None = None,
        indexes: Any = None,
        loc: Any = None,
        first_unit: int = 0,
        on_error: Literal["raise"] = "raise",
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]: ...

    @overload
    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        *inputs: Any,
        broadcast_shape: Sequence[int] | None = None,
        indexes: Any = None,
        loc: Any = None,
        first_unit: int = 0,
        on_error: Literal["skip"],
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]: ...

    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        *inputs: Any,
        broadcast_shape: Sequence[int] | None = None,
        indexes: Any = None,
        loc: Any = None,
        first_unit: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """See entropyd.Model.decompress."""
        given = {"broadcast_shape": broadcast_shape, "indexes": indexes, "loc": loc}
        given = self._decompress_inputs(inputs, given)
        given |= {"on_error": on_error, "first_unit": first_unit}
        work = partial(Decompression, self.info, strings, **given)
        restored: npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] = await self._session.run(
            work, self._symbols, timeout_s, progress
        )
        return restored

    async def __call__(
        self,
        bottleneck: Any,
        *inputs: Any,
        indexes: Any = None,
        loc: Any = None,
        training: bool = True,
        timeout_s: float | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """See entropyd.Model.__call__."""
        given = self._call_inputs(inputs, {"indexes": indexes, "loc": loc, "training": training})
        perturbed = await self.perturb(bottleneck, timeout_s=timeout_s, **given)
        return perturbed[:2]

    async def perturb(
        self,
        bottleneck: Any,
        indexes: Any = None,
        loc: Any = None,
        *,
        training: bool = True,
        gradient: bool = False,
        timeout_s: float | None = None,
    ) -> Perturbed:
        """See entropyd.Model.perturb."""
        call = _messages.perturb(self.info, bottleneck, indexes, loc, training=training, gradient=gradient)
        return await self._session.call(call, timeout_s)

    async def get_weights(self) -> list[npt.NDArray[Any]]:
        """See entropyd.Model.get_weights."""
        return await self._session.call(_messages.get_weights(self.info))

    async def set_weights(self, weights: Sequence[Any]) -> Model:
        """See entropyd.Model.set_weights."""
        info = await self._session.call(_messages.set_weights(self.info, weights))
        return Model(self._session, info)

    async def export(self) -> bytes:
        """See entropyd.Model.export."""
        return await self._session.call(_messages.export_model(self.info))

    async def tables(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The quantized CDFs and their offsets: entropyd.Model.cdf and cdf_offset."""
        return (await self._session.call(_messages.get_tables(self.info)))[:2]

    async def quantization_offset(self) -> npt.NDArray[Any] | None:
        """See entropyd.Model.quantization_offset."""
        return self._offset_of(await self._session.call(_messages.get_tables(self.info)))
