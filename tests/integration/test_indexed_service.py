"""Compress and Decompress with indexes against a real server, in the messages' own terms."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.rpc import error_details_pb2, status_pb2

import entropyd
from entropyd import priors
from entropyd.contract.errors import EntropydError, from_status
from entropyd.contract.indexes import indexes_crc32c, row_dtype
from entropyd.contract.kinds import config_to_message
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, model_pb2, model_pb2_grpc, types_pb2
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.tables import CodingTables
from tests.support.indexed_models import INDEXED_KINDS, indexed_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from entropyd_server.local import LocalServer

FLIPS = 1000
UNIT_SHAPE = (4, 5)
FLOATS = tensor_to_message(np.zeros((3, *UNIT_SHAPE), np.float32))


class Indexed(NamedTuple):
    """A model of the server, and its codec here."""

    id: str
    codec: IndexedCodec

    @property
    def dtype(self) -> npt.DTypeLike:
        return row_dtype(self.codec.index_rows)


@pytest.fixture(scope="module")
def channel(server: LocalServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)]) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return coding_pb2_grpc.CodingServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> dict[str, Indexed]:
    """By kind; the last one has more rows than 8 bits tell apart."""
    stub: Any = model_pb2_grpc.ModelServiceStub(channel)
    configs = {kind: indexed_config(kind) for kind in INDEXED_KINDS}
    configs["two ranges"] = indexed_config("continuous_indexed", (20, 15))
    made = {}
    for name, config in configs.items():
        stub.CreateModel(model_pb2.CreateModelRequest(config=config_to_message(config)))
        tables = config.supplied_tables
        assert tables is not None
        codec = codec_of(config, CodingTables.parse(tables.cdf, tables.cdf_offset))
        assert isinstance(codec, IndexedCodec)
        made[name] = Indexed(config.model_id, codec)
    return made


def drawn(model: Indexed, units: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Values and a plane of indexes, [units, *UNIT_SHAPE]."""
    rng = np.random.default_rng(seed)
    plane = rng.integers(0, model.codec.index_rows, (units, *UNIT_SHAPE)).astype(model.dtype)
    return rng.normal(0, 1 + plane % 40).astype(np.float32), plane


def compress_request(
    model: Indexed, values: npt.NDArray[Any], plane: npt.NDArray[Any], first_unit: int = 0
) -> coding_pb2.CompressRequest:
    return coding_pb2.CompressRequest(
        model_id=model.id,
        bottleneck=tensor_to_message(values),
        indexes=tensor_to_message(plane),
        first_unit=first_unit,
    )


def decompress_request(
    compressed: types_pb2.CompressedTensor, plane: npt.NDArray[Any], **fields: Any
) -> coding_pb2.DecompressRequest:
    return coding_pb2.DecompressRequest(compressed=compressed, indexes=tensor_to_message(plane), **fields)


def array_of(response: coding_pb2.DecompressResponse) -> npt.NDArray[np.float32]:
    return np.frombuffer(response.tensor.data, np.float32).reshape(tuple(response.tensor.shape))


