"""A stored model, as the asynchronous client gives it.

Owns the public class `entropyd.aio.Model`, the twin of `entropyd.Model`. It must not know how a call is made:
its client does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from entropyd import _calls, _modeling_calls
from entropyd._attributes import ModelAttributes
from entropyd.contract.errors import CorruptStringError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from entropyd._calls import ModelInfo
    from entropyd._modeling_calls import Perturbed
    from entropyd.aio._client import Client
    from entropyd.archive import CompressedTensor, MeasuredTensor


class Model(ModelAttributes):
    """`entropyd.Model` with awaitables; `tables` stands for its `cdf` and `cdf_offset`."""

    _client: Client

    def __init__(self, client: Client, info: ModelInfo) -> None:
        super().__init__(info)
        self._client = client

    async def compress(
        self,
        bottleneck: Any,
        *,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MeasuredTensor:
        """See entropyd.Model.compress."""
        return await self._client.compress(self.info, bottleneck, timeout_s, progress)

    @overload
    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        broadcast_shape: Sequence[int] | None = None,
        *,
        on_error: Literal["raise"] = "raise",
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]: ...

    @overload
    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        broadcast_shape: Sequence[int] | None = None,
        *,
        on_error: Literal["skip"],
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]: ...

    async def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        broadcast_shape: Sequence[int] | None = None,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """See entropyd.Model.decompress."""
        try:
            array = await self._client.decompress(self.info, strings, broadcast_shape, timeout_s, progress)
        except CorruptStringError as error:
            if on_error == "raise" or error.partial is None:
                raise
            return error.partial, _calls.damaged_mask(self.info, error.partial, error.units)
        return array if on_error == "raise" else (array, _calls.damaged_mask(self.info, array))

    async def __call__(
        self, bottleneck: Any, training: bool = True, *, timeout_s: float | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """See entropyd.Model.__call__."""
        perturbed = await self.perturb(bottleneck, training=training, timeout_s=timeout_s)
        return perturbed[:2]

    async def perturb(
        self,
        bottleneck: Any,
        *,
        training: bool = True,
        gradient: bool = False,
        timeout_s: float | None = None,
    ) -> Perturbed:
        """See entropyd.Model.perturb."""
        return await self._client.perturb(
            self.info, bottleneck, training=training, gradient=gradient, timeout_s=timeout_s
        )

    async def get_weights(self) -> list[npt.NDArray[Any]]:
        """See entropyd.Model.get_weights."""
        return await self._client.weights(self.info)

    async def set_weights(self, weights: Sequence[Any]) -> Model:
        """See entropyd.Model.set_weights."""
        return await self._client.set_weights(self.info, weights)

    async def export(self) -> bytes:
        """See entropyd.Model.export."""
        return await self._client.export_model(self.info)

    async def tables(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The quantized CDFs and their offsets: entropyd.Model.cdf and cdf_offset."""
        return (await self._client.tables(self.id))[:2]

    async def quantization_offset(self) -> npt.NDArray[Any] | None:
        """See entropyd.Model.quantization_offset."""
        return _modeling_calls.quantization_offset(self.info, await self._client.tables(self.id))
