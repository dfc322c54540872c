"""Laws of making models: one build per configuration however many ask, and what callers get is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import pytest
from prometheus_client import CollectorRegistry

from entropyd import (
    ContinuousIndexedConfig,
    DataLossError,
    InvalidConfigError,
    InvalidTensorError,
    LimitExceededError,
    LocationScaleIndexedConfig,
    ModelNotFoundError,
    ModelStateError,
    OverloadedError,
    PermissionDeniedError,
    PowerLawConfig,
    TablesMismatchError,
    TabulatedConfig,
    UnavailableError,
    UniversalBatchedConfig,
    UniversalIndexedConfig,
    priors,
)
from entropyd.contract.tables import RawTables
from entropyd_server.coding.tables import CodingTables
from entropyd_server.limits import Limits
from entropyd_server.metrics import Metrics
from entropyd_server.models import creation
from entropyd_server.models.cache import LoadedModel, ModelCache
from entropyd_server.models.creation import ModelCreator
from entropyd_server.models.importing import ModelImporter
from entropyd_server.models.quota import ModelQuota
from entropyd_server.models.weights import weights_of, with_weights
from entropyd_server.store import model_object
from entropyd_server.store.model_object import TablesOrigin
from entropyd_server.store.model_store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from entropyd.contract.config import ModelConfig

ROW = [-4, 0, 5, 11, 16]
LIMITS = Limits(max_message_bytes=4096, max_model_bytes=4096, max_build_seconds=1)


@dataclass
class Tables:
    """What a worker hands back."""

    tables: RawTables
    built_with: Mapping[str, str]


@dataclass
class Builder:
    """Builds the same row for every element of a prior, once it is let go."""

    precision: int = 4
    failure: Exception | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    builds: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.go.set()

    async def build_tables(self, config: ModelConfig, caller: str) -> Tables:
        self.builds.append(config.model_id)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(config.model_id)
            raise
        if self.failure is not None:
            raise self.failure
        row = [-self.precision, 0, 1 << self.precision]
        rows = config.table_rows
        return Tables(RawTables(np.array(row * rows, np.int32), np.zeros(rows, np.int32)), {"builder": "1"})


class Server:
    """What creating models needs, on a store in memory unless one is given."""

    def __init__(self, builder: Any, store: ModelStore | None = None, limits: Limits = LIMITS) -> None:
        self.metrics = Metrics("test")
        self.store = ModelStore("memory:///") if store is None else store
        self.models = ModelCache(self.store, 1 << 20, self.metrics)
        self.quota = ModelQuota(self.store, limits.max_models_per_caller)
        most_bytes = limits.max_model_bytes
        self.creator = ModelCreator(self.models, self.quota, builder, most_bytes, self.metrics)
        self.importer = ModelImporter(self.store, self.models, self.quota, most_bytes)

    def count(self, name: str, **labels: str) -> float:
        registry = CollectorRegistry()
        registry.register(self.metrics)
        return registry.get_sample_value(name, labels) or 0.0


def config(**fields: Any) -> UniversalBatchedConfig:
    defaults: dict[str, Any] = {"prior": priors.NoisyNormal(0.0, [1.0, 2.0]), "coding_rank": 1}
    return UniversalBatchedConfig(**{**defaults, "num_noise_levels": 3, "range_coder_precision": 4, **fields})


async def until(condition: Callable[[], object]) -> None:
    """Waits for what a task or a thread of the store will do; a test that waits too long has failed."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a store's thread sets no event
            await asyncio.sleep(0.001)


def digest(model: LoadedModel) -> bytes:
    assert model.codec is not None
    return model.codec.tables_digest


def refused(
    creator_config: UniversalBatchedConfig, builder: Builder | None = None, **limits: int
) -> Exception:
    async def scenario() -> Exception:
        changed = Limits(**{**vars(LIMITS), **limits})
        server = Server(builder or Builder(), limits=changed)
        with pytest.raises((InvalidConfigError, LimitExceededError, UnavailableError)) as caught:
            await server.creator.create(creator_config)
        with pytest.raises(ModelNotFoundError):
            await server.store.load(creator_config.model_id)
        return caught.value

    return asyncio.run(scenario())


