"""A stored model with blocking calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from entropyd import _messages
from entropyd._compression import Compression
from entropyd._decompression import Decompression
from entropyd._messages import Perturbed
from entropyd._model_base import ModelBase
from entropyd._session import Session
from entropyd._symbols import Symbols
from entropyd.archive import CompressedTensor, MeasuredTensor
from entropyd.contract.tables import RawTables


class Model(ModelBase):
    """A stored entropy model, with the attributes and methods of TFC's class of its kind.

    Made by `Client.create_model` and `Client.model`. It never changes.
    """

    _session: Session

    def compress(
        self,
        bottleneck: Any,
        indexes: Any = None,
        loc: Any = None,
        *,
        first_unit: int = 0,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MeasuredTensor:
        """Compresses an array; each coding unit becomes one bit string.

        An array larger than one message is cut on coding units and sent in chunks, several at a time.

        Args:
          bottleneck: Batch axes, then coding_rank axes that end in prior_shape (an axis of length 1 there is
            repeated); an array of bottleneck_dtype, also another library's, or nested lists of numbers. For a
            model with indexes, any array that can be broadcast to their elements.
          indexes: For a model with indexes, and for no other: the index of each element, integers or floats,
            shaped as TFC's class takes them. They are clipped to their range, and cast towards zero.
          loc: For a LocationScaleIndexed model: the location, which is subtracted before coding; a number, or
            an array that can be broadcast with the bottleneck, which may then be of any float dtype.
          first_unit: Number of the first coding unit, where the array is a part of a larger one: for errors,
            and for the dither of a UniversalIndexed model.
          timeout_s: Longest time for the call, in seconds.
          progress: Called with the coding units that are done, and the number of all.

        Returns:
          The bit strings, in `.strings`, what is needed to decode them, and what was spent, in `.rate`.

        Raises:
          InvalidTensorError: For NaN, infinities, values too far outside their row, wrong rank, shape or
            dtype, missing or superfluous indexes or loc; names the element.
          ModelStateError: If the model was made without compression.
          LimitExceededError: If the array exceeds a limit of the server.
        """
        work = partial(Compression, self.info, bottleneck, indexes, loc, first_unit)
        return self._session.run(work, self._symbols, timeout_s, progress)

    def _symbols(self, timeout_s: float | None) -> Symbols | None:
        if not self._asked:
            self._asked = [self._session.symbols(self.info, timeout_s)]
        return self._asked[0]

    @overload
    def decompress(
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
    def decompress(
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

    def decompress(
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
        """Restores an array from its bit strings.

        Args:
          strings: A CompressedTensor; or, as in TFC, `bytes`, or nested lists or an array of dtype object
            of them, shaped like the batch. NumPy's arrays of dtype S lose zeros at the end of a string.
          inputs: The next arguments by their place in TFC's class: `broadcast_shape`; or `indexes` for a
            model with indexes, then `loc` for a LocationScaleIndexed model.
          broadcast_shape: With bare strings of a model without indexes, the axes between the batch and
            prior_shape; of a PowerLaw model, those of a coding unit.
          indexes: As for `compress`.
          loc: As for `compress`; it is rounded to bottleneck_dtype, and added.
          first_unit: As for `compress`; a CompressedTensor has the numbers that the dither needs.
          on_error: `skip` restores what can be decoded.
          timeout_s: Longest time for the call, in seconds.
          progress: Called with the coding units that are done, and the number of all.

        Returns:
          Array of bottleneck_dtype and shape batch + broadcast_shape + prior_shape, or of the elements that
          the indexes belong to; read-only. With `on_error="skip"`, that array with NaN in the coding units
          that cannot be decoded, and a boolean array shaped like the batch that is True for those units.

        Raises:
          IndexesMismatchError: If units of a CompressedTensor were coded with other indexes; `.units` names
            them, `.partial` has what could be decoded.
          CorruptStringError: If units cannot be decoded, and none were coded with other indexes; likewise.
          TablesMismatchError: If the strings were made with other tables than the server has.
          InvalidTensorError: If indexes or loc are missing, superfluous, or do not fit to the strings.
          InvalidRequestError: If the arguments do not fit together or to the model.
          LimitExceededError: If the array would exceed a limit of the server.
        """
        given = {"broadcast_shape": broadcast_shape, "indexes": indexes, "loc": loc}
        given = self._decompress_inputs(inputs, given)
        given |= {"on_error": on_error, "first_unit": first_unit}
        work = partial(Decompression, self.info, strings, **given)
        restored: npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] = self._session.run(
            work, self._symbols, timeout_s, progress
        )
        return restored

    def __call__(
        self,
        bottleneck: Any,
        *inputs: Any,
        indexes: Any = None,
        loc: Any = None,
        training: bool = True,
        timeout_s: float | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Perturbs an array with uniform noise and estimates what it would cost.

        Args:
          bottleneck: As for `compress`.
          inputs: The next arguments by their place in TFC's class: `indexes` for a model with indexes, `loc`
            for a LocationScaleIndexed model, then `training`.
          indexes: As for `compress`, but neither cast to integers nor flattened.
          loc: As for `compress`.
          training: True for continuous noise and differential entropy; False for the noise of compression,
            where the perturbed array is what `decompress` would restore. A PowerLaw model rounds in either
            case, and its bits are the class's penalty.
          timeout_s: Longest time for the call, in seconds.

        Returns:
          The perturbed array, and the bits of each coding unit, shaped like the batch.

        Raises:
          InvalidTensorError: For NaN, infinities, wrong rank, shape or dtype, missing or superfluous indexes
            or loc; names the element.
          LimitExceededError: If the array exceeds a limit of the server.
        """
        given = self._call_inputs(inputs, {"indexes": indexes, "loc": loc, "training": training})
        return self.perturb(bottleneck, timeout_s=timeout_s, **given)[:2]

    def perturb(
        self,
        bottleneck: Any,
        indexes: Any = None,
        loc: Any = None,
        *,
        training: bool = True,
        gradient: bool = False,
        timeout_s: float | None = None,
    ) -> Perturbed:
        """Does what calling the model does, and on request returns the gradients of the summed bits.

        They are those for the noise that was drawn, or their expectation over the noise where the model was
        made with `expected_grads`; without `training` they go straight through the rounding, as in TFC's
        classes, and that by the bottleneck of a universal model is 0. There is one by the indexes if they are
        floats and the prior has a function of the index, and one by loc if it is given.

        Raises:
          InvalidTensorError, LimitExceededError: As calling the model.
        """
        call = _messages.perturb(self.info, bottleneck, indexes, loc, training=training, gradient=gradient)
        return self._session.call(call, timeout_s)

    def get_weights(self) -> list[npt.NDArray[Any]]:
        """The variables in TFC's order: cdf, cdf_offset, then the prior's own, if it has any.

        The tables of a stateless model are no variables, and are left out.
        """
        return self._session.call(_messages.get_weights(self.info))

    def set_weights(self, weights: Sequence[Any]) -> Model:
        """Makes the model that has other variables; this one stays as it is.

        Args:
          weights: One array per variable, as `get_weights` returns them. The tables may have another length.

        Raises:
          InvalidTensorError: If their number, or the shape or dtype of one, is wrong; names it.
        """
        return Model(self._session, self._session.call(_messages.set_weights(self.info, weights)))

    def export(self) -> bytes:
        """The model as one file for another store: configuration, tables and digests.

        `Client.import_model` stores it there, under the same id.
        """
        return self._session.call(_messages.export_model(self.info))

    @property
    def cdf(self) -> npt.NDArray[np.int32]:
        """The quantized CDFs: rows of `-precision, 0, ..., 2^precision`, one after the other.

        Raises:
          ModelStateError: If the model was made without compression.
        """
        return self._tables[0]

    @property
    def cdf_offset(self) -> npt.NDArray[np.int32]:
        """The smallest integer that each row covers.

        Raises:
          ModelStateError: If the model was made without compression.
        """
        return self._tables[1]

    @property
    def quantization_offset(self) -> npt.NDArray[Any] | None:
        """What is subtracted before a symbol is rounded, in bottleneck_dtype; None without any.

        The dither of universal models is not meant: it belongs to a symbol's place, not to the model.

        Raises:
          ModelStateError: If the model was made without compression.
        """
        return self._offset_of(self._tables)

    @cached_property
    def _tables(self) -> RawTables:
        return self._session.call(_messages.get_tables(self.info))