def refusal(call: Any, request: Any) -> EntropydError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    error: Any = caught.value
    (details,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    return from_status(error.code().name, error.details(), status_pb2.Status.FromString(details))


def test_an_array_comes_back_rounded_and_is_coded_as_the_codec_alone_does(
    stub: Any, models: dict[str, Indexed]
) -> None:
    for model in models.values():
        values, plane = drawn(model, 3)
        compressed = stub.Compress(compress_request(model, values, plane)).compressed
        flat = plane.reshape(3, -1)
        rows = model.codec.rows_of(flat, UNIT_SHAPE, np.arange(3))
        encoded = model.codec.encode(values.reshape(3, -1), rows)
        assert (compressed.payload, list(compressed.lengths)) == (encoded.payload, encoded.lengths.tolist())
        assert list(compressed.indexes_crc32c) == indexes_crc32c(flat).tolist()
        numbers = [(run.first, run.count) for run in compressed.unit_numbers]
        assert numbers == ([(0, 3)] if model.codec.numbers_units else [])
        restored = array_of(stub.Decompress(decompress_request(compressed, plane)))
        assert np.abs(restored - values).max() <= 0.5 + 1e-5
        # A wider dtype of indexes changes nothing.
        wide = plane.astype(np.int32)
        assert stub.Compress(compress_request(model, values, wide)).compressed == compressed
        assert np.array_equal(array_of(stub.Decompress(decompress_request(compressed, wide))), restored)


def test_large_planes_are_coded_as_small_ones(stub: Any, models: dict[str, Indexed]) -> None:
    model = models["universal_indexed"]
    rng = np.random.default_rng(0)
    plane = rng.integers(0, model.codec.index_rows, (7, 300, 100)).astype(np.uint8)
    values = rng.normal(0, 3, plane.shape).astype(np.float32)
    whole = stub.Compress(compress_request(model, values, plane)).compressed
    alone = [
        stub.Compress(compress_request(model, values[unit : unit + 1], plane[unit : unit + 1], unit))
        for unit in range(7)
    ]
    assert whole.payload == b"".join(part.compressed.payload for part in alone)
    restored = array_of(stub.Decompress(decompress_request(whole, plane)))
    assert np.abs(restored - values).max() <= 0.5 + 1e-5


def test_units_that_are_a_part_of_an_array_are_decoded_by_their_numbers(
    stub: Any, models: dict[str, Indexed]
) -> None:
    model = models["universal_indexed"]
    values, plane = drawn(model, 6)
    whole = stub.Compress(compress_request(model, values, plane)).compressed
    restored = array_of(stub.Decompress(decompress_request(whole, plane)))
    part = stub.Compress(compress_request(model, values[2:], plane[2:], first_unit=2)).compressed
    assert [(run.first, run.count) for run in part.unit_numbers] == [(2, 4)]
    assert whole.payload.endswith(part.payload)
    assert np.array_equal(array_of(stub.Decompress(decompress_request(part, plane[2:]))), restored[2:])
    # A selection by the server, and one that the caller made itself, of bare strings.
    units = [coding_pb2.UnitRange(start=3, count=1), coding_pb2.UnitRange(start=0, count=2)]
    selected = decompress_request(part, plane[[5, 2, 3]], units=units)
    assert np.array_equal(array_of(stub.Decompress(selected)), restored[[5, 2, 3]])
    ends = np.cumsum([0, *whole.lengths])
    strings = [whole.payload[ends[unit] : ends[unit + 1]] for unit in (4, 1)]
    bare = types_pb2.BitStrings(
        model_id=model.id,
        batch_shape=[2],
        broadcast_shape=UNIT_SHAPE,
        payload=b"".join(strings),
        lengths=[len(string) for string in strings],
        unit_numbers=[types_pb2.UnitNumbers(first=unit, count=1) for unit in (4, 1)],
    )
    request = coding_pb2.DecompressRequest(bit_strings=bare, indexes=tensor_to_message(plane[[4, 1]]))
    assert np.array_equal(array_of(stub.Decompress(request)), restored[[4, 1]])


def test_other_indexes_are_refused_before_decoding_and_name_their_units(
    stub: Any, models: dict[str, Indexed]
) -> None:
    for model in models.values():
        values, plane = drawn(model, 5)
        compressed = stub.Compress(compress_request(model, values, plane)).compressed
        changed = plane.copy()
        changed[[1, 4], 2, 3] = (changed[[1, 4], 2, 3] + 1) % model.codec.index_rows
        error = refusal(stub.Decompress, decompress_request(compressed, changed))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "INDEXES_MISMATCH")
        assert error.units == (1, 4)  # type: ignore[attr-defined]
        assert "coding unit 1 was coded with other indexes" in error.message
        # Of a selection, only what was selected is compared.
        units = [coding_pb2.UnitRange(start=2, count=3)]
        error = refusal(stub.Decompress, decompress_request(compressed, changed[2:], units=units))
        assert error.metadata["units"] == "4"
        units = [coding_pb2.UnitRange(start=2, count=2)]
        stub.Decompress(decompress_request(compressed, changed[2:4], units=units))