def test_a_created_model_is_in_the_store_and_at_hand() -> None:
    async def scenario() -> None:
        server = Server(Builder())
        model, created = await server.creator.create(config())
        assert created
        stored = await server.store.load(config().model_id)
        assert stored.tables is not None
        assert stored.tables.digest == digest(model)
        assert stored.built_with == {"builder": "1"}
        assert (await server.models.model(config().model_id)) is model
        assert server.count("entropyd_table_build_seconds_count") == 1

    asyncio.run(scenario())


def test_one_configuration_is_built_once_however_many_ask() -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder)
        callers = [asyncio.create_task(server.creator.create(config())) for _ in range(8)]
        await until(lambda: builder.builds)
        builder.go.set()
        answers = await asyncio.gather(*callers)
        assert builder.builds == [config().model_id]
        assert len({digest(model) for model, _ in answers}) == 1
        assert [created for _, created in answers].count(True) == 1
        assert (await server.creator.create(config()))[1] is False
        assert builder.builds == [config().model_id]

    asyncio.run(scenario())


def test_other_configurations_are_built_side_by_side() -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder)
        callers = [asyncio.create_task(server.creator.create(config(coding_rank=rank))) for rank in (1, 2, 3)]
        await until(lambda: len(builder.builds) == 3)
        builder.go.set()
        assert all(created for _, created in await asyncio.gather(*callers))

    asyncio.run(scenario())


def test_a_build_is_cancelled_when_its_last_caller_leaves() -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder)
        callers = [asyncio.create_task(server.creator.create(config())) for _ in range(2)]
        await until(lambda: builder.builds)
        for caller in callers:
            assert not builder.cancelled
            caller.cancel()
            await asyncio.wait({caller})
        await until(lambda: builder.cancelled)
        builder.go.set()
        # Whoever comes back has it built anew.
        assert (await server.creator.create(config()))[1]
        assert len(builder.builds) == 2

    asyncio.run(scenario())


def test_a_model_that_is_being_stored_is_charged_though_its_caller_leaves() -> None:
    async def scenario() -> None:
        server = Server(Builder(), limits=Limits(**{**vars(LIMITS), "max_models_per_caller": 1}))
        storing, go = asyncio.Event(), asyncio.Event()
        create = server.store.create

        async def slow(*arguments: Any, **named: Any) -> Any:
            storing.set()
            await go.wait()
            return await create(*arguments, **named)

        setattr(server.store, "create", slow)  # noqa: B010 - a store that takes its time
        caller = asyncio.create_task(server.creator.create(numbered(0), "alice"))
        await storing.wait()
        caller.cancel()
        await asyncio.wait({caller})
        go.set()
        await until(lambda: not server.quota._making["alice"])
        with pytest.raises(LimitExceededError):
            await server.creator.create(numbered(1), "alice")

    asyncio.run(scenario())


def test_a_model_that_another_server_stored_is_found_and_not_built() -> None:
    async def scenario() -> None:
        store, builder = ModelStore("memory:///"), Builder()
        first, _ = await Server(Builder(), store).creator.create(config())
        second, created = await Server(builder, store).creator.create(config())
        assert not created
        assert builder.builds == []
        assert digest(second) == digest(first)

    asyncio.run(scenario())


def test_where_two_servers_build_at_a_time_the_first_tables_win_for_both() -> None:
    async def scenario() -> None:
        store = ModelStore("memory:///")
        slow = Builder()
        slow.go.clear()
        server = Server(slow, store)
        caller = asyncio.create_task(server.creator.create(config()))
        await until(lambda: slow.builds)
        cdf = np.array(ROW * config().table_rows)
        other = CodingTables.parse(cdf, [-1] * config().table_rows)
        await store.create(config(), other, {})
        slow.go.set()
        model, created = await caller
        assert not created
        assert digest(model) == other.digest
        assert digest(await server.models.model(config().model_id)) == other.digest

    asyncio.run(scenario())


