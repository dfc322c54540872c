"""Laws of what counts as an array: at every entry the same, no value changes, and no part is lost unsaid."""

from __future__ import annotations

import array as standard_array
import asyncio
import collections
import datetime
import decimal
import fractions
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pandas
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import (
    Client,
    InvalidConfigError,
    InvalidRequestError,
    InvalidTensorError,
    Model,
    ModelInfo,
    UniversalBatchedConfig,
    aio,
    bounded,
    priors,
)
from entropyd.contract.arrays import array_of, bit_strings_of
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.fitting import starting_prior

if TYPE_CHECKING:
    from collections.abc import Callable

X: Any = np.array([[0.25, 1.5], [-2.0, 3.0]], np.float32)
masked_array: Any = np.ma.masked_array  # NumPy gives it no types


class Frame:
    """Converts itself to an array, as data frames do, and has no dtype of its own."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.values if dtype is None else self.values.astype(dtype)


class Quantity(np.ndarray[Any, Any]):
    """An array with a unit, as libraries for physics make them."""


class Refuser:
    """Converts itself to no array, as tensors on a GPU do not."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise RuntimeError("call .cpu() first")


def nested(depth: int) -> Any:
    return 1.0 if depth == 0 else [nested(depth - 1)]


SELF_CONTAINING: list[Any] = []
SELF_CONTAINING.append(SELF_CONTAINING)