def test_units_of_other_indexes_are_skipped_on_request(stub: Any, models: dict[str, Indexed]) -> None:
    model = models["location_scale_indexed"]
    values, plane = drawn(model, 5)
    compressed = stub.Compress(compress_request(model, values, plane)).compressed
    restored = array_of(stub.Decompress(decompress_request(compressed, plane)))
    plane[3, 0, 0] ^= 1
    request = decompress_request(compressed, plane, error_policy=coding_pb2.ERROR_POLICY_SKIP)
    response = stub.Decompress(request)
    (failed,) = response.unit_errors
    assert (failed.unit, failed.cause, failed.element) == (3, coding_pb2.UNIT_ERROR_CAUSE_INDEXES, 0)
    decoded = array_of(response)
    assert np.isnan(decoded[3]).all()
    rest = [0, 1, 2, 4]
    assert np.array_equal(decoded[rest], restored[rest])


def test_bare_strings_and_tensors_without_checksums_are_decoded_whatever_the_indexes(
    stub: Any, models: dict[str, Indexed]
) -> None:
    model = models["continuous_indexed"]
    values, plane = drawn(model, 2)
    compressed = stub.Compress(compress_request(model, values, plane)).compressed
    plane[0] = (plane[0] + 1) % model.codec.index_rows
    del compressed.indexes_crc32c[:]
    policy = coding_pb2.ERROR_POLICY_SKIP
    response = stub.Decompress(decompress_request(compressed, plane, error_policy=policy))
    assert np.abs(array_of(response)[1] - values[1]).max() <= 0.5


def test_every_index_that_differs_by_one_is_found_in_calls_and_streams(
    server: LocalServer, models: dict[str, Indexed]
) -> None:
    """Each call has units of its own, and one index of one of them is off by one."""
    rng = np.random.default_rng(23)
    known = list(models.values())

    def mistake(
        number: int, compressed: dict[int, types_pb2.CompressedTensor]
    ) -> tuple[int, coding_pb2.DecompressRequest]:
        which = number % len(known)
        _, plane = drawn(known[which], 4, which)
        unit, row, column = rng.integers(0, plane.shape)
        rows = known[which].codec.index_rows
        step = int(rng.choice([-1, 1]))
        value = int(plane[unit, row, column]) + step
        plane[unit, row, column] = value if 0 <= value < rows else value - 2 * step
        return int(unit), decompress_request(compressed[which], plane)

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as opened:
            stub: Any = coding_pb2_grpc.CodingServiceStub(opened)
            compressed = {}
            for which, model in enumerate(known):
                request = compress_request(model, *drawn(model, 4, which))
                compressed[which] = (await stub.Compress(request)).compressed
            mistakes = [mistake(number, compressed) for number in range(FLIPS)]
            half = FLIPS // 2

            async def unary(unit: int, request: coding_pb2.DecompressRequest) -> None:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Decompress(request)
                assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
                status = status_pb2.Status.FromString(
                    dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
                )
                info = error_details_pb2.ErrorInfo()
                assert status.details[0].Unpack(info)
                assert (info.reason, info.metadata["units"]) == ("INDEXES_MISMATCH", str(unit))

            for start in range(0, half, 50):
                await asyncio.gather(
                    *(unary(*wrong) for wrong in mistakes[start : start + 50][: half - start])
                )

            async def messages() -> AsyncIterator[coding_pb2.DecompressStreamRequest]:
                for number, (_, request) in enumerate(mistakes[half:], half):
                    yield coding_pb2.DecompressStreamRequest(request_id=str(number), request=request)

            answered = 0
            async for answer in stub.DecompressStream(messages()):
                unit, _ = mistakes[int(answer.request_id)]
                assert answer.status.reason == "INDEXES_MISMATCH"
                assert answer.status.metadata["units"] == str(unit)
                answered += 1
            assert answered == FLIPS - half

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (lambda request: request.ClearField("indexes"), "indexes", "is missing"),
        (
            lambda request: request.indexes.CopyFrom(FLOATS),
            "indexes.dtype",
            "is float32; expected one of uint8",
        ),
        (lambda request: setattr(request.indexes, "data", request.indexes.data[:-1]), "indexes.data", "59"),
        (lambda request: request.indexes.shape.insert(0, 1), "indexes", "(1, 3, 4, 5)"),
        (lambda request: setattr(request.indexes, "data", bytes(59) + b"\x08"), "indexes", "expected 0 to 7"),
    ],
    ids=["missing", "dtype", "truncated", "shape", "range"],
)
def test_wrong_planes_are_refused_by_field_in_both_directions(
    stub: Any, models: dict[str, Indexed], change: Any, field: str, said: str
) -> None:
    model = models["location_scale_indexed"]
    values, plane = drawn(model, 3)
    good = compress_request(model, values, plane)
    compressed = stub.Compress(good).compressed
    for call, request in ((stub.Compress, good), (stub.Decompress, decompress_request(compressed, plane))):
        change(request)
        error = refusal(call, request)
        assert error.reason == "INVALID_TENSOR"
        (violation,) = error.violations
        assert violation.field == field
        assert said in violation.description