def test_a_build_that_fails_reaches_its_callers_and_can_be_tried_again() -> None:
    async def scenario() -> None:
        builder = Builder(failure=UnavailableError("the worker died", reason="WORKER_LOST"))
        server = Server(builder)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="the worker died"):
                await server.creator.create(config())
        builder.failure = None
        assert (await server.creator.create(config()))[1]
        assert len(builder.builds) == 3

    asyncio.run(scenario())


def test_supplied_tables_are_stored_as_they_are_and_nothing_is_built() -> None:
    async def scenario() -> None:
        builder = Builder()
        supplied = config(tables=(ROW * 6, [-1] * 6))
        model, created = await Server(builder).creator.create(supplied)
        assert created
        assert builder.builds == []
        assert digest(model) == CodingTables.parse(ROW * 6, [-1] * 6).digest
        assert model.stored.built_with == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_supplied_tables_with_other_rows_than_the_model_are_refused(rows: int) -> None:
    error = refused(config(tables=(ROW * rows, [-1] * rows)))
    assert isinstance(error, InvalidConfigError)
    assert f"has {rows} rows; expected 6" in str(error)


def test_supplied_tables_are_refused_with_all_that_does_not_fit() -> None:
    error = refused(config(tables=(ROW * 5, [-1] * 5), range_coder_precision=5))
    assert isinstance(error, InvalidConfigError)
    assert sorted(violation.field for violation in error.violations) == ["range_coder_precision", "tables"]


def test_supplied_tables_that_are_not_legal_are_refused() -> None:
    error = refused(config(tables=([*ROW[:-1], 15] * 6, [-1] * 6)))
    assert isinstance(error, InvalidConfigError)
    assert all("ends with 15" in violation.description for violation in error.violations)


@pytest.mark.parametrize("supplied", [True, False])
def test_tables_above_the_limit_are_refused_with_the_limit(supplied: bool) -> None:
    large = config(tables=(ROW * 6, [-1] * 6)) if supplied else config()
    error = refused(large, max_model_bytes=50)
    assert isinstance(error, LimitExceededError)
    assert error.metadata == {"limit": "max_model_bytes", "value": "50"}


def test_tables_that_a_worker_builds_must_fit_the_model_too() -> None:
    error = refused(config(), Builder(precision=5))
    assert isinstance(error, InvalidConfigError)


def test_a_model_without_compression_has_no_codec_and_is_not_built() -> None:
    async def scenario() -> None:
        builder = Builder()
        server = Server(builder)
        bare = config(compression=False)
        model, created = await server.creator.create(bare)
        assert created
        assert model.codec is None
        assert builder.builds == []
        with pytest.raises(ModelStateError) as caught:
            await server.models.codec(bare.model_id)
        assert caught.value.metadata == {"model_id": bare.model_id}

    asyncio.run(scenario())


def test_a_kind_without_tables_needs_no_worker() -> None:
    async def scenario() -> None:
        server = Server(builder=None)
        power_law = PowerLawConfig(1, 0.5)
        model, created = await server.creator.create(power_law)
        assert created
        assert (model.stored.tables, digest(model)) == (None, b"")
        assert await server.models.codec(power_law.model_id) is model.codec
        with pytest.raises(ModelStateError, match="of kind power_law, which has no coding tables") as caught:
            await server.models.tables(power_law.model_id)
        assert caught.value.reason == "MODEL_WITHOUT_TABLES"
        assert weights_of(model.stored) == {}
        assert with_weights(model.stored, {}) == power_law
        blob = await server.store.read(power_law.model_id)
        imported, created = await Server(builder=None).importer.add(blob, may_choose_tables=False)
        assert (imported.stored.config, created) == (power_law, True)

    asyncio.run(scenario())