# What float32 is asked for, and what is said.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "masked array": (lambda: masked_array(X, X > 1), r"x is a masked array.* x\.filled\(VALUE\)"),
    "masked array without a mask": (lambda: masked_array(X), "masked array.* x.data"),
    "masked array in a list": (lambda: [X[0], masked_array(X[1])], r"x\[1\] is a masked array"),
    "masked element": (lambda: [1.0, np.ma.masked], r"x\[1\] is a masked array"),
    "frame of a masked array": (lambda: Frame(masked_array(X)), "x is a masked array"),
    "quantity": (lambda: X.view(Quantity), r"x is a Quantity.*np\.asarray\(x\)"),
    "float64": (lambda: X.astype(np.float64), r"x has dtype float64; expected float32: pass np\.asarray"),
    "integers": (lambda: X.astype(np.int64), "x has dtype int64; expected float32"),
    "truth values": (lambda: X > 0, "x has dtype bool"),
    "bfloat16": (lambda: X.astype(ml_dtypes.bfloat16), "x has dtype bfloat16"),
    "float64 in a list": (lambda: [X[0], X[1].astype(np.float64)], "x is a list of dtype float64"),
    "scalar of float64": (lambda: np.float64(1.0), "x is a float64 of dtype float64"),
    "frame of float64": (
        lambda: Frame(X.astype(np.float64)),
        "x is a Frame of dtype float64; expected float32",
    ),
    "frame of integers": (lambda: Frame(X.astype(np.int64)), "x is a Frame of dtype int64"),
    "data frame of float64": (
        lambda: pandas.DataFrame(X.astype(np.float64)),
        "x is a DataFrame of dtype float64",
    ),
    "labelled array of integers": (
        lambda: xarray.DataArray(X.astype(np.int32)),
        "x is a DataArray of dtype int32",
    ),
    "data frame of text": (lambda: pandas.DataFrame({"x": ["a"]}), "x is a DataFrame of dtype object"),
    "data set": (lambda: xarray.Dataset({"x": (("a", "b"), X)}), "x is a Dataset that gives no array"),
    "buffer of float64": (lambda: standard_array.array("d", [1.0]), "x is an array of dtype float64"),
    "complex array": (lambda: X.astype(np.complex64), "x has dtype complex64; expected float32$"),
    "complex number": (lambda: 1j, "x is a complex; expected an array, or a list of numbers"),
    "complex in a list": (lambda: [[1.0, 2.0], [1j, 1.0]], r"x\[1\]\[0\] is a complex; expected a number"),
    "strings": (lambda: [["0.25", "1.5"]], r"x\[0\]\[0\] is a str; expected a number"),
    "bytes in a list": (lambda: [b"1"], r"x\[0\] is a bytes"),
    "array of str": (lambda: np.array(["0.25"]), "x has dtype str"),
    "array of bytes": (lambda: np.array([b"0.25"]), "x has dtype bytes"),
    "array of objects": (lambda: np.array([0.25], np.object_), "x has dtype object"),
    "records": (lambda: np.zeros(2, "f4,f4"), "x has dtype void"),
    "dates": (lambda: np.zeros(2, "M8[D]"), "x has dtype datetime64"),
    "date in a list": (lambda: [datetime.date(2020, 1, 1)], r"x\[0\] is a date"),
    "str": (lambda: "1.0", "x is a str"),
    "bytes": (lambda: b"1.0", "x is a bytes"),
    "None": (lambda: None, "x is a NoneType"),
    "None in a list": (lambda: [1.0, None], r"x\[1\] is a NoneType"),
    "ragged": (lambda: [[0.25, 1.5], [-2.0]], "x is a ragged list"),
    "ragged in rank": (lambda: [1.0, [2.0]], "x is a ragged list"),
    "ragged arrays": (lambda: [X[0], X], "x is a ragged list"),
    "generator": (lambda: (row for row in X), "x is a generator"),
    "map": (lambda: map(float, [1.0]), "x is a map"),
    "range": (lambda: range(3), "x is a range"),
    "deque": (lambda: collections.deque([1.0]), "x is a deque"),
    "dict": (lambda: {"x": X}, "x is a dict"),
    "set": (lambda: {1.0}, "x is a set"),
    "decimal": (lambda: decimal.Decimal(1), "x is a Decimal"),
    "fraction": (lambda: [fractions.Fraction(1, 3)], r"x\[0\] is a Fraction"),
    "type": (lambda: np.float32, "x is a type"),
    "object": (object, "x is an object"),
    "huge integer": (lambda: [10**400], "x holds an integer beyond"),
    "too deep": (lambda: nested(40), "nests more than 32 lists"),
    "list in itself": (lambda: SELF_CONTAINING, "nests more than 32 lists"),
    "no conversion": (Refuser, "x is a Refuser that gives no array: call .cpu"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_cast_or_lose_a_part_is_refused_with_what_was_found(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(InvalidTensorError, match=message) as caught:
        array_of("x", make(), "float32")
    assert caught.value.violations[0].field.startswith("x")


TAKEN: dict[str, Any] = {
    "array": X,
    "array of the other byte order": X.astype(">f4"),
    "view": np.repeat(X, 2, axis=1)[:, ::2],
    "list": X.tolist(),
    "tuple": tuple(map(tuple, X.tolist())),
    "list of NumPy's numbers": [list(row) for row in X.astype(np.float64)],
    "list of arrays": list(X),
    "list of arrays and numbers": [list(X[0]), X[1].tolist()],
    "frame": Frame(X),
    "buffer": memoryview(X),
    "data frame": pandas.DataFrame(X),
    "labelled array": xarray.DataArray(X, dims=("time", "level")),
}


@pytest.mark.parametrize("value", TAKEN.values(), ids=TAKEN)
def test_arrays_of_the_dtype_and_lists_of_numbers_are_taken_as_they_are(value: Any) -> None:
    taken = array_of("x", value, "float32")
    assert type(taken) is np.ndarray
    assert taken.dtype.name == "float32"
    np.testing.assert_array_equal(taken, X)


def test_an_array_of_the_dtype_is_not_copied(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert array_of("x", X, "float32") is X
    assert np.shares_memory(array_of("x", mapped, "float32"), mapped)
    assert np.shares_memory(array_of("x", Frame(X), "float32"), X)


NUMBERS = st.integers() | st.floats(allow_nan=False, width=64) | st.booleans()


@given(
    dtype=st.sampled_from(BOTTLENECK_DTYPES),
    rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=4) | NUMBERS,
)
def test_numbers_become_what_numpy_makes_of_them_in_the_dtype(dtype: str, rows: Any) -> None:
    wanted = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    with np.errstate(all="ignore"):
        expected = np.asarray(np.asarray(rows, np.float64), wanted)
        taken = array_of("x", rows, dtype)
    assert taken.dtype == expected.dtype
    np.testing.assert_array_equal(taken, expected)


@given(hnp.arrays(hnp.floating_dtypes(endianness="="), hnp.array_shapes(min_dims=0)))
def test_an_array_is_taken_in_its_own_dtype_and_in_no_other(array: Any) -> None:
    others = [dtype for dtype in BOTTLENECK_DTYPES if dtype != array.dtype.name]
    with pytest.raises(InvalidTensorError, match=f"has dtype {array.dtype.name}; expected"):
        array_of("x", array, *others)
    if len(others) < len(BOTTLENECK_DTYPES):
        assert array_of("x", array, *BOTTLENECK_DTYPES) is array


def test_numbers_that_an_integers_dtype_does_not_hold_are_refused() -> None:
    assert array_of("x", [1, -2, 3.0], "int32").tolist() == [1, -2, 3]
    for numbers in ([1.5], [2**31], [float("nan")]):
        with pytest.raises(InvalidTensorError, match="x holds numbers that are no int32"):
            array_of("x", numbers, "int32")


CONFIG = UniversalBatchedConfig(prior=priors.NoisyNormal(loc=0.0, scale=[1.0, 2.0]), coding_rank=1)
INFO = ModelInfo(
    CONFIG.model_id, CONFIG, bytes(32), 30, 1000, {}, datetime.datetime.now(datetime.timezone.utc)
)
NOWHERE = "unix:/nowhere"


NOWHERE = "unix:/nowhere"


def model() -> Model:
    return Model(Client(NOWHERE)._session, INFO)


def aio_model() -> aio.Model:
    return aio.Model(aio.Client(NOWHERE)._session, INFO)


ENTRIES: dict[str, Callable[[Any], Any]] = {
    "compress": lambda x: model().compress(x),
    "call": lambda x: model()(x, training=False),
    "perturb": lambda x: model().perturb(x, gradient=True),
    "fit_model": lambda x: Client(NOWHERE).fit_model(CONFIG, x),
    "set_weights": lambda x: model().set_weights([x]),
    "bounded": lambda x: bounded.compress(Model(Client(NOWHERE)._session, INFO), x, 0.1),
    "starting_prior": starting_prior,
    "prior": lambda x: priors.NoisyNormal(loc=x, scale=1.0),
    "variables of a prior": lambda x: priors.NoisyDeepFactorized((2,), variables={"bias_0": x}),
    "tables of a config": lambda x: UniversalBatchedConfig(CONFIG.prior, 1, tables=(x, np.array([0]))),
    "aio compress": lambda x: asyncio.run(aio_model().compress(x)),
    "aio call": lambda x: asyncio.run(aio_model()(x, training=False)),
    "aio fit_model": lambda x: asyncio.run(aio.Client(NOWHERE).fit_model(CONFIG, x)),
    "aio set_weights": lambda x: asyncio.run(aio_model().set_weights([x])),
}
# Of the dtypes, some entries take several.
IN_NO_DTYPE = [name for name in REFUSED if not any(word in name for word in ("float", "integer", "truth"))]


@pytest.mark.parametrize("kind", IN_NO_DTYPE)
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_refuses_the_same_and_before_anything_is_sent(
    entry: Callable[[Any], Any], kind: str
) -> None:
    with pytest.raises((InvalidTensorError, InvalidConfigError)) as caught:
        entry(REFUSED[kind][0]())
    assert caught.value.violations


@pytest.mark.parametrize(
    "entry", ["compress", "call", "fit_model", "aio compress", "aio call", "aio fit_model"]
)
@pytest.mark.parametrize("kind", [name for name in REFUSED if name not in IN_NO_DTYPE])
def test_entries_of_one_dtype_refuse_arrays_of_another_however_they_are_wrapped(
    entry: str, kind: str
) -> None:
    with pytest.raises(InvalidTensorError):
        ENTRIES[entry](REFUSED[kind][0]())


@pytest.mark.parametrize("weights", [None, {"cdf": X}, "text", (w for w in [X]), 1.0])
def test_weights_are_a_list_of_arrays(weights: Any) -> None:
    with pytest.raises(InvalidTensorError, match=r"weights is a .* expected a list of arrays"):
        model().set_weights(weights)


def test_a_prior_is_the_same_whatever_array_its_parameters_came_in() -> None:
    expected = priors.NoisyNormal(loc=X[0], scale=1.0)
    loc: Any
    for loc in (Frame(X[0]), X[0].tolist(), tuple(X[0]), list(X[0]), memoryview(X[0])):
        assert priors.NoisyNormal(loc=loc, scale=1.0) == expected
    assert priors.NoisyNormal(loc=Frame(X[0].astype(np.float64)), scale=1.0).dtype == "float64"


STRINGS = st.lists(st.binary(max_size=4).map(lambda string: string + b"\x00"), min_size=4, max_size=4)


@given(STRINGS)
def test_bit_strings_keep_their_zeros_in_whatever_they_come(strings: list[bytes]) -> None:
    square: Any = np.array(strings, np.object_).reshape(2, 2)
    for value in (square, square.tolist(), tuple(map(tuple, square)), list(square), Frame(square)):
        assert bit_strings_of("strings", value) == ((2, 2), strings)
    assert bit_strings_of("strings", strings[0]) == ((), strings[:1])


BAD_STRINGS: dict[str, tuple[Callable[[], Any], str]] = {
    "dtype S": (lambda: np.array([b"a"]), "dtype S, which drops zeros.* list of bytes"),
    "dtype S in a list": (lambda: [np.array([b"a"])], "dtype S, which drops zeros"),
    "element of dtype S": (lambda: np.array([b"a"])[0], "dtype S, which drops zeros"),
    "elements of dtype S": (lambda: list(np.array([b"a"])), "dtype S, which drops zeros"),
    "masked": (lambda: masked_array(np.array([b"a"], np.object_)), "masked array"),
    "str": (lambda: "a", "holds a str; expected bytes"),
    "str in a list": (lambda: [b"a", "a"], "holds a str; expected bytes"),
    "array of str": (lambda: np.array(["a"]), "has dtype <U1; expected bytes"),
    "numbers": (lambda: X, "has dtype float32; expected bytes"),
    "bytearray": (lambda: bytearray(b"a"), "expected bytes"),
    "ragged": (lambda: [[b"a"], [b"b", b"c"]], "ragged"),
    "None": (lambda: None, "holds a NoneType"),
    "dict": (lambda: {0: b"a"}, "holds a dict"),
    "generator": (lambda: (string for string in [b"a"]), "holds a generator"),
    "list in itself": (lambda: SELF_CONTAINING, "nests more than 32 lists"),
}


@pytest.mark.parametrize(("make", "message"), BAD_STRINGS.values(), ids=BAD_STRINGS)
def test_bit_strings_are_bytes_and_nothing_that_may_have_lost_some(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"strings .*{message}"):
        model().decompress(make(), ())
    with pytest.raises(InvalidRequestError, match=f"strings .*{message}"):
        asyncio.run(aio_model().decompress(make(), ()))


@pytest.mark.parametrize("shape", [(2.0,), ("2",), 2, [None], "2"])
def test_a_broadcast_shape_is_a_list_of_integers(shape: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"broadcast_shape is .*; expected a list of integers"):
        model().decompress([b"a"], shape)


@pytest.mark.parametrize("axis", [2**63, -(2**63) - 1, 10**30])
def test_axes_that_no_message_can_hold_are_refused(axis: int) -> None:
    with pytest.raises(InvalidRequestError, match=r"broadcast_shape is .*; expected axes of at most"):
        model().decompress([b"a"], (axis,))
    with pytest.raises(InvalidRequestError, match=r"broadcast_shape is .*; expected axes of at most"):
        asyncio.run(aio_model().decompress([b"a"], (axis,)))


def test_what_holds_no_bit_strings_is_named_before_a_shape_that_is_missing() -> None:
    nothing: Any = object()
    with pytest.raises(InvalidRequestError, match="strings holds an object; expected bytes"):
        model().decompress(nothing)
