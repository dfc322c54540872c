"""Models with indexes through both clients and archives: arrays come back, and other indexes are noticed."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_compression as tfc

import entropyd
import entropyd.aio
from entropyd import IndexesMismatchError, InvalidRequestError, InvalidTensorError, bounded, priors
from entropyd.archive import Archive, ArchiveWriter, EmbeddedModel
from tests.support.indexed_models import INDEXED_KINDS, indexed_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from entropyd_server.local import LocalServer

    Array = npt.NDArray[Any]

FLIPS = 1000


class Case(NamedTuple):
    """A model, and arrays for it: 9 units of [4, 6] elements."""

    model: entropyd.Model
    x: Array
    indexes: Array
    loc: Array | None

    @property
    def beside(self) -> tuple[Array, ...]:
        return (self.indexes,) if self.loc is None else (self.indexes, self.loc)

    def part(self, key: Any) -> tuple[Array, ...]:
        return tuple(array[key] for array in self.beside)


@pytest.fixture(scope="module", params=[*INDEXED_KINDS, "two ranges", "channels first"])
def case(request: pytest.FixtureRequest, client: entropyd.Client) -> Case:
    rng = np.random.default_rng(0)
    kind: str = request.param
    ranges: tuple[int, ...] = (8,)
    options: dict[str, Any] = {}
    if kind == "two ranges":
        kind, ranges = "universal_indexed", (4, 2)
    elif kind == "channels first":
        kind, ranges, options = "continuous_indexed", (3, 5), {"channel_axis": 1}
    elif kind == "continuous_indexed":
        options = {"channel_axis": None}
    config = indexed_config(kind, ranges, **options)
    indexes = np.stack([rng.integers(0, length, (9, 4, 6)) for length in ranges])
    axis = config.channel_axis
    indexes = indexes[0] if axis is None else np.moveaxis(indexes, 0, axis)
    loc = rng.normal(0, 5, (9, 4, 6)).astype(np.float32) if kind == "location_scale_indexed" else None
    x = rng.normal(0, 4, (9, 4, 6)).astype(np.float32)
    return Case(client.create_model(config), x, indexes, loc)


def flipped(case: Case, rng: np.random.Generator) -> tuple[tuple[Array, ...], int]:
    """What decoding takes, with one index changed by one, and the unit that it belongs to."""
    indexes = case.indexes.copy()
    place = tuple(int(rng.integers(length)) for length in indexes.shape)
    axis = case.model.config.channel_axis  # type: ignore[attr-defined]
    ranges = case.model.index_ranges
    assert ranges is not None
    length = ranges[0 if axis is None else place[axis]]
    near = [i for i in (indexes[place] - 1, indexes[place] + 1) if 0 <= i < length]
    indexes[place] = rng.choice(near)
    return (indexes, *case.beside[1:]), place[0]


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes clients cut arrays into chunks of two units."""
    for module in ("_compression", "_decompression"):
        monkeypatch.setattr(f"entropyd.{module}.CHUNK_BYTES", 2 * 4 * 6 * 4)