@pytest.mark.parametrize("row_by", ["position", "index"])
def test_a_model_of_tables_alone_needs_no_worker(row_by: str) -> None:
    async def scenario() -> None:
        server = Server(builder=None)
        config = TabulatedConfig(
            [ROW[1:], [0, 16]], [-1, 7], 1, precision=4, row_by=row_by, quantization_offset=[0.5, 0.25]
        )
        model, created = await server.creator.create(config)
        assert created
        assert model.stored.tables is not None
        assert model.stored.tables.digest == config.supplied_tables.digest
        assert model.stored.tables_origin is TablesOrigin.SUPPLIED
        assert list(weights_of(model.stored)) == ["cdf", "cdf_offset", "quantization_offset"]
        blob = await server.store.read(config.model_id)
        imported, created = await Server(builder=None).importer.add(blob, may_choose_tables=False)
        assert (imported.stored.config, created) == (config, True)
        arrays = {name: weight.elements for name, weight in weights_of(model.stored).items()}
        assert with_weights(model.stored, arrays) == config
        arrays["cdf"] = np.array([*ROW, -4, 0, 0, 16], np.int32)
        with pytest.raises(InvalidTensorError, match=r"weights\[0\] row 1 stays at 0 at element 2"):
            with_weights(model.stored, arrays)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "kind", [ContinuousIndexedConfig, LocationScaleIndexedConfig, UniversalIndexedConfig]
)
def test_an_indexed_model_has_its_tables_for_weights_and_can_be_given_others(kind: Any) -> None:
    scales = priors.log_spaced(0.5, 2.0)
    prior = priors.indexed("NoisyNormal", (3,), loc=0.0, scale=scales)
    indexed = kind(prior, 1, range_coder_precision=4)

    async def scenario() -> None:
        server = Server(Builder())
        model, _ = await server.creator.create(indexed)
        weights = {name: weight.elements for name, weight in weights_of(model.stored).items()}
        assert list(weights) == ["cdf", "cdf_offset"]
        assert with_weights(model.stored, weights) is model.stored.config
        changed = with_weights(model.stored, {**weights, "cdf_offset": weights["cdf_offset"] + 1})
        other, created = await server.creator.create(changed)
        assert created
        assert digest(other) != digest(model)
        assert other.stored.config.prior == prior
        blob = await server.store.read(indexed.model_id)
        imported, _ = await Server(Builder()).importer.add(blob)
        assert (imported.stored.config, digest(imported)) == (indexed, digest(model))

    asyncio.run(scenario())


def test_a_damaged_model_is_not_built_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = ModelStore(tmp_path.as_uri())
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / f"{config().model_id}.safetensors").write_bytes(b"damaged")
        builder = Builder()
        with pytest.raises(DataLossError):
            await Server(builder, store).creator.create(config())
        assert builder.builds == []

    asyncio.run(scenario())


def test_a_model_is_read_once_however_many_callers_wait_for_it() -> None:
    async def scenario() -> None:
        server = Server(Builder())
        await server.creator.create(config())
        fresh = Server(Builder(), server.store)
        models = await asyncio.gather(*(fresh.models.model(config().model_id) for _ in range(8)))
        assert all(model is models[0] for model in models)
        assert fresh.count("entropyd_model_load_seconds_count") == 1
        assert await fresh.models.codec(config().model_id) is models[0].codec
        assert fresh.count("entropyd_model_cache_total", result="hit") == 1

    asyncio.run(scenario())


def test_a_forgotten_model_is_read_again() -> None:
    async def scenario() -> None:
        server = Server(Builder())
        await server.creator.create(config())
        assert server.count("entropyd_models_loaded") == 1
        server.models.forget(config().model_id)
        assert server.count("entropyd_models_loaded") == 0
        await server.store.delete(config().model_id)
        with pytest.raises(ModelNotFoundError):
            await server.models.model(config().model_id)

    asyncio.run(scenario())


