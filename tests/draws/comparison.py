"""Compares one model with TFC: tables, strings, arrays, bit costs and gradients."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from entropyd import tfc as drop_in
from entropyd.contract.dtypes import numpy_dtype
from tests.draws.bit_costs import BitCosts
from tests.draws.tfc_objects import tfc_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    import entropyd
    from tests.draws.cases import Case

_TOLERANCE = 1e-5


class Comparison:
    """One model, TFC's object of the same configuration, and what both are given.

    TFC cannot code the halves of universal kinds: their values are float32 there, and rounded afterwards.

    Args:
      client: A client that sends symbols.
      model: The model.
      floats: The same model, of a client that sends floats.
      given: What both are given.
    """

    def __init__(
        self, client: entropyd.Client, model: entropyd.Model, floats: entropyd.Model, given: Case
    ) -> None:
        self._client, self._model, self._floats, self._case = client, model, floats, given
        self._config: Any = given.config
        self._dtype = numpy_dtype(self._config.bottleneck_dtype)
        self._widened = self._config.kind.startswith("universal") and self._dtype.itemsize == 2
        self._tfc_dtype = "float32" if self._widened else self._config.bottleneck_dtype
        self._plain = tfc_object(self._config, self._tfc_dtype, functions=given.has_callables)
        self._called = given.repeated()
        self._costs = BitCosts(self._plain, self._called)
        x = given.bottleneck
        self._batch_shape = x.shape[: x.ndim - len(given.unit_shape)]

    def results(self) -> Iterator[tuple[str, bool]]:
        """What was compared, and whether it is equal."""
        if self._config.has_tables:
            tables = [self._plain.cdf, self._plain.cdf_offset]
            yield "tables", all(map(np.array_equal, [self._model.cdf, self._model.cdf_offset], tables))
        yield from self._on_both_wires()
        if not prod(self._batch_shape):  # on which TFC dies
            compressed = self._model.compress(*self._inputs())
            yield "empty strings", compressed.strings.shape == self._batch_shape
            restored = self._model.decompress(compressed, **self._beside_strings(self._inputs()[1:]))
            yield "empty array", restored.shape == self._case.bottleneck.shape
            return
        yield from self._coded()
        yield from self._dropped_in()
        yield from self._bits()
        yield from self._differentiated()

    # Strings and arrays

    def _on_both_wires(self) -> Iterator[tuple[str, bool]]:
        inputs = self._inputs()
        one, other = (model.compress(*inputs) for model in (self._model, self._floats))
        equal = one.to_message() == other.to_message() and one.rate == other.rate
        yield "compressed tensors of both wires", equal
        beside = self._beside_strings(inputs[1:])
        restored = [model.decompress(one, **beside) for model in (self._model, self._floats)]
        yield "arrays of both wires", _same(*restored)

    def _coded(self) -> Iterator[tuple[str, bool]]:
        inputs = self._inputs()
        compressed = self._model.compress(*inputs)
        theirs = _compressed(self._plain, self._tfc_inputs(int32=True))
        yield "strings", compressed.strings.tolist() == theirs
        beside = [self._case.between] if self._case.indexes is None else self._tfc_inputs(int32=True)[1:]
        restored = self._plain.decompress(theirs, *beside).numpy().astype(self._dtype)
        ours = self._model.decompress(theirs, *(beside if self._case.indexes is None else inputs[1:]))
        yield "restored arrays", _same(ours, restored)
        again = self._model.decompress(compressed, **self._beside_strings(inputs[1:]))
        yield "arrays of a compressed tensor", _same(again, restored)

    def _dropped_in(self) -> Iterator[tuple[str, bool]]:
        local, functions = self._plain, self._case.has_callables
        remote = tfc_object(self._config, self._tfc_dtype, functions=functions, client=self._client)
        theirs = _compressed(local, self._tfc_inputs())
        yield "strings of the drop-in", _compressed(remote, self._tfc_inputs()) == theirs
        beside = [self._case.between] if self._case.indexes is None else self._tfc_inputs()[1:]
        pair = [em.decompress(theirs, *beside).numpy() for em in (remote, local)]
        yield "arrays of the drop-in", _same(*pair)
        registered = drop_in.register(self._client, local)
        inputs = self._inputs(dtype=numpy_dtype(self._tfc_dtype))
        theirs = _compressed(local, self._tfc_inputs(int32=True))
        yield "strings of the registered model", registered.compress(*inputs).strings.tolist() == theirs

    def _inputs(self, dtype: Any = None) -> list[Any]:
        """Arguments of `compress`."""
        given = self._case
        x = given.bottleneck if dtype is None or given.loc is not None else given.bottleneck.astype(dtype)
        return [value for value in (x, given.indexes, given.loc) if value is not None]

    def _tfc_inputs(self, *, int32: bool = False) -> list[Any]:
        """Arguments of TFC's `compress`, which may write to them.

        Args:
          int32: Whether indexes of a UniversalIndexed model are int32, as whose the service dithers.
        """
        given = self._case
        x = given.bottleneck.astype(self._tfc_dtype) if self._widened else given.bottleneck.copy()
        indexes = given.indexes
        if indexes is not None:
            narrow = int32 and self._config.kind == "universal_indexed"
            indexes = tf.constant(indexes.astype(np.int32) if narrow else indexes)
        return [value for value in (x, indexes, given.loc) if value is not None]

    def _beside_strings(self, inputs: list[Any]) -> dict[str, Any]:
        return dict(zip(("indexes", "loc"), inputs, strict=False))

    # Calls

    def _bits(self) -> Iterator[tuple[str, bool]]:
        inputs = [self._called.bottleneck, *self._costs.indexes(), *self._called.locations]
        perturbed, bits = self._model(*inputs, training=False)
        own, expected = self._called_by_tfc(inputs, self._plain)
        yield "perturbed arrays", np.array_equal(perturbed, own.astype(self._dtype))
        # A graph rounds the last bit elsewhere, which shows where a density is a small difference.
        yield (
            "bits",
            _close(bits, expected, _TOLERANCE)
            or _close(bits, self._called_by_tfc(inputs, tf.function(self._plain))[1], _TOLERANCE),
        )
        costs = BitCosts(self._plain, self._case)
        alone = self._model(self._case.bottleneck, *costs.indexes(), *self._case.locations, training=False)
        for name, few, many in zip(("perturbed arrays", "bits"), alone, (perturbed, bits), strict=True):
            yield f"{name} of fewer units", _same(few, many.reshape(-1)[: few.size].reshape(few.shape))

    def _called_by_tfc(self, inputs: list[Any], call: Any) -> tuple[Any, Any]:
        x, *others = inputs
        x = x.astype(self._tfc_dtype) if self._widened else x
        if self._config.kind == "power_law":
            return tuple(value.numpy() for value in call(x))
        if self._case.indexes is None:
            return tuple(value.numpy() for value in call(x, training=False))
        indexes, *loc = others
        if self._case.has_callables:
            called = call(x, self._shaped(indexes), *loc, training=False)
            return tuple(value.numpy() for value in called)
        strings = _compressed(self._plain, [x.copy(), self._shaped(indexes), *loc])
        restored = self._plain.decompress(strings, self._shaped(indexes), *loc)
        symbols = self._plain.decompress(strings, self._shaped(indexes)) if loc else restored
        return restored.numpy(), self._costs.bits(self._costs.log_prob_of_rows(indexes)(symbols)).numpy()

    def _shaped(self, indexes: Any) -> Any:
        if self._config.kind == "universal_indexed":  # the dtype says how TFC dithers
            indexes = indexes.astype(np.int32 if indexes.dtype.kind in "iu" else np.float64)
        return tf.constant(indexes)

    # Gradients

    def _differentiated(self) -> Iterator[tuple[str, bool]]:
        given = self._called
        x, indexes = given.bottleneck.astype(self._dtype), self._costs.indexes()
        found = self._model.perturb(x, *indexes, gradient=True)
        if not self._widened:  # else the noise is rounded with the array
            arguments = [tf.constant(value) for value in (x, found.perturbed, *indexes)]
            ours = [value for value in (found.gradient, found.index_gradient) if value is not None]
            # A graph rounds the last bit elsewhere, which shows where a density is a small difference.
            yield (
                "gradients",
                any(
                    _all_close(ours, gradients(*arguments))
                    for gradients in (self._costs.gradients, tf.function(self._costs.gradients))
                ),
            )
        if given.loc is not None:
            inputs = {"indexes": indexes[0], "loc": given.loc}
            located = self._model.perturb(given.bottleneck, **inputs, gradient=True)
            assert located.gradient is not None
            whole = np.broadcast_to(located.gradient, x.shape).astype(np.float64)
            expected = -_summed(whole, given.loc.shape)
            yield "gradients by loc", _close(located.loc_gradient, expected, 1e-2)


def _compressed(em: Any, inputs: list[Any]) -> Any:
    strings = em.compress(*inputs).numpy()
    return strings if isinstance(strings, bytes) else strings.tolist()


def _same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def _summed(whole: Any, shape: tuple[int, ...]) -> Any:
    axes = [axis for axis, length in enumerate(shape) if length != whole.shape[axis]]
    return whole.sum(axis=tuple(axes)).reshape(shape)


def _all_close(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether gradients by the same inputs are equal."""
    with np.errstate(over="ignore"):  # ours have the dtype of the array, which may be float16
        return len(ours) == len(theirs) and all(
            _close(one, other.numpy().astype(one.dtype), _TOLERANCE)
            for one, other in zip(ours, theirs, strict=True)
        )


def _close(one: Any, other: Any, tolerance: float) -> bool:
    """Whether arrays are equal, relative to each element or the largest one; halves to an ulp."""
    if one is None or one.shape != other.shape:
        return False
    dtype = one.dtype
    if dtype.itemsize == 2:
        tolerance = max(tolerance, 2.0**-6 if dtype.name == "bfloat16" else 2.0**-9)
    one, other = one.astype(np.float64), other.astype(np.float64)
    finite = np.abs(other[np.isfinite(other)])
    least = tolerance * (finite.max() if finite.size else 0)
    return bool(np.allclose(one, other, rtol=tolerance, atol=least, equal_nan=True))
