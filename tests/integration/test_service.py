"""What a client can rely on, against a real server."""

from __future__ import annotations

import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import entropyd
from entropyd import priors
from entropyd.v1 import coding_pb2, coding_pb2_grpc, model_pb2, model_pb2_grpc, types_pb2
from tests.support.transports import Current

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd_server.local import LocalServer

    Floats = npt.NDArray[np.floating[Any]]


def bottleneck(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def waits(server: LocalServer) -> int:
    """How often threads of a server have waited for something."""
    threads = psutil.Process(server.process.pid).threads()
    return sum(psutil.Process(thread.id).num_ctx_switches().voluntary for thread in threads)


class TestCoding:
    def test_decompressing_restores_to_within_half_a_step(self, model: entropyd.Model) -> None:
        x = bottleneck(5, 4, 3)
        restored = model.decompress(model.compress(x))
        assert restored.shape == x.shape
        assert restored.dtype == x.dtype
        assert np.abs(x - restored).max() <= 0.5 + 1e-6

    def test_strings_are_shaped_like_the_batch(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(2, 5, 4, 3))
        assert compressed.strings.shape == (2, 5)
        assert compressed.broadcast_shape == (4,)
        assert all(isinstance(string, bytes) for string in compressed.strings.flat)

    def test_bare_strings_decode_as_in_tfc(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(2, 5, 4, 3))
        np.testing.assert_array_equal(
            model.decompress(compressed.strings, (4,)), model.decompress(compressed)
        )

    def test_a_unit_decodes_alone_as_it_does_among_others(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(3, 5, 4, 3))
        whole = model.decompress(compressed)
        for key in (1, slice(1, 3), (2, 4), (slice(None), -1)):
            np.testing.assert_array_equal(model.decompress(compressed[key]), whole[key])

    def test_bytes_do_not_depend_on_the_batch(self, model: entropyd.Model) -> None:
        x = bottleneck(6, 4, 3)
        together = model.compress(x).strings
        assert [model.compress(unit).strings[()] for unit in x] == together.tolist()

    def test_an_empty_batch_has_no_strings_and_comes_back_empty(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(0, 4, 3))
        assert compressed.strings.shape == (0,)
        assert model.decompress(compressed).shape == (0, 4, 3)

    def test_units_without_symbols_are_empty_strings(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(2, 0, 3))
        assert compressed.strings.tolist() == [b"", b""]
        assert model.decompress(compressed).shape == (2, 0, 3)

    def test_an_axis_of_length_one_is_repeated(self, model: entropyd.Model) -> None:
        x = bottleneck(2, 4, 1)
        repeated = np.broadcast_to(x, (2, 4, 3))
        assert model.compress(x).strings.tolist() == model.compress(repeated).strings.tolist()

    def test_lists_of_numbers_are_taken_as_the_models_dtype(self, model: entropyd.Model) -> None:
        numbers = [[0.5, -1.25, 3.0]]
        array = np.array(numbers, np.float32)
        assert model.compress(numbers).strings.tolist() == model.compress(array).strings.tolist()

    def test_concurrent_callers_get_their_own_answers(self, model: entropyd.Model) -> None:
        arrays = [bottleneck(2, 1 + seed % 50, 3, seed=seed) for seed in range(200)]

        def round_trip(x: Floats) -> float:
            return float(np.abs(model.decompress(model.compress(x)) - x).max())

        with ThreadPoolExecutor(16) as pool:
            assert max(pool.map(round_trip, arrays)) <= 0.5 + 1e-6

    def test_the_rate_report_counts_what_was_coded(self, model: entropyd.Model) -> None:
        x = np.zeros((2, 4, 3), np.float32)
        x[0, 0] = 1000  # far outside every row
        rate = model.compress(x).rate
        assert rate is not None
        assert (rate.symbols, rate.escaped_symbols, rate.uncompressed_bytes) == (24, 3, x.nbytes)
        assert rate.compressed_bytes == len(model.compress(x).payload)


class TestRefusals:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((4, 3), np.float64), "float64.*float32"),
            (np.zeros(3, np.float32), "rank 1.*coding_rank 2"),
            (np.zeros((4, 2), np.float32), r"bottleneck.shape\[1\] is 2; expected 3"),
            (np.full((2, 4, 3), np.nan, np.float32), "coding unit 0.*NaN"),
            (np.full((4, 3), -np.inf, np.float32), "coding unit 0.*-inf"),
            (np.full((4, 3), 2.0**30 + 4096, np.float32), r"coding unit 0.*2\^30"),
        ],
    )
    def test_a_tensor_that_cannot_be_coded_is_named(
        self, model: entropyd.Model, x: Floats, message: str
    ) -> None:
        with pytest.raises(entropyd.InvalidTensorError, match=message):
            model.compress(x)

    def test_the_bad_element_is_named(self, model: entropyd.Model) -> None:
        x = bottleneck(3, 4, 3)
        x[2, 1, 2] = np.nan
        with pytest.raises(entropyd.InvalidTensorError, match=r"coding unit 2, element \(1, 2\): NaN"):
            model.compress(x)

    def test_a_corrupt_string_costs_only_its_unit(self, model: entropyd.Model) -> None:
        compressed = model.compress(bottleneck(4, 20, 3))
        strings = compressed.strings.copy()
        strings[2] += b"more"
        with pytest.raises(entropyd.CorruptStringError, match="coding unit 2") as caught:
            model.decompress(strings, (20,))
        assert caught.value.units == (2,)
        good = [0, 1, 3]
        np.testing.assert_array_equal(caught.value.partial[good], model.decompress(compressed)[good])
        assert np.isnan(caught.value.partial[2]).all()

    def test_a_changed_byte_fails_the_checksum(self, server: LocalServer, model: entropyd.Model) -> None:
        message = model.compress(bottleneck(4, 20, 3)).to_message()
        message.payload = bytes([message.payload[0] ^ 1]) + message.payload[1:]
        with grpc.insecure_channel(server.target) as channel:
            stub = coding_pb2_grpc.CodingServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Decompress(coding_pb2.DecompressRequest(compressed=message))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "checksum" in str(caught.value.details())

    def test_strings_of_other_tables_are_refused_before_decoding(self, model: entropyd.Model) -> None:
        message = model.compress(bottleneck(4, 3)).to_message()
        message.tables_digest = bytes(32)
        with pytest.raises(entropyd.TablesMismatchError, match="garbage"):
            model.decompress(entropyd.CompressedTensor.from_message(message))

    def test_strings_of_another_model_are_refused(
        self, client: entropyd.Client, model: entropyd.Model
    ) -> None:
        other = client.create_model(
            entropyd.UniversalBatchedConfig(prior=priors.NoisyLaplace(0.0, [1.0] * 3), coding_rank=2)
        )
        with pytest.raises(entropyd.InvalidRequestError, match="this model is"):
            model.decompress(other.compress(bottleneck(4, 3)))

    def test_a_tiny_request_for_a_huge_array_is_refused(self, model: entropyd.Model) -> None:
        with pytest.raises(entropyd.LimitExceededError, match="max_message_bytes"):
            model.decompress([b""], (2**40,))

    def test_a_message_above_the_limit_is_refused_before_it_is_sent(self, model: entropyd.Model) -> None:
        with pytest.raises(entropyd.LimitExceededError, match="max_message_bytes of 67108864"):
            model.compress(np.zeros((6 * 2**20, 3), np.float32))

    def test_unknown_models_are_not_found(self, client: entropyd.Client) -> None:
        with pytest.raises(entropyd.ModelNotFoundError, match="0" * 64):
            client.model("0" * 64)

    def test_ids_that_are_none_are_refused(self, client: entropyd.Client) -> None:
        with pytest.raises(entropyd.InvalidRequestError, match="expected an id, at least its first 6 digits"):
            client.model("../../etc/passwd")

    def test_a_model_without_compression_says_so(self, client: entropyd.Client) -> None:
        config = entropyd.UniversalBatchedConfig(
            prior=priors.NoisyNormal(0.0, 1.0), coding_rank=1, compression=False
        )
        model = client.create_model(config)
        with pytest.raises(entropyd.ModelStateError, match="compression=False"):
            model.compress(np.zeros(3, np.float32))
        with pytest.raises(entropyd.ModelStateError, match="compression=False"):
            _ = model.cdf
        with pytest.raises(RuntimeError, match="compression=False"):
            model.get_config()

    def test_every_wrong_field_of_a_config_is_named_at_once(self, server: LocalServer) -> None:
        config = types_pb2.UniversalBatchedConfig(
            prior=types_pb2.Prior(
                family="NoisyNormal",
                parameters={
                    "loc": types_pb2.PriorParameter(number=float("nan")),
                    "scale": types_pb2.PriorParameter(number=-1),
                },
            ),
            coding_rank=1,
        )
        request = model_pb2.CreateModelRequest(config=types_pb2.ModelConfig(universal_batched=config))
        with grpc.insecure_channel(server.target) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                model_pb2_grpc.ModelServiceStub(channel).CreateModel(request)
        assert "prior.loc is nan" in str(caught.value.details())
        assert "prior.scale is -1.0" in str(caught.value.details())

    def test_a_dead_address_is_unavailable(self) -> None:
        with entropyd.Client("127.0.0.1:1", timeout_s=10) as nobody:
            with pytest.raises(entropyd.UnavailableError) as caught:
                nobody.server_info()
        assert caught.value.reason == "UNREACHABLE"

    def test_a_deadline_that_passes_is_said_so(self, client: entropyd.Client) -> None:
        prior = priors.NoisyNormal(0.0, np.linspace(1, 9, 40))
        config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1)
        with pytest.raises(entropyd.DeadlineExceededError):
            client.create_model(config, timeout_s=0.02)
        # The build went on without its caller.
        assert client.create_model(config).id == config.model_id