def test_a_model_that_another_server_deleted_is_created_anew() -> None:
    async def scenario() -> None:
        server = Server(Builder())
        other = Server(Builder(), server.store)
        model_id = (await server.creator.create(config()))[0].stored.config.model_id
        assert not (await other.creator.create(config()))[1]
        await server.store.delete(model_id)
        # Strings that were made before still decode here, but nobody is told that the store has it.
        await other.models.codec(model_id)
        assert (await other.creator.create(config()))[1]
        assert await server.store.has(model_id)
        await server.store.delete(model_id)
        with pytest.raises(ModelNotFoundError):
            await other.models.stored_model(model_id)
        with pytest.raises(ModelNotFoundError):
            await other.models.codec(model_id)

    asyncio.run(scenario())


def test_a_cached_model_counts_as_stored_while_the_store_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "store"
        folder.mkdir()
        server = Server(Builder(), ModelStore(folder.as_uri()))
        await server.creator.create(config())
        folder.rename(tmp_path / "unmounted")
        assert not (await server.creator.create(config()))[1]

    asyncio.run(scenario())


def numbered(number: int) -> UniversalBatchedConfig:
    return config(prior=priors.NoisyNormal(float(number), [1.0, 2.0]))


@pytest.mark.parametrize("url", ["memory:///", "folder"])
def test_a_caller_makes_as_many_models_as_its_share_and_deleting_one_makes_room(
    url: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        limits = Limits(**{**vars(LIMITS), "max_models_per_caller": 2})
        store = ModelStore(tmp_path.as_uri() if url == "folder" else url)
        server = Server(Builder(), store, limits)
        for number in (0, 1):
            await server.creator.create(numbered(number), "alice")
        # What is there already takes no place, nor does what others make.
        await server.creator.create(numbered(1), "alice")
        await server.creator.create(numbered(2), "alice2")
        await server.creator.create(numbered(2), "alice")
        for restarted in (server, Server(Builder(), store, limits)):
            with pytest.raises(LimitExceededError) as caught:
                await restarted.creator.create(numbered(3), "alice")
            assert caught.value.metadata == {"limit": "max_models_per_caller", "value": "2"}
            with pytest.raises(LimitExceededError):
                await restarted.quota.check("alice")
        await store.delete(numbered(0).model_id)
        await server.quota.check("alice")
        await server.creator.create(numbered(3), "alice")
        assert await store.list_ids(10) == sorted(numbered(number).model_id for number in (1, 2, 3))

    asyncio.run(scenario())


def test_a_deletion_that_is_repeated_gives_back_the_place_that_the_first_one_left() -> None:
    async def scenario() -> None:
        limits = Limits(**{**vars(LIMITS), "max_models_per_caller": 1})
        server = Server(Builder(), limits=limits)
        await server.creator.create(numbered(0), "alice")
        # As a deletion does that ends before it has found whom the model counts against.
        await obstore.delete_async(server.store._backend, f"models/{numbered(0).model_id}.safetensors")
        assert await server.store.count_charged("alice") == 1
        with pytest.raises(ModelNotFoundError):
            await server.store.delete(numbered(0).model_id)
        await server.creator.create(numbered(1), "alice")

    asyncio.run(scenario())


def test_models_that_are_being_made_take_places() -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder, limits=Limits(**{**vars(LIMITS), "max_models_per_caller": 1}))
        making = asyncio.create_task(server.creator.create(numbered(0), "alice"))
        await until(lambda: builder.builds)
        with pytest.raises(LimitExceededError):
            await server.creator.create(numbered(1), "alice")
        builder.go.set()
        assert (await making)[1]

    asyncio.run(scenario())


def test_an_imported_model_takes_a_place_unless_it_is_there() -> None:
    async def scenario() -> None:
        elsewhere = Server(Builder())
        blobs = []
        for number in (0, 1):
            await elsewhere.creator.create(numbered(number))
            blobs.append(await elsewhere.store.read(numbered(number).model_id))
        server = Server(Builder(), limits=Limits(**{**vars(LIMITS), "max_models_per_caller": 1}))
        assert (await server.importer.add(blobs[0], "alice"))[1]
        assert not (await server.importer.add(blobs[0], "alice"))[1]
        with pytest.raises(LimitExceededError):
            await server.importer.add(blobs[1], "alice")

    asyncio.run(scenario())


