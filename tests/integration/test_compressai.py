"""CompressAI's entropy models with the coding done by a server, against CompressAI's own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
import entropyd.compressai as package

pytestmark = pytest.mark.compressai
pytest.importorskip("torch", reason="torch is not installed; `make test-compressai` installs it")
pytest.importorskip("compressai", reason="CompressAI is not installed; `make test-compressai` installs it")

import torch  # noqa: E402 - behind what skips this file
from compressai.entropy_models import (  # noqa: E402
    EntropyBottleneck,
    GaussianConditional,
    GaussianMixtureConditional,
)

from entropyd.compressai import (  # noqa: E402
    RemoteEntropyBottleneck,
    RemoteGaussianConditional,
    register,
    remote,
)
from tests.support.compressai_modules import (  # noqa: E402
    SCALES,
    bottleneck,
    conditional,
    latent,
    with_tables,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.local import LocalServer

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
SIZES = [(1, 5, 4, 6), (3, 5, 2, 3), (2, 5), (2, 5, 7), (2, 5, 2, 2, 2)]
HALF = 2**15
BEYOND = float(2**28)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def remote_copy(module: Any, client: entropyd.Client) -> Any:
    """A remote module beside a local one."""
    return remote(copy.deepcopy(module), client)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.dtype == theirs.dtype and bool(torch.equal(ours, theirs))


def random_indexes(size: tuple[int, ...], rows: int = len(SCALES)) -> torch.Tensor:
    return torch.randint(rows, size, dtype=torch.int32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strings_of_a_bottleneck_are_its_own(
    client: entropyd.Client, size: tuple[int, ...], dtype: torch.dtype
) -> None:
    theirs, x = bottleneck(), latent(size).to(dtype)
    ours = remote_copy(theirs, client)
    strings = theirs.compress(x)
    assert ours.compress(x) == strings
    assert same(ours.decompress(strings, size[2:]), theirs.decompress(strings, size[2:]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean_dtype", [None, torch.float32, torch.float64, torch.bfloat16])
def test_strings_of_a_conditional_are_its_own(
    client: entropyd.Client, size: tuple[int, ...], dtype: torch.dtype, mean_dtype: torch.dtype | None
) -> None:
    theirs, x, indexes = conditional(), latent(size).to(dtype), random_indexes(size)
    means = None if mean_dtype is None else latent(size).to(mean_dtype)
    ours = remote_copy(theirs, client)
    strings = theirs.compress(x, indexes, means)
    assert ours.compress(x, indexes, means) == strings
    restored = theirs.decompress(strings, indexes, dtype, means)
    assert same(ours.decompress(strings, indexes, dtype, means), restored)


def test_a_module_of_another_dtype_has_its_own_strings(client: entropyd.Client) -> None:
    for dtype in DTYPES:
        theirs, x = bottleneck().to(dtype), latent((2, 5, 3, 4)).to(dtype)
        ours, strings = remote_copy(theirs, client), theirs.compress(x)
        assert ours.compress(x) == strings
        assert same(ours.decompress(strings, (3, 4)), theirs.decompress(strings, (3, 4)))


def test_half_precision_on_the_cpu_where_torch_cannot_round_it(client: entropyd.Client) -> None:
    module, x, indexes = conditional(), latent((2, 5, 3, 4)).half(), random_indexes((2, 5, 3, 4))
    means = latent((2, 5, 3, 4)).half()
    strings = remote_copy(module, client).compress(x, indexes, means)
    assert strings == module.compress((x - means).float(), indexes)


def test_tensors_that_are_not_contiguous_or_need_gradients(client: entropyd.Client) -> None:
    theirs, indexes = conditional(), random_indexes((2, 3, 4, 5))
    ours = remote_copy(theirs, client)
    x = latent((2, 3, 5, 4)).transpose(2, 3).requires_grad_()
    means = latent((2, 3, 4, 5)).to(memory_format=torch.channels_last).requires_grad_()
    before = x.detach().clone()
    strings = theirs.compress(x, indexes, means)
    assert ours.compress(x, indexes, means) == strings
    few = means[:, :, :1, :1]
    assert ours.compress(x, indexes, few) == theirs.compress(x, indexes, few)
    assert torch.equal(x, before)
    for given in (means.detach(), few.detach()):
        restored = theirs.decompress(strings, indexes, means=given)
        assert same(ours.decompress(strings, indexes, means=given), restored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_indexes_are_those_of_the_base_class(client: entropyd.Client, dtype: torch.dtype) -> None:
    log_spaced = torch.logspace(-1, 2.4, 64).tolist()
    for table in (SCALES, log_spaced, [2.0], [0.5, 0.5, 0.7], [0.5, 0.5 + 2**-20, 0.7]):
        theirs = conditional(table)
        ours = remote_copy(theirs, client)
        scales = torch.exp(torch.randn(2, 3, 40, 8) * 3)
        scales.view(-1)[: len(table)] = theirs.scale_table
        scales.view(-1)[100 : 100 + len(table)] = torch.nextafter(theirs.scale_table, torch.tensor(0.0))
        scales.view(-1)[200 : 200 + len(table)] = torch.nextafter(theirs.scale_table, torch.tensor(9e9))
        scales.view(-1)[300:305] = torch.tensor([float("nan"), -float("nan"), float("inf"), -1.0, 0.0])
        for given in (scales.to(dtype), scales.to(dtype).transpose(2, 3), scales[:, :, :0]):
            assert same(ours.build_indexes(given), theirs.build_indexes(given))
    halves = conditional().half()
    given = scales.half()
    assert same(remote_copy(halves, client).build_indexes(given), halves.build_indexes(given))


def test_a_registered_model_codes_without_torch(client: entropyd.Client) -> None:
    channels = np.broadcast_to(np.arange(5).reshape(5, 1, 1), (2, 5, 3, 4))
    for dtype in (torch.float32, torch.float64):
        module, x = bottleneck().to(dtype), latent((2, 5, 3, 4)).to(dtype)
        model, strings = register(client, module), module.compress(x)
        compressed = model.compress(x.numpy(), channels)
        assert compressed.strings.tolist() == strings
        assert np.array_equal(model.decompress(compressed, channels), module.decompress(strings, (3, 4)))
    assert str(register(client, module.half()).bottleneck_dtype) == "float16"
    gaussian, indexes, x = conditional(), random_indexes((2, 5, 3, 4)), x.float()
    model = register(client, gaussian)
    assert model.compress(x.numpy(), indexes.numpy()).strings.tolist() == gaussian.compress(x, indexes)
    assert model.id == remote_copy(gaussian, client).remote.id


def test_tables_that_change_are_registered_by_the_next_call(client: entropyd.Client) -> None:
    theirs, x = bottleneck(), latent((2, 5, 3, 4))
    ours = remote_copy(theirs, client)
    first = ours.remote.id
    assert ours.remote.id == first
    for module in (theirs, ours):
        module.quantiles.data[:, 0, 2] += 3
        module.update(force=True)
    assert ours.remote.id != first
    assert ours.compress(x) == theirs.compress(x)
    other = bottleneck()
    for module in (theirs, ours):
        for name in ("_quantized_cdf", "_cdf_length", "_offset"):
            getattr(module, name).resize_(getattr(other, name).size())
        module.load_state_dict(other.state_dict())
    assert ours.compress(x) == other.compress(x) == theirs.compress(x)


def test_modules_are_constructed_as_theirs_with_a_client(client: entropyd.Client) -> None:
    ours = RemoteEntropyBottleneck(5, tail_mass=1e-6, client=client)
    theirs = EntropyBottleneck(5, tail_mass=1e-6)
    theirs.load_state_dict(ours.state_dict())
    x = latent((1, 5, 3, 4))
    assert same(ours(x, training=False)[1], theirs(x, training=False)[1])
    assert ours.update()
    assert theirs.update()
    assert ours.compress(x) == theirs.compress(x)
    local = GaussianConditional(SCALES, scale_bound=0.2)
    remotely = RemoteGaussianConditional(SCALES, scale_bound=0.2, client=client)
    local.update()
    remotely.update()
    scales = latent((1, 5, 3, 4)).abs()
    assert remotely.compress(x, remotely.build_indexes(scales)) == local.compress(
        x, local.build_indexes(scales)
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])  # noqa: S301
def test_copies_code_with_the_same_model(client: entropyd.Client, copied: Any) -> None:
    theirs, x = bottleneck(), latent((1, 5, 3, 4))
    ours = remote_copy(theirs, client)
    before = ours.compress(x)
    again = copied(ours)
    assert type(again) is RemoteEntropyBottleneck
    assert again.compress(x) == before
    assert again.remote.id == ours.remote.id


def test_without_update_there_is_an_error_that_says_so(client: entropyd.Client) -> None:
    module, gaussian = EntropyBottleneck(3), GaussianConditional(None)
    calls: list[Callable[[], Any]] = [
        lambda: register(client, module),
        lambda: remote(module, client).compress(latent((1, 3, 2, 2))),
        lambda: remote(module, client).decompress([b""], (2, 2)),
        lambda: remote(gaussian, client).build_indexes(latent((1, 3, 2, 2))),
        lambda: gaussian.compress(latent((1, 3, 2, 2)), random_indexes((1, 3, 2, 2))),
    ]
    for call in calls:
        with pytest.raises(entropyd.ModelStateError, match=r"has no tables: call update\(\)") as caught:
            call()
        assert caught.value.reason == "MODEL_WITHOUT_TABLES"


@pytest.mark.parametrize("size", [(0, 5, 2, 3), (2, 5, 0, 3), (1, 1, 1, 1), (1, 2, 1, 1)])
def test_few_symbols_on_which_the_extension_crashes(client: entropyd.Client, size: tuple[int, ...]) -> None:
    ours, indexes = remote_copy(conditional(), client), random_indexes(size)
    x = torch.ones(size)
    strings = ours.compress(x, indexes)
    assert len(strings) == size[0]
    assert same(ours.decompress(strings, indexes), x)


def test_rows_of_the_escape_alone(client: entropyd.Client) -> None:
    module = with_tables(conditional(), [[0, 2 * HALF], [0, HALF, 2 * HALF]], [-3, 0])
    ours, indexes = remote_copy(module, client), random_indexes((2, 3, 4, 5), rows=2)
    x = latent((2, 3, 4, 5))
    assert same(ours.decompress(ours.compress(x, indexes), indexes), torch.round(x))


def test_values_far_beyond_the_table(client: entropyd.Client) -> None:
    ours = remote_copy(conditional(), client)
    x = torch.tensor([BEYOND, -BEYOND, 3.0, BEYOND + 64]).reshape(1, 4, 1, 1)
    indexes = random_indexes((1, 4, 1, 1))
    assert same(ours.decompress(ours.compress(x, indexes), indexes), x)
    wide = x.double() + 1
    assert same(ours.decompress(ours.compress(wide, indexes), indexes, torch.float64), wide)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e20])
def test_numbers_that_are_no_symbols_are_named(client: entropyd.Client, bad: float) -> None:
    ours, x = remote_copy(conditional(), client), latent((2, 3, 4, 5))
    x[1, 2, 3, 4] = bad
    with pytest.raises(entropyd.InvalidTensorError, match=r"unit 1, element \(2, 3, 4\)"):
        ours.compress(x, random_indexes((2, 3, 4, 5)))


@pytest.mark.parametrize("bad", [-1, len(SCALES)])
def test_indexes_without_a_row_are_named(client: entropyd.Client, bad: int) -> None:
    ours, indexes = remote_copy(conditional(), client), random_indexes((2, 3, 4, 5))
    strings = ours.compress(latent((2, 3, 4, 5)), indexes)
    indexes[1, 2, 3, 4] = bad
    calls: list[Callable[[], Any]] = [
        lambda: ours.compress(latent((2, 3, 4, 5)), indexes),
        lambda: ours.decompress(strings, indexes),
    ]
    for call in calls:
        with pytest.raises(entropyd.InvalidTensorError, match=rf"indexes\[1, 2, 3, 4\] is {bad}; expected"):
            call()


def test_what_does_not_fit_together_is_a_value_error(client: entropyd.Client) -> None:
    theirs, x, indexes = conditional(), latent((2, 3, 4, 5)), random_indexes((2, 3, 4, 5))
    ours = remote_copy(theirs, client)
    strings = ours.compress(x, indexes)
    calls: list[Callable[[Any], Any]] = [
        lambda module: module.compress(x[0, 0, 0], indexes[0, 0, 0]),
        lambda module: module.compress(x, indexes[:1]),
        lambda module: module.decompress(strings[0], indexes),
        lambda module: module.decompress(strings[:1], indexes),
        lambda module: module.decompress(strings, indexes[:, 0, 0, 0]),
        lambda module: module.decompress(strings, indexes, means=x[:1]),
        lambda module: module.decompress(strings, indexes, means=x[:, :, :2]),
    ]
    for call in calls:
        for module in (theirs, ours):
            with pytest.raises(ValueError, match=r"shape|size|strings|means"):
                call(module)
    with pytest.raises(RuntimeError):
        ours.compress(x, indexes, x[:, :2])


def test_damaged_strings_are_named(client: entropyd.Client) -> None:
    ours, indexes = remote_copy(conditional(), client), random_indexes((3, 5, 4, 5))
    strings = ours.compress(latent((3, 5, 4, 5)), indexes)
    with pytest.raises(entropyd.CorruptStringError) as caught:
        ours.decompress([strings[0], strings[1][:8], strings[2]], indexes)
    assert caught.value.units == (1,)


def test_errors_of_the_client_surface_as_they_are(server: LocalServer) -> None:
    closed = entropyd.Client(server.target)
    closed.close()
    ours = remote_copy(conditional(), closed)
    with pytest.raises(entropyd.CancelledError):
        ours.compress(latent((1, 3, 2, 2)), random_indexes((1, 3, 2, 2)))


def test_modules_without_tables_of_their_own_are_refused(client: entropyd.Client) -> None:
    mixture = GaussianMixtureConditional(scale_table=SCALES)
    mixture.update()
    with pytest.raises(TypeError, match="makes a table for every symbol"):
        register(client, mixture)
    with pytest.raises(TypeError, match="expected an EntropyBottleneck"):
        register(client, torch.nn.Identity())


def test_exports_are_sorted_and_exist() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Remote'"):
        _ = package.Remote


def test_importing_the_package_imports_neither_torch_nor_compressai() -> None:
    code = "import sys, entropyd.compressai; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"torch", "compressai"}.isdisjoint(output.split())