def test_a_model_without_indexes_refuses_them(stub: Any, model: Any) -> None:
    x = np.zeros((2, 4, 3), np.float32)
    indexes = tensor_to_message(np.zeros((2, 4, 3), np.uint8))
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x), indexes=indexes)
    compressed = model.compress(x).to_message()
    for call, wrong in (
        (stub.Compress, request),
        (stub.Decompress, coding_pb2.DecompressRequest(compressed=compressed, indexes=indexes)),
    ):
        error = refusal(call, wrong)
        assert (error.reason, error.violations[0].field) == ("INVALID_TENSOR", "indexes")
    compressed.indexes_crc32c.extend([1, 2])
    error = refusal(stub.Decompress, coding_pb2.DecompressRequest(compressed=compressed))
    assert (error.reason, error.violations[0].field) == ("INVALID_REQUEST", "compressed.indexes_crc32c")


def test_perturb_takes_indexes_and_gives_their_gradient(channel: grpc.Channel) -> None:
    stub: Any = model_pb2_grpc.ModelServiceStub(channel)
    function = priors.log_spaced(0.5, 16.0, axis=1)
    prior = priors.indexed("NoisyNormal", (2, 8), loc=priors.affine(0.0, 1.0), scale=function)
    config = entropyd.ContinuousIndexedConfig(prior=prior, coding_rank=2, channel_axis=1, compression=False)
    stub.CreateModel(model_pb2.CreateModelRequest(config=config_to_message(config)))
    rng = np.random.default_rng(0)
    values = rng.normal(0, 3, (3, *UNIT_SHAPE)).astype(np.float32)
    indexes = rng.uniform(0, 7, (3, 2, *UNIT_SHAPE)).astype(np.float32)

    def perturb(indexes: npt.NDArray[np.float32]) -> model_pb2.PerturbResponse:
        response: model_pb2.PerturbResponse = stub.Perturb(
            model_pb2.PerturbRequest(
                model_id=config.model_id,
                bottleneck=tensor_to_message(values),
                indexes=tensor_to_message(indexes),
                index_gradient=True,
            )
        )
        return response

    response = perturb(indexes)
    _, gradient = array_from_message(response.index_gradient, "index_gradient")
    assert gradient.shape == indexes.shape
    # Unit by unit a step against the gradient makes the bits fewer.
    _, bits = array_from_message(response.bits, "bits")
    _, fewer = array_from_message(perturb(indexes - 1e-2 * gradient).bits, "bits")
    assert (fewer < bits).all()
    indexes[1, 1, 2, 3] = np.nan
    error = refusal(
        stub.Perturb,
        model_pb2.PerturbRequest(
            model_id=config.model_id, bottleneck=tensor_to_message(values), indexes=tensor_to_message(indexes)
        ),
    )
    assert error.message.startswith("indexes[1, 1, 2, 3] is NaN")