class TestModels:
    def test_the_same_configuration_is_the_same_model(
        self, client: entropyd.Client, model: entropyd.Model
    ) -> None:
        again = client.create_model(model.config)
        assert again.id == model.id == model.config.model_id
        assert again.tables_digest == model.tables_digest

    def test_a_model_says_all_that_tfcs_does(self, client: entropyd.Client, model: entropyd.Model) -> None:
        found = client.model(model.id)
        assert found.config == model.config
        assert found.prior == model.config.prior
        assert found.prior_shape == (3,)
        assert found.prior_shape_tensor.tolist() == [3]
        assert found.coding_rank == 2
        assert found.bottleneck_dtype == np.float32
        assert found.compression
        assert not found.stateless
        assert not found.expected_grads
        assert found.decode_sanity_check
        assert found.laplace_tail_mass == 0
        assert found.tail_mass == 2**-8
        assert found.range_coder_precision == 12 == -found.cdf[0]
        assert found.num_noise_levels == 15
        assert len(found.cdf_offset) == 15 * 3
        assert found.name == "universal_batched_entropy_model"
        assert entropyd.UniversalBatchedConfig.from_dict(found.get_config()) == found.config
        assert found.built_with["tensorflow_compression"] == "2.14.1"

    def test_models_are_listed_until_they_are_deleted(self, client: entropyd.Client) -> None:
        config = entropyd.UniversalBatchedConfig(
            prior=priors.NoisyLogistic(0.25, 1.0), coding_rank=1, num_noise_levels=2
        )
        model = client.create_model(config)
        ids = [listed.id for listed in client.models()]
        assert model.id in ids
        assert ids == sorted(ids)
        client.delete_model(model.id)
        assert model.id not in [listed.id for listed in client.models()]
        with pytest.raises(entropyd.ModelNotFoundError):
            client.delete_model(model.id)
        with pytest.raises(entropyd.ModelNotFoundError):
            model.compress(np.zeros(2, np.float32))

    def test_the_first_digits_of_an_id_stand_for_it(self, client: entropyd.Client) -> None:
        prior = priors.NoisyNormal(0.25, 1.0)
        created = client.create_model(
            entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1)
        )
        assert {client.model(created.id[:digits]).id for digits in (10, 40, 63, 64)} == {created.id}
        client.delete_model(created.id[:20])
        for digits in (20, 64):
            with pytest.raises(entropyd.ModelNotFoundError, match=created.id[:20]):
                client.model(created.id[:digits])
        with pytest.raises(entropyd.InvalidRequestError, match="at least its first 6 digits"):
            client.model(created.id[:5])

    def test_a_whole_id_takes_no_call_more(
        self, client: entropyd.Client, model: entropyd.Model, status_url: str
    ) -> None:
        def listings() -> float:
            figures = urllib.request.urlopen(f"{status_url}metrics").read().decode()  # noqa: S310 - our own server
            found = re.findall(
                r'^entropyd_requests_total{.*method="ListModels".*} (\S+)$', figures, re.MULTILINE
            )
            return sum(map(float, found))

        before = listings()
        assert client.model(model.id).id == model.id
        assert listings() == before
        assert client.model(model.id[:12]).id == model.id
        assert listings() == before + 1

    def test_pages_join_to_the_whole_list(self, server: LocalServer, client: entropyd.Client) -> None:
        for scale in (1.0, 2.0, 3.0):
            prior = priors.NoisyLaplace(0.0, scale)
            client.create_model(
                entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1)
            )
        with grpc.insecure_channel(server.target) as channel:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            ids, token = [], ""
            while True:
                page = stub.ListModels(model_pb2.ListModelsRequest(page_size=2, page_token=token))
                assert len(page.models) <= 2
                ids += [model.model_id for model in page.models]
                token = page.next_page_token
                if not token:
                    break
        assert ids == [model.id for model in client.models()]

    def test_concurrent_creation_builds_once(self, client: entropyd.Client) -> None:
        prior = priors.NoisyNormal(0.0, [1.5, 2.5])
        config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1)
        with ThreadPoolExecutor(8) as pool:
            models = list(pool.map(lambda _: client.create_model(config), range(8)))
        assert {(model.id, model.tables_digest) for model in models} == {
            (config.model_id, models[0].tables_digest)
        }