def test_arrays_come_back_from_tensors_strings_and_chunks(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = case.model, pickle.dumps(case[1:])
    for array in case[1:]:
        if array is not None:
            array.setflags(write=False)
    compressed = model.compress(case.x, *case.beside)
    restored = model.decompress(compressed, *case.beside)
    assert np.abs(restored.astype(np.float64) - case.x).max() <= 0.5 + 1e-5
    assert not restored.flags.writeable
    assert model.decompress(compressed.strings, *case.beside).tobytes() == restored.tobytes()
    assert model.decompress(compressed.strings.tolist(), *case.beside).tobytes() == restored.tobytes()
    small_chunks(monkeypatch)
    told: list[tuple[int, int]] = []
    again = model.compress(case.x, *case.beside, progress=lambda *done: told.append(done))
    assert told[-1] == (9, 9)
    assert len(told) == 5
    assert (again.payload, again.rate) == (compressed.payload, compressed.rate)
    for name in ("lengths", "indexes_crc32c", "unit_numbers"):
        np.testing.assert_array_equal(getattr(again, name), getattr(compressed, name))
    for source in (again, again.strings):
        assert model.decompress(source, *case.beside).tobytes() == restored.tobytes()
    assert pickle.dumps(case[1:]) == before


@pytest.mark.parametrize(
    "key", [slice(3, 7), [6, 2, 2, 8], np.arange(9) % 4 == 1, slice(None, None, -3), slice(0, 0)]
)
def test_a_selection_decodes_with_the_same_selection_of_indexes(case: Case, key: Any) -> None:
    compressed = case.model.compress(case.x, *case.beside)
    restored = case.model.decompress(compressed, *case.beside)
    part = compressed[np.array(key) if isinstance(key, list) else key]
    assert case.model.decompress(part, *case.part(key)).tobytes() == restored[key].tobytes()
    one = case.model.decompress(compressed[5:6], *case.part(slice(5, 6)))
    assert one.tobytes() == restored[5:6].tobytes()
    arrived = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own
    assert arrived.to_message() == part.to_message()
    assert entropyd.CompressedTensor.from_message(part.to_message()).to_message() == part.to_message()


def test_parts_of_an_array_have_the_strings_of_the_whole(case: Case) -> None:
    whole = case.model.compress(case.x, *case.beside)
    rest = slice(4, None)
    part = case.model.compress(case.x[rest], *case.part(rest), first_unit=4)
    assert part.strings.tolist() == whole.strings[rest].tolist()
    expected = case.model.decompress(whole, *case.beside)[rest]
    for source in (part, part.strings):
        restored = case.model.decompress(source, *case.part(rest), first_unit=4)
        assert restored.tobytes() == expected.tobytes()
    numbered = case.model.config.numbers_units
    assert (part.unit_numbers is not None) == numbered
    if numbered:
        assert part.unit_numbers is not None
        assert part.unit_numbers.tolist() == [4, 5, 6, 7, 8]


def test_an_empty_batch_has_an_answer(case: Case) -> None:
    nothing = slice(0, 0)
    compressed = case.model.compress(case.x[nothing], *case.part(nothing))
    assert case.model.decompress(compressed, *case.part(nothing)).shape == (0, 4, 6)
    assert case.model.decompress([], *case.part(nothing)).shape == (0, 4, 6)


def test_one_index_off_by_one_is_a_mismatch_that_names_its_unit(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, rng = case.model, np.random.default_rng(1)
    compressed = model.compress(case.x, *case.beside)
    restored = model.decompress(compressed, *case.beside)
    compressed.save(tmp_path / "x.entropyd")
    with Archive.open(tmp_path / "x.entropyd") as archive:
        stored = archive.read()
    for number in range(FLIPS // 5):
        beside, unit = flipped(case, rng)
        if number == FLIPS // 10:
            small_chunks(monkeypatch)
        with pytest.raises(IndexesMismatchError, match=f"coding unit {unit} was coded with other") as error:
            model.decompress(stored if number % 2 else compressed, *beside)
        assert error.value.units == (unit,)
        assert np.isnan(error.value.partial[unit]).all()
        others = np.arange(9) != unit
        assert error.value.partial[others].tobytes() == restored[others].tobytes()


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_units_beside_those_with_other_indexes_are_named(
    case: Case, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    compressed = case.model.compress(case.x, *case.beside)
    restored = case.model.decompress(compressed, *case.beside)
    beside, unit = flipped(case, np.random.default_rng(4))
    damaged = sorted([(unit + 2) % 9, (unit + 5) % 9])
    blocks = [compressed[number : number + 1].blocks[0] for number in range(9)]
    for number in damaged:
        blocks[number].crc32c ^= 1
    if cut:
        small_chunks(monkeypatch)
    with pytest.raises(IndexesMismatchError) as error:
        case.model.decompress(dataclasses.replace(compressed, blocks=blocks), *beside)
    assert error.value.units == (unit,)
    assert error.value.metadata["corrupt_units"] == f"{damaged[0]},{damaged[1]}"
    assert f"coding units {damaged[0]}, {damaged[1]} cannot be decoded" in str(error.value)
    lost = np.isin(np.arange(9), [unit, *damaged])
    assert np.isnan(error.value.partial[lost]).all()
    assert error.value.partial[~lost].tobytes() == restored[~lost].tobytes()


def test_units_with_other_indexes_can_be_left_out(case: Case) -> None:
    compressed = case.model.compress(case.x, *case.beside)
    restored = case.model.decompress(compressed, *case.beside)
    beside, unit = flipped(case, np.random.default_rng(2))
    array, mask = case.model.decompress(compressed, *beside, on_error="skip")
    assert np.flatnonzero(mask).tolist() == [unit]
    assert array[~mask].tobytes() == restored[~mask].tobytes()
    part = slice(unit, unit + 1)
    inputs = [array[part] for array in beside]
    with pytest.raises(IndexesMismatchError) as error:
        case.model.decompress(compressed[part], *inputs, first_unit=100)
    assert error.value.units == (100,)


def test_the_asynchronous_client_gives_the_same(server: LocalServer, case: Case) -> None:
    expected = case.model.compress(case.x, *case.beside)

    async def main() -> None:
        async with entropyd.aio.Client(server.target) as client:
            model = await client.model(case.model.id)
            compressed = await model.compress(case.x, *case.beside)
            assert compressed.to_message() == expected.to_message()
            restored = await model.decompress(compressed, *case.beside)
            assert restored.tobytes() == case.model.decompress(expected, *case.beside).tobytes()
            perturbed, bits = await model(case.x, *case.beside, training=False)
            np.testing.assert_array_equal(perturbed, restored)  # but for the signs of zeros
            assert bits.shape == (9,)
            beside, unit = flipped(case, np.random.default_rng(3))
            with pytest.raises(IndexesMismatchError) as error:
                await model.decompress(compressed, *beside)
            assert error.value.units == (unit,)
            with pytest.raises(InvalidTensorError, match="indexes are missing"):
                await model.compress(case.x)

    asyncio.run(main())


def test_archives_keep_checksums_and_numbers(case: Case, tmp_path: Path) -> None:
    model, path = case.model, tmp_path / "x.entropyd"
    restored = model.decompress(model.compress(case.x, *case.beside), *case.beside)
    with ArchiveWriter(path, model=EmbeddedModel.of(model)) as writer:
        for first, last in ((0, 3), (3, 4), (4, 9)):
            part = slice(first, last)
            writer.append(model.compress(case.x[part], *case.part(part), first_unit=first))
    with Archive.open(path) as archive:
        assert archive.index_checksums
        assert archive.unit_numbers == model.config.numbers_units
        for key in (slice(None), slice(2, 6), [7, 1]):
            assert model.decompress(archive[key], *case.part(key)).tobytes() == restored[key].tobytes()
        embedded = archive.model
    assert embedded is not None
    assert embedded.config == model.config
    assert (
        entropyd.CompressedTensor.load(path).to_message() == model.compress(case.x, *case.beside).to_message()
    )


def test_an_embedded_model_decodes_where_its_tables_were_never_built(
    client: entropyd.Client, tmp_path: Path
) -> None:
    prior = priors.indexed("NoisyNormal", (4, 3), loc=priors.affine(0, 2, axis=1), scale=priors.affine(1, 1))
    model = client.create_model(entropyd.UniversalIndexedConfig(prior=prior, coding_rank=1))
    rng = np.random.default_rng(0)
    x, indexes = rng.normal(2, 3, (6, 7)).astype(np.float32), rng.integers(0, [4, 3], (6, 7, 2))
    compressed = model.compress(x, indexes)
    compressed.save(tmp_path / "x.entropyd", model=EmbeddedModel.of(model))
    with Archive.open(tmp_path / "x.entropyd") as archive:
        embedded = archive.model
        assert embedded is not None
        other = client.create_model(embedded.standalone_config)
        assert (other.id != model.id, other.tables_digest) == (True, model.tables_digest)
        part = embedded.standalone(archive[[4, 1]])
    restored = other.decompress(part, indexes[[4, 1]])
    assert restored.tobytes() == model.decompress(compressed, indexes)[[4, 1]].tobytes()


def test_models_have_the_attributes_of_their_class(case: Case, client: entropyd.Client) -> None:
    config: Any = case.model.config
    assert case.model.index_ranges == config.index_ranges == config.prior.batch_shape
    assert case.model.channel_axis == config.channel_axis
    assert case.model.prior_dtype == "float32"
    assert f"index_ranges={config.index_ranges}" in repr(case.model)
    if config.kind == "location_scale_indexed":
        assert case.model.num_scales == 8
    else:
        with pytest.raises(AttributeError, match="num_scales"):
            case.model.num_scales  # noqa: B018 - there is none
    power_law = client.create_model(entropyd.PowerLawConfig(coding_rank=1, alpha=0.5))
    assert (power_law.alpha, power_law.index_ranges, power_law.tables_digest) == (0.5, None, b"")
    assert power_law.get_config() == power_law.config.to_dict()
    assert "power_law prior_shape=() coding_rank=1" in repr(power_law)
    with pytest.raises(AttributeError, match="tail_mass"):
        power_law.tail_mass  # noqa: B018 - there is none


MISTAKES: dict[str, tuple[Callable[[Case], Any], type[entropyd.EntropydError], str]] = {
    "compress without": (lambda c: c.model.compress(c.x), InvalidTensorError, "indexes are missing"),
    "call without": (lambda c: c.model(c.x), InvalidTensorError, "indexes are missing"),
    "decompress without": (
        lambda c: c.model.decompress(c.model.compress(c.x, *c.beside)),
        InvalidTensorError,
        "indexes are missing",
    ),
    "fewer items": (
        lambda c: c.model.compress(c.x, *c.part(slice(3))),
        InvalidTensorError,
        r"has shape .*\(9, 4, 6\)",
    ),
    "fewer items for a tensor": (
        lambda c: c.model.decompress(c.model.compress(c.x, *c.beside), *c.part(slice(3))),
        InvalidTensorError,
        r"indexes are those of elements of shape \(3, 4, 6\)",
    ),
    "fewer items for strings": (
        lambda c: c.model.decompress(c.model.compress(c.x, *c.beside).strings, *c.part(slice(3))),
        InvalidTensorError,
        r"with batch shape \(3,\); the strings have shape \(9,\)",
    ),
    "a broadcast_shape": (
        lambda c: c.model.decompress([b""] * 9, *c.beside, broadcast_shape=[4, 6]),
        InvalidRequestError,
        "broadcast_shape is given, but the indexes have the shape",
    ),
    "an error bound": (
        lambda c: bounded.compress(c.model, c.x, 0.1),
        InvalidRequestError,
        "which takes indexes; expected a kind without them",
    ),
    "a negative unit": (
        lambda c: c.model.compress(c.x, *c.beside, first_unit=-1),
        InvalidRequestError,
        "first_unit is -1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_what_does_not_fit_is_refused_by_name(
    case: Case, mistake: tuple[Callable[[Case], Any], type[entropyd.EntropydError], str]
) -> None:
    call, kind, message = mistake
    with pytest.raises(kind, match=message):
        call(case)


def test_indexes_and_locations_are_refused_where_there_is_no_place_for_them(
    model: entropyd.Model, case: Case
) -> None:
    x = np.zeros((4, 3), np.float32)
    compressed = model.compress(x)
    for call in (
        lambda: model.compress(x, x),
        lambda: model(x, indexes=x),
        lambda: model.decompress(compressed, indexes=x),
    ):
        with pytest.raises(
            InvalidTensorError, match="indexes are given; a universal_batched model takes none"
        ):
            call()
    with pytest.raises(InvalidTensorError, match="loc is given; a universal_batched model takes none"):
        model.perturb(x, loc=1.0)
    if case.loc is None:
        with pytest.raises(InvalidTensorError, match=f"loc is given; a {case.model.config.kind} model"):
            case.model.compress(case.x, case.indexes, loc=0.0)
    with pytest.raises(TypeError, match="indexes by place and by name"):
        case.model.decompress(case.x, case.indexes, indexes=case.indexes)
    with pytest.raises(TypeError, match="at most broadcast_shape by place"):
        model.decompress(compressed, (4,), 0.0)


def test_the_bottleneck_is_broadcast_to_the_indexes(case: Case) -> None:
    narrow = case.x[0, :1]
    wide = np.broadcast_to(narrow, case.x.shape)
    found = case.model.compress(narrow, *case.beside)
    assert found.payload == case.model.compress(np.ascontiguousarray(wide), *case.beside).payload


# Locations


@pytest.fixture(scope="module")
def located(client: entropyd.Client) -> Callable[[str], tuple[entropyd.Model, Any]]:
    """Models of 64 scales, and TFC's own of the same tables, by bottleneck_dtype."""

    def made(dtype: str) -> tuple[entropyd.Model, Any]:
        theirs = tfc.LocationScaleIndexedEntropyModel(
            tfc.NoisyNormal,
            64,
            lambda i: tf.exp(-2.2 + i * 0.12),
            coding_rank=2,
            compression=True,
            bottleneck_dtype=getattr(tf, dtype),
        )
        prior = priors.indexed("NoisyNormal", (64,), loc=0.0, scale=priors.exp_affine(-2.2, 0.12))
        tables = (theirs.cdf.numpy(), theirs.cdf_offset.numpy())
        config = entropyd.LocationScaleIndexedConfig(
            prior=prior, coding_rank=2, bottleneck_dtype=dtype, tables=tables
        )
        return client.create_model(config), theirs

    return made


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("given", ["float64", "its own"])
def test_strings_and_arrays_are_those_of_tfc(
    located: Callable[[str], tuple[entropyd.Model, Any]], dtype: str, given: str
) -> None:
    model, theirs = located(dtype)
    rng = np.random.default_rng(0)
    own = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    indexes = rng.uniform(-3, 67, (5, 8, 9)).astype(np.float32)
    loc = rng.normal(0, 20, indexes.shape).astype(np.float64 if given == "float64" else own)
    x = (loc.astype(np.float64) + rng.normal(0, 3, indexes.shape)).astype(loc.dtype)
    expected = theirs.compress(x.copy(), indexes, loc).numpy()
    compressed = model.compress(x, indexes, loc)
    assert compressed.strings.tolist() == expected.tolist()
    restored = theirs.decompress(expected, indexes, loc).numpy()
    assert model.decompress(compressed, indexes, loc).tobytes() == restored.tobytes()
    arguments = x, indexes, loc, False  # by place, as of TFC's class
    perturbed, bits = model(*arguments)
    again, expected_bits = theirs(*arguments)
    assert perturbed.tobytes() == again.numpy().tobytes()
    np.testing.assert_allclose(bits, expected_bits, rtol=1e-3 if given == "float64" else 1e-5)


@pytest.mark.parametrize("shape", [(), (9,), (8, 1), (1, 1, 9), (5, 8, 9)])
def test_a_location_is_broadcast_and_its_gradient_summed(
    located: Callable[[str], tuple[entropyd.Model, Any]], shape: tuple[int, ...]
) -> None:
    model, _ = located("float32")
    rng = np.random.default_rng(1)
    indexes = rng.uniform(0, 63, (5, 8, 9)).astype(np.float32)
    loc, x = rng.normal(0, 9, shape).astype(np.float32), rng.normal(0, 9, (5, 8, 9)).astype(np.float32)
    compressed = model.compress(x, indexes, loc)
    wide = np.broadcast_to(loc, x.shape)
    assert compressed.payload == model.compress(x, indexes, wide).payload
    restored = model.decompress(compressed, indexes, loc)
    assert restored.tobytes() == model.decompress(compressed, indexes, wide).tobytes()

    found = model.perturb(x, indexes, loc, gradient=True)
    assert found.gradient is not None
    assert found.loc_gradient is not None
    assert found.index_gradient is not None
    assert found.loc_gradient.shape == shape
    assert found.index_gradient.shape == indexes.shape
    lost = tuple(range(3 - len(shape)))
    kept = tuple(axis + 3 - len(shape) for axis, length in enumerate(shape) if length == 1)
    expected = -found.gradient.astype(np.float64).sum(axis=lost + kept).reshape(shape)
    np.testing.assert_allclose(found.loc_gradient, expected, rtol=1e-6, atol=1e-5)
    assert np.abs(found.perturbed - x).max() <= 0.5 + 1e-5


def test_gradients_are_there_where_they_can_be(
    located: Callable[[str], tuple[entropyd.Model, Any]], case: Case
) -> None:
    model, _ = located("float32")
    x, indexes = np.zeros((2, 3), np.float32), np.ones((2, 3), np.int64)
    found = model.perturb(x, indexes, gradient=True)
    assert (found.index_gradient, found.loc_gradient) == (None, None)
    assert found.gradient is not None
    found = model.perturb(x, indexes.astype(np.float64), 0.5)
    assert found[2:] == (None, None, None)
    # Its prior is an array over the grid.
    floats = case.indexes.astype(np.float32)
    assert case.model.perturb(case.x, floats, gradient=True).index_gradient is None


# PowerLaw


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_power_law_needs_nothing_but_the_array(client: entropyd.Client, dtype: str, tmp_path: Path) -> None:
    model = client.create_model(entropyd.PowerLawConfig(coding_rank=1, bottleneck_dtype=dtype))
    own = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    x = (np.random.default_rng(0).standard_cauchy((5, 40)) * 3).clip(-1000, 1000).astype(own)
    compressed = model.compress(x)
    theirs = tfc.PowerLawEntropyModel(coding_rank=1, bottleneck_dtype=getattr(tf, dtype))
    assert compressed.strings.tolist() == theirs.compress(x).numpy().tolist()
    expected = theirs.decompress(compressed.strings.tolist(), (40,)).numpy()
    for restored in (model.decompress(compressed), model.decompress(compressed.strings, (40,))):
        assert restored.tobytes() == expected.tobytes()
    rounded, penalty = model(x)
    np.testing.assert_array_equal(rounded, expected)  # but for the signs of zeros
    np.testing.assert_allclose(penalty.astype(float), theirs.penalty(x).numpy().astype(float), rtol=1e-2)
    compressed.save(tmp_path / "x.entropyd", model=EmbeddedModel.of(model))
    with Archive.open(tmp_path / "x.entropyd") as archive:
        embedded = archive.model
        assert embedded is not None
        assert embedded.standalone_config == model.config
        assert model.decompress(embedded.standalone(archive[1:3])).tobytes() == expected[1:3].tobytes()
    if dtype == "float32":
        data = np.where(np.abs(x) > 900, np.nan, x * 0.01)
        tensor = bounded.compress(model, data, 0.005)
        assert np.nanmax(np.abs(bounded.decompress(model, tensor) - data)) <= 0.005


def test_a_codec_of_zarr_has_no_place_for_indexes(server: LocalServer, case: Case, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    codecs = pytest.importorskip("entropyd.zarr")
    with zarr.config.set({"entropyd.server": server.target}):
        codec = codecs.EntropydCodec(case.model.id)
        with pytest.raises(InvalidRequestError, match=f"kind {case.model.config.kind}, which takes indexes"):
            zarr.create_array(
                str(tmp_path / "x"), shape=(9, 4, 6), chunks=(9, 4, 6), dtype="float32", serializer=codec
            )
        power_law = zarr.create_array(
            str(tmp_path / "y"),
            shape=case.x.shape,
            chunks=(3, 4, 6),
            dtype="float32",
            serializer=codecs.EntropydCodec(_power_law(server).id),
            compressors=None,
        )
        power_law[...] = case.x
        np.testing.assert_array_equal(power_law[...], np.round(case.x))


def _power_law(server: LocalServer) -> entropyd.Model:
    with entropyd.Client(server.target) as client:
        return client.create_model(entropyd.PowerLawConfig(coding_rank=1))