def test_perturb_without_training_restores_what_decompress_does_whatever_the_first_unit(
    channel: grpc.Channel, stub: Any, models: dict[str, Indexed]
) -> None:
    model, kinds = models["universal_indexed"], model_pb2_grpc.ModelServiceStub(channel)
    values, plane = drawn(model, 3)
    compressed = stub.Compress(compress_request(model, values, plane, first_unit=11)).compressed
    request = model_pb2.PerturbRequest(
        model_id=model.id,
        bottleneck=tensor_to_message(values),
        indexes=tensor_to_message(plane[..., None]),
        first_unit=11,
    )
    _, perturbed = array_from_message(kinds.Perturb(request).perturbed, "perturbed")
    assert np.array_equal(perturbed, array_of(stub.Decompress(decompress_request(compressed, plane))))


def test_a_power_law_model_codes_without_tables(channel: grpc.Channel, stub: Any) -> None:
    config = entropyd.PowerLawConfig(coding_rank=2)
    kinds: Any = model_pb2_grpc.ModelServiceStub(channel)
    kinds.CreateModel(model_pb2.CreateModelRequest(config=config_to_message(config)))
    values = np.random.default_rng(0).standard_cauchy((3, *UNIT_SHAPE)).astype(np.float32)
    request = coding_pb2.CompressRequest(model_id=config.model_id, bottleneck=tensor_to_message(values))
    compressed = stub.Compress(request).compressed
    assert compressed.tables_digest == b""
    assert not compressed.indexes_crc32c
    restored = array_of(stub.Decompress(coding_pb2.DecompressRequest(compressed=compressed)))
    assert np.array_equal(restored, np.rint(values))
    del compressed.blocks[:]
    compressed.payload, compressed.lengths[-1] = compressed.payload[:-2], compressed.lengths[-1] - 2
    error = refusal(stub.Decompress, coding_pb2.DecompressRequest(compressed=compressed))
    assert (error.reason, error.metadata["units"]) == ("CORRUPT_STRING", "2")
    policy = coding_pb2.ERROR_POLICY_SKIP
    response = stub.Decompress(coding_pb2.DecompressRequest(compressed=compressed, error_policy=policy))
    assert [failed.unit for failed in response.unit_errors] == [2]
    assert np.array_equal(array_of(response)[:2], np.rint(values[:2]))
    error = refusal(kinds.GetTables, model_pb2.GetTablesRequest(model_id=config.model_id))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "MODEL_WITHOUT_TABLES")
    penalty = kinds.Perturb(
        model_pb2.PerturbRequest(model_id=config.model_id, bottleneck=request.bottleneck, gradient=True)
    )
    expected = np.log((np.abs(values) + 0.01) / 0.01).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(array_from_message(penalty.bits, "bits")[1], expected, rtol=1e-5)


def test_only_batches_of_priors_are_fitted(channel: grpc.Channel) -> None:
    kinds: Any = model_pb2_grpc.ModelServiceStub(channel)
    for config in (indexed_config("universal_indexed"), entropyd.PowerLawConfig(coding_rank=1)):
        fit = model_pb2.FitConfiguration(config=config_to_message(config))
        messages = [model_pb2.FitModelRequest(configuration=fit)]
        error = refusal(lambda requests: list(kinds.FitModel(iter(requests))), messages)
        assert error.reason == "INVALID_CONFIG"
        assert error.message.startswith(f"config.kind is {config.kind}; expected")