class TestSurroundings:
    def test_health_has_a_name_per_service(self, server: LocalServer) -> None:
        with grpc.insecure_channel(server.target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "entropyd.v1.CodingService", "entropyd.v1.ModelService", "entropyd.liveness"):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    def test_small_calls_pass_through_one_thread(self, server: LocalServer, model: entropyd.Model) -> None:
        if Current.transport.name == "aio":
            pytest.skip("grpc.aio hands each event from thread to thread")
        x, calls = bottleneck(4, 3), 300
        model.compress(x)
        before = waits(server)
        for _ in range(calls):
            model.compress(x)
        # It waits for each call once; with threads of gRPC's own in between, there are six waits.
        assert waits(server) - before < 3 * calls

    def test_reflection_lists_the_services(self, server: LocalServer) -> None:
        with grpc.insecure_channel(server.target) as channel:
            services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert {
            "entropyd.v1.CodingService",
            "entropyd.v1.ModelService",
            "entropyd.v1.InfoService",
            "grpc.health.v1.Health",
        } <= services

    def test_the_server_publishes_its_limits(self, client: entropyd.Client) -> None:
        info = client.server_info()
        assert info.roles == ("coding", "modeling", "registry")
        assert info.devices == ("cpu",)
        assert info.max_message_bytes == 64 * 1024 * 1024
        assert info.max_build_seconds == 60