def test_tables_that_would_be_built_are_imported_by_those_alone_who_may_choose_them() -> None:
    """Else whoever may import could give all others the tables of another model."""

    async def scenario() -> None:
        elsewhere = Server(Builder())
        for drawn in (config(), config(compression=False), config(tables=(ROW * 6, [-1] * 6))):
            await elsewhere.creator.create(drawn)
        chosen = CodingTables.parse(np.array(ROW * 6), [-1] * 6)
        poisoned = model_object.serialise(config(), chosen, {})
        server = Server(Builder())
        for blob in (poisoned, await elsewhere.store.read(config().model_id)):
            with pytest.raises(PermissionDeniedError, match="scope admin"):
                await server.importer.add(blob, may_choose_tables=False)
        # All of these follow from their ids.
        for drawn in (config(compression=False), config(tables=(ROW * 6, [-1] * 6))):
            blob = await elsewhere.store.read(drawn.model_id)
            assert (await server.importer.add(blob, may_choose_tables=False))[1]
        built, created = await server.creator.create(config())
        assert created
        assert digest(built) != chosen.digest
        with pytest.raises(TablesMismatchError):
            await server.importer.add(poisoned, may_choose_tables=True)
        # What is there already may be imported by anybody.
        blob = await elsewhere.store.read(config().model_id)
        assert not (await server.importer.add(blob, may_choose_tables=False))[1]

    asyncio.run(scenario())


def test_a_model_tells_where_its_tables_came_from() -> None:
    async def scenario() -> None:
        server, elsewhere = Server(Builder()), Server(Builder())
        supplied = config(tables=(ROW * 6, [-1] * 6))
        for drawn, origin in ((config(), TablesOrigin.BUILT), (supplied, TablesOrigin.SUPPLIED)):
            model, _ = await server.creator.create(drawn)
            assert model.stored.tables_origin is origin
            imported, _ = await elsewhere.importer.add(await server.store.read(drawn.model_id))
            expected = TablesOrigin.IMPORTED if origin is TablesOrigin.BUILT else origin
            assert imported.stored.tables_origin is expected
            assert (await elsewhere.store.load(drawn.model_id)).tables_origin is expected


@pytest.mark.parametrize("callers", [1, 1000])
def test_models_that_are_being_made_are_bounded_for_each_caller_and_for_all(callers: int) -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder)
        most = creation._MOST_CREATIONS if callers > 1 else creation._MOST_CREATIONS_OF_A_CALLER
        making = []
        for number in range(most):
            turn_key = str(number % callers)
            making.append(asyncio.create_task(server.creator.create(numbered(number), turn_key=turn_key)))
            await until(lambda number=number: len(builder.builds) > number)  # type: ignore[misc]
        with pytest.raises(OverloadedError) as caught:
            await server.creator.create(numbered(-1), turn_key="0")
        assert caught.value.retry_after_s is not None
        # A model that is being made may be waited for.
        waiting = asyncio.create_task(server.creator.create(numbered(0), turn_key="0"))
        if callers == 1:
            making.append(asyncio.create_task(server.creator.create(numbered(-1), turn_key="other")))
        builder.go.set()
        assert (await waiting)[0].codec is not None
        await asyncio.gather(*making)
        assert not server.creator._creations
        assert not server.creator._creations_by_caller

    asyncio.run(scenario())


def test_builds_whose_callers_have_left_do_not_pile_up() -> None:
    async def scenario() -> None:
        builder = Builder()
        builder.go.clear()
        server = Server(builder)
        for number in range(2 * creation._MOST_CREATIONS_OF_A_CALLER):
            calling = asyncio.create_task(server.creator.create(numbered(number)))
            await until(lambda number=number: len(builder.builds) > number)  # type: ignore[misc]
            calling.cancel()
            await asyncio.wait({calling})
        await until(lambda: not server.creator._creations_by_caller)

    asyncio.run(scenario())
