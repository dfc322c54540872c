"""Servers that lack roles: what they answer, and how they refuse the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import entropyd
from entropyd import priors
from entropyd.v1 import coding_pb2, model_pb2
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator

CODING = coding_pb2.DESCRIPTOR.services_by_name["CodingService"]
MODELS = model_pb2.DESCRIPTOR.services_by_name["ModelService"]
CODING_METHODS = [method.name for method in CODING.methods]
MODEL_METHODS = [method.name for method in MODELS.methods]
# The methods that always need workers.
WORK = ["Perturb", "FitModel"]

CDF, CDF_OFFSET = np.array([-4, 0, 3, 16, -4, 0, 1, 2, 16], np.int32), np.array([-1, 5], np.int32)
PRIOR = priors.NoisyNormal(0.0, [1.0, 2.0])
X = np.random.default_rng(0).normal(0, 9, (3, 8, 2)).astype(np.float32)
SUPPLIED: dict[str, entropyd.ModelConfig] = {
    "universal": entropyd.UniversalBatchedConfig(
        prior=PRIOR, coding_rank=2, num_noise_levels=1, range_coder_precision=4, tables=(CDF, CDF_OFFSET)
    ),
    "continuous": entropyd.ContinuousBatchedConfig(
        prior_shape=(2,),
        coding_rank=2,
        range_coder_precision=4,
        cdf=CDF,
        cdf_offset=CDF_OFFSET,
        offset_heuristic=False,
    ),
    "power law": entropyd.PowerLawConfig(coding_rank=2),
}
BUILT = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, [1.0, 2.5]), coding_rank=2)


@pytest.fixture(scope="module")
def registry(store_url: str) -> Iterator[LocalServer]:
    """A server with the registry alone, on the store of the shared server."""
    with LocalServer("--role", "registry", store=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def coding(store_url: str) -> Iterator[LocalServer]:
    """A server with the coding role alone, on that store too."""
    with LocalServer("--role", "coding", store=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def objects(registry: LocalServer) -> Iterator[entropyd.Client]:
    with entropyd.Client(registry.target) as client:
        yield client


def refusal(target: str, path: str) -> tuple[Any, str, str, dict[str, str]]:
    """How a call with an empty message ends: code, message, reason, metadata."""
    with grpc.insecure_channel(target) as channel:
        untyped: Any = channel
        call = untyped.stream_stream(path)(iter([b""]), timeout=60)
        with pytest.raises(grpc.RpcError):
            list(call)
        trailing = dict(call.trailing_metadata())
    status = status_pb2.Status.FromString(cast("bytes", trailing["grpc-status-details-bin"]))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return call.code(), call.details(), info.reason, dict(info.metadata)


def check_refused(target: str, service: str, method: str, role: str) -> None:
    code, message, reason, metadata = refusal(target, f"/{service}/{method}")
    assert (code, reason) == (grpc.StatusCode.UNIMPLEMENTED, "ROLE_MISSING")
    assert (metadata["role"], metadata["method"]) == (role, method)
    assert message.startswith(
        f"{method} needs the {role} role, which this server does not have; start one with"
    )
    assert f"--role {role}" in message


@pytest.mark.parametrize("method", CODING_METHODS)
def test_a_registry_codes_nothing(registry: LocalServer, method: str) -> None:
    check_refused(registry.target, CODING.full_name, method, "coding")


@pytest.mark.parametrize("method", WORK)
def test_a_registry_does_no_work(registry: LocalServer, method: str) -> None:
    check_refused(registry.target, MODELS.full_name, method, "modeling")


@pytest.mark.parametrize("method", MODEL_METHODS)
def test_a_coding_server_has_no_models(coding: LocalServer, method: str) -> None:
    check_refused(coding.target, MODELS.full_name, method, "registry")


@pytest.mark.parametrize("method", [name for name in MODEL_METHODS if name not in WORK])
def test_a_registry_has_all_other_methods_of_models(registry: LocalServer, method: str) -> None:
    """An empty message is answered, or refused for what it says."""
    with grpc.insecure_channel(registry.target) as channel:
        untyped: Any = channel
        call = untyped.unary_unary(f"/{MODELS.full_name}/{method}")
        try:
            call(b"", timeout=60)
        except grpc.RpcError as error:
            refused: Any = error
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", SUPPLIED)
def test_a_model_with_supplied_tables_is_made_and_kept_without_workers(
    kind: str, objects: entropyd.Client, coding: LocalServer, client: entropyd.Client
) -> None:
    config = SUPPLIED[kind]
    model = objects.create_model(config)
    assert model.id == config.model_id == client.model(model.id).id
    assert objects.create_model(config).id == model.id
    assert model.id in {found.id for found in objects.models()}
    if config.has_tables:
        np.testing.assert_array_equal(model.cdf, CDF)
    assert objects.import_model(model.export()).info == model.info
    with entropyd.Client(coding.target) as other:
        codec = entropyd.Model(other._session, model.info)
        restored = codec.decompress(codec.compress(X))
    assert np.abs(restored - X).max() <= 0.5 + 1e-6
    objects.delete_model(model.id)
    with pytest.raises(entropyd.ModelNotFoundError):
        objects.model(model.id)


def test_weights_that_bring_tables_are_set_and_others_need_modeling(
    objects: entropyd.Client, model: entropyd.Model
) -> None:
    supplied = objects.create_model(SUPPLIED["universal"])
    weights = supplied.get_weights()
    assert supplied.set_weights(weights).id == supplied.id
    changed = supplied.set_weights([np.where(weights[0] == 3, 5, weights[0]), *weights[1:]])
    assert changed.id != supplied.id
    bare = entropyd.UniversalBatchedConfig(prior=PRIOR, coding_rank=2, compression=False)
    with pytest.raises(entropyd.RoleMissingError) as caught:
        objects.create_model(BUILT)
    assert (caught.value.role, caught.value.metadata["method"]) == ("modeling", "CreateModel")
    assert objects.create_model(bare).id == bare.model_id  # it has no tables
    stateless = objects.model(model.id)
    assert stateless.set_weights(stateless.get_weights()).id == model.id


def test_weights_of_a_prior_whose_tables_are_built_need_modeling(
    objects: entropyd.Client, client: entropyd.Client
) -> None:
    stateless = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyDeepFactorized((2,), (2,), init_scale=3), coding_rank=1, stateless=True
    )
    built = client.create_model(stateless)
    there = objects.model(built.id)
    weights = there.get_weights()
    assert weights
    with pytest.raises(
        entropyd.RoleMissingError, match="building the tables of this universal_batched"
    ) as caught:
        there.set_weights([weight + np.float32(0.5) for weight in weights])
    assert (caught.value.role, caught.value.metadata["method"]) == ("modeling", "SetWeights")


def test_a_registry_finds_models_that_were_built_elsewhere(
    objects: entropyd.Client, model: entropyd.Model
) -> None:
    assert objects.create_model(model.config).info == model.info
    assert objects.import_model(model.export()).id == model.id


def test_the_client_says_which_role_is_missing(objects: entropyd.Client, coding: LocalServer) -> None:
    model = objects.create_model(SUPPLIED["continuous"])
    for call, role in (
        (lambda: model.compress(X), "coding"),
        (lambda: objects.create_model(BUILT), "modeling"),
        (lambda: model(X, training=False), "modeling"),
        (lambda: objects.fit_model(BUILT, np.zeros((100, 2), np.float32)), "modeling"),
    ):
        with pytest.raises(entropyd.RoleMissingError, match=f"--role {role}") as caught:
            call()
        assert caught.value.role == role
    with entropyd.Client(coding.target) as other:
        with pytest.raises(entropyd.UnimplementedError, match="--role registry"):
            other.model(model.id)


def test_servers_tell_their_roles(
    registry: LocalServer, coding: LocalServer, client: entropyd.Client
) -> None:
    assert client.server_info().roles == ("coding", "modeling", "registry")
    for server, role, served, other in (
        (registry, "registry", MODELS, CODING),
        (coding, "coding", CODING, MODELS),
    ):
        with entropyd.Client(server.target) as alone:
            assert alone.server_info().roles == (role,)
        with grpc.insecure_channel(server.target) as channel:
            listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
            assert served.full_name in listed
            assert other.full_name not in listed
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(service=served.full_name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                health.Check(health_pb2.HealthCheckRequest(service=other.full_name))
            unknown: Any = caught.value
            assert unknown.code() is grpc.StatusCode.NOT_FOUND
