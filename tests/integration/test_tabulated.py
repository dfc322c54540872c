"""Models that are tables alone, end to end: their strings are those of other kinds with the same tables."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

import entropyd
from entropyd import aio, bounded, tables
from entropyd.archive import Archive, EmbeddedModel
from entropyd.cli.main import entropyd as command
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from tests.support import reference_rans
from tests.support.reference_coder import CorruptError

if TYPE_CHECKING:
    from pathlib import Path

    from entropyd_server.local import LocalServer

# Rows of 1 to 40 intervals and the escape, and one of the escape alone.
WIDTHS = (1, 2, 7, 40, 0, 3)
OFFSET = np.array([0.25, -0.5, 0.0, 100.0, 3.0, -1.25])


def rows(precision: int = 12) -> list[list[int]]:
    inner = np.random.default_rng(0)
    return [
        [0, *sorted(1 + inner.choice((1 << precision) - 1, width, replace=False)), 1 << precision]
        for width in WIDTHS
    ]


def config(**arguments: Any) -> entropyd.TabulatedConfig:
    offsets = [-(width // 2) for width in WIDTHS]
    given = {"rows": rows(), "offsets": offsets, "coding_rank": 1, "precision": 12, **arguments}
    return entropyd.TabulatedConfig(**given)


def bottleneck(dtype: str = "float32") -> npt.NDArray[Any]:
    """[4, 5, 6], some of it escapes."""
    values = np.random.default_rng(1).laplace(0, 4, (4, 5, 6))
    values[0, 0] = -700
    return values.astype(numpy_dtype(dtype))


def indexes() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, len(WIDTHS), (4, 5, 6), np.uint8)


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@pytest.mark.parametrize("offset", [None, OFFSET, 0.3])
def test_rows_by_position_give_the_strings_of_a_continuous_batched_model(
    client: entropyd.Client, dtype: str, offset: Any
) -> None:
    shared = {"bottleneck_dtype": dtype, "quantization_offset": offset}
    tabulated = config(**shared)
    batched = entropyd.ContinuousBatchedConfig(
        coding_rank=1,
        prior_shape=(6,),
        cdf=tabulated.cdf,
        cdf_offset=tabulated.cdf_offset,
        offset_heuristic=False,
        **shared,
    )
    model, other, x = client.create_model(tabulated), client.create_model(batched), bottleneck(dtype)
    compressed = model.compress(x)
    assert compressed.strings.tolist() == other.compress(x).strings.tolist()
    assert np.array_equal(model.decompress(compressed), other.decompress(other.compress(x)))


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@pytest.mark.parametrize("offset", [None, OFFSET])
def test_rows_by_index_give_the_strings_of_rows_by_position(
    client: entropyd.Client, dtype: str, offset: Any
) -> None:
    shared = {"bottleneck_dtype": dtype, "quantization_offset": offset}
    by_index = client.create_model(config(row_by="index", **shared))
    by_position, x = client.create_model(config(**shared)), bottleneck(dtype)
    compressed = by_index.compress(x, np.broadcast_to(np.arange(6), x.shape))
    assert compressed.strings.tolist() == by_position.compress(x).strings.tolist()
    i = indexes()
    restored = by_index.decompress(by_index.compress(x, i), i)
    assert restored.dtype == x.dtype
    if dtype in {"float32", "float64"}:
        offsets = 0 if offset is None else OFFSET.astype(dtype)[i]
        assert np.array_equal(restored, np.rint(x - offsets) + offsets)


def test_several_indexes_of_an_element_lie_along_the_last_axis(client: entropyd.Client) -> None:
    one = client.create_model(config(row_by="index"))
    two = client.create_model(config(row_by="index", row_shape=(2, 3)))
    i, x = indexes(), bottleneck()
    both = np.stack(np.divmod(i, 3), axis=-1)
    compressed = two.compress(x, both)
    assert compressed.strings.tolist() == one.compress(x, i).strings.tolist()
    assert np.array_equal(two.decompress(compressed, both), np.rint(x))


@pytest.fixture(scope="module", params=["position", "index"])
def by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(client: entropyd.Client, by: str) -> entropyd.Model:
    return client.create_model(config(row_by=by, quantization_offset=OFFSET))


@pytest.fixture(scope="module")
def beside(by: str) -> tuple[npt.NDArray[np.uint8], ...]:
    """What compress and decompress take beside the array or the strings."""
    return (indexes(),) if by == "index" else ()


def test_its_tables_are_the_weights_and_what_the_server_says_of_them(
    client: entropyd.Client, model: entropyd.Model
) -> None:
    assert model.cdf.tolist() == config().cdf.tolist()
    assert model.cdf_offset.tolist() == config().cdf_offset.tolist()
    assert model.quantization_offset is not None
    assert np.array_equal(model.quantization_offset, OFFSET.astype(np.float32))
    assert model.info.tables_origin == "supplied"
    assert model.info.table_rows == len(WIDTHS)
    assert not model.built_with
    assert (model.coder, model.row_shape, model.range_coder_precision) == ("range", (6,), 12)
    cdf, cdf_offset, offset = model.get_weights()
    assert model.set_weights([cdf, cdf_offset, offset]).id == model.id
    moved = model.set_weights([cdf, cdf_offset + 1, offset])
    assert moved.config == config(offsets=cdf_offset + 1, row_by=model.row_by, quantization_offset=OFFSET)
    flat = cdf.copy()
    flat[2] = 0
    with pytest.raises(entropyd.InvalidTensorError, match=r"weights\[0\] row 0 stays at 0 at element 2"):
        model.set_weights([flat, cdf_offset, offset])
    blob = model.export()
    client.delete_model(model.id)
    assert client.import_model(blob).id == model.id
    assert client.model(model.id).config == model.config


def test_parts_files_and_damage_are_as_with_any_model(
    client: entropyd.Client, model: entropyd.Model, beside: tuple[Any, ...], tmp_path: Path
) -> None:
    x = bottleneck()
    compressed = model.compress(x, *beside)
    whole = model.decompress(compressed, *beside)
    part = model.decompress(compressed[1:3], *(array[1:3] for array in beside))
    assert np.array_equal(part, whole[1:3])
    path = tmp_path / "x.entropyd"
    compressed.save(path, model=EmbeddedModel.of(model))
    with Archive.open(path) as archive:
        assert archive.model is not None
        assert archive.model.config == model.config
        assert np.array_equal(model.decompress(archive.read(), *beside), whole)
    strings = compressed.strings.copy()
    strings[2, 1] += b"more"
    with pytest.raises(entropyd.CorruptStringError) as caught:
        model.decompress(strings, *(beside or ((),)))
    assert caught.value.units == (11,)
    if beside:
        with pytest.raises(entropyd.IndexesMismatchError):
            model.decompress(compressed, beside[0][::-1])


def test_an_asynchronous_client_has_the_same_model(
    server: LocalServer, model: entropyd.Model, beside: tuple[Any, ...]
) -> None:
    async def scenario() -> None:
        async with aio.Client(server.target) as client:
            other = await client.create_model(model.config)
            compressed = await other.compress(bottleneck(), *beside)
            assert compressed.strings.tolist() == model.compress(bottleneck(), *beside).strings.tolist()
            restored = await other.decompress(compressed, *beside)
            assert np.array_equal(restored, model.decompress(compressed, *beside))

    asyncio.run(scenario())


def test_bit_costs_and_fits_need_a_density(
    client: entropyd.Client, model: entropyd.Model, beside: tuple[Any, ...]
) -> None:
    for call in (lambda: model(bottleneck(), *beside), lambda: model.prior):
        with pytest.raises(entropyd.ModelStateError, match="no density") as caught:
            call()
        assert caught.value.reason == "MODEL_WITHOUT_PRIOR"
    with pytest.raises(entropyd.InvalidConfigError, match="is tabulated; expected universal_batched or"):
        client.fit_model(model.config, bottleneck())


def test_a_row_for_all_and_units_without_axes_have_their_models(client: entropyd.Client) -> None:
    x = np.array([[-1, 0, 1, 700], [0, 0, 0, 0]], np.float32)
    row = tables.from_counts([1, 5, 1])
    one = client.create_model(entropyd.TabulatedConfig([row], [-1], 1, row_shape=()))
    assert np.array_equal(one.decompress(one.compress(x)), x)
    assert one.compress(x[:, :0]).strings.shape == (2,)
    escapes = client.create_model(entropyd.TabulatedConfig([[0, 1 << 16]], [5], 0, row_by="index"))
    assert np.array_equal(escapes.decompress(escapes.compress(x, 0 * x), 0 * x), x)


def test_error_bounds_hold_for_rows_by_position(client: entropyd.Client) -> None:
    model = client.create_model(config())
    x = bottleneck()
    x[0, 1, 2] = np.nan
    restored = bounded.decompress(model, bounded.compress(model, x, 0.25, missing=(np.nan,)))
    assert np.nanmax(np.abs(restored - x)) <= 0.25
    assert np.array_equal(np.isnan(restored), np.isnan(x))


def test_the_command_line_makes_shows_and_codes_with_one(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> str:
        ran = CliRunner().invoke(command, ["--server", server.target, *words])
        assert ran.exit_code == 0, ran.output
        return ran.output

    monkeypatch.chdir(tmp_path)
    tables_of = config()
    np.savez("tables.npz", cdf=tables_of.cdf, cdf_offset=tables_of.cdf_offset)
    np.save("x.npy", bottleneck())
    np.save("i.npy", indexes())
    made = run(
        "models",
        "create",
        "--kind",
        "tabulated",
        "--tables",
        "tables.npz",
        "--coding-rank",
        "1",
        "--row-by",
        "index",
    ).strip()
    assert made == config(row_by="index").model_id
    shown = run("models", "show", made)
    assert "index_ranges           [6]" in shown
    assert "  row 2                -3 ... 3, mode " in shown
    assert "row_shape (6,), by index" in shown
    run("compress", "--model", made, "--indexes", "i.npy", "--embed-model", "x.npy", "x.entropyd")
    run("decompress", "--indexes", "i.npy", "x.entropyd", "y.npy")
    assert np.array_equal(np.load("y.npy"), np.rint(bottleneck()))
    assert "tabulated" in run("models", "list")
    document = json.loads(run("models", "show", "--json", made))
    assert document["row_by"] == "index"


def decoded(string: bytes, reference: list[tuple[list[int], int]]) -> list[int] | None:
    """The integers of a rANS string; None if no encoder writes it."""
    try:
        return reference_rans.decode(string, reference)
    except CorruptError:
        return None


@pytest.mark.parametrize("wire", ["symbols", "float"])
def test_any_rans_string_has_its_symbols_or_is_named_as_corrupt(
    server: LocalServer, wire: Literal["symbols", "float"]
) -> None:
    offsets = [-(width // 2) for width in WIDTHS]
    made = config(rows=rows(16), precision=16, coder="rans64")
    reference = [(list(map(int, row)), offset) for row, offset in zip(rows(16), offsets, strict=True)]
    chance = np.random.default_rng(3)
    strings = [reference_rans.encode(chance.integers(-2, 3, 6).tolist(), reference) for _ in range(200)]
    for position in range(0, 200, 2):
        damaged = bytearray(strings[position])
        damaged[chance.integers(len(damaged))] ^= 1 << chance.integers(8)
        strings[position] = bytes(damaged)
    strings += [chance.bytes(int(size)) for size in chance.integers(0, 20, 200)]
    expected = [decoded(string, reference) for string in strings]
    corrupt = [number for number, integers in enumerate(expected) if integers is None]
    with entropyd.Client(server.target, wire=wire) as client:
        model = client.create_model(made)
        restored, mask = model.decompress(np.array(strings, object), broadcast_shape=(), on_error="skip")
        with pytest.raises(entropyd.CorruptStringError) as caught:
            model.decompress(np.array(strings, object), broadcast_shape=())
    assert np.flatnonzero(mask).tolist() == corrupt
    assert restored[~mask].tolist() == [integers for integers in expected if integers is not None]
    assert np.isnan(restored[mask]).all()
    assert set(caught.value.units) <= set(corrupt)
    assert caught.value.units[0] == corrupt[0]
