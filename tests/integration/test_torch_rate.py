"""Bits from a server as a tensor of torch, against torch's own arithmetic."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
from entropyd import priors
from tests.support.recorded_model import RecordedModel

pytest.importorskip("torch", reason="torch is not installed; `make test-torch` installs it")

import torch

from entropyd.torch import rate

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

ROOT = Path(__file__).resolve().parents[2]
LOW, HIGH, SCALES = 0.3, 30.0, 16
WEIGHTS = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def by_scale(scale: Any = None, dtype: str = "float64", **fields: Any) -> Any:
    scale = priors.log_spaced(np.float64(LOW), HIGH) if scale is None else scale
    prior = priors.indexed("NoisyNormal", (SCALES,), loc=np.float64(0), scale=scale)
    given: dict[str, Any] = {"coding_rank": 2, "bottleneck_dtype": dtype, **fields}
    return entropyd.LocationScaleIndexedConfig(prior, compression=False, **given)


@pytest.fixture(scope="module")
def model(client: entropyd.Client) -> RecordedModel:
    return RecordedModel(client.create_model(by_scale()))


def noisy_normal_bits(noisy: torch.Tensor, indexes: torch.Tensor, coding_rank: int) -> torch.Tensor:
    """Bits of each unit under normals that are convolved with the uniform noise, at mean 0."""
    scale = LOW * (HIGH / LOW) ** (indexes / (SCALES - 1))
    # In the right tail, where the difference does not cancel.
    near, far = ((noisy.abs() + side) / scale / 2**0.5 for side in (-0.5, 0.5))
    mass = (torch.erfc(near) - torch.erfc(far)) / 2
    return -torch.log2(mass).flatten(-coding_rank).sum(-1)


def values(*shape: int, high: float = 6) -> torch.Tensor:
    return (high * torch.rand(shape, dtype=torch.float64)).requires_grad_()


def scale_indexes(*shape: int) -> torch.Tensor:
    return values(*shape, high=SCALES - 1)


SHAPES = {
    "loc of each channel": ((3, 5, 2), (3, 5, 2), (2,)),
    "one y": ((5, 2), (3, 5, 2), (3, 1, 1)),
    "a number as loc": ((3, 5, 2), (3, 5, 2), ()),
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_gradients_of_weighted_bits_are_those_of_a_local_computation(
    model: RecordedModel, shapes: tuple[tuple[int, ...], ...]
) -> None:
    of_y, of_indexes, of_loc = shapes
    inputs = [values(*of_y), scale_indexes(*of_indexes), values(*of_loc)]
    model.calls.clear()
    bits = rate(model, *inputs)
    (WEIGHTS * bits).sum().backward()
    ((asked, found),) = model.calls
    assert asked

    y, indexes, loc = again = [x.detach().clone().requires_grad_() for x in inputs]
    noise = torch.tensor(found.perturbed) - y.detach()
    expected = noisy_normal_bits(y - loc + noise, indexes, 2)
    (WEIGHTS * expected).sum().backward()
    torch.testing.assert_close(bits, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(inputs, again, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-9)


def test_without_training_gradients_go_straight_through_the_rounding(model: RecordedModel) -> None:
    inputs = y, indexes, loc = values(3, 5, 2), scale_indexes(3, 5, 2), values(2)
    bits = rate(model, *inputs, training=False)
    centred = y - loc
    rounded = centred + (centred.round() - centred).detach()
    expected = noisy_normal_bits(rounded, indexes, 2)
    torch.testing.assert_close(bits, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad((WEIGHTS * found).sum(), inputs) for found in (bits, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-9)


def test_gradients_are_asked_for_only_if_an_argument_requires_one(model: RecordedModel) -> None:
    y, indexes, loc = values(3, 5, 2), scale_indexes(3, 5, 2), values(2)
    constant = y.detach()
    model.calls.clear()
    with torch.no_grad():
        assert not rate(model, y, indexes, loc).requires_grad
    assert not rate(model, constant, indexes.detach()).requires_grad
    assert rate(model, constant, indexes.detach(), loc).requires_grad
    assert [call.gradient for call in model.calls] == [False, False, True]


def test_backward_calls_nothing_and_gives_what_is_required(model: RecordedModel) -> None:
    indexes = scale_indexes(3, 5, 2)
    model.calls.clear()
    bits = rate(model, values(3, 5, 2).detach(), indexes)
    bits.sum().backward()
    assert len(model.calls) == 1
    assert indexes.grad is not None


def test_indexes_without_a_gradient_get_none(client: entropyd.Client, model: RecordedModel) -> None:
    y, indexes = values(3, 5, 2), scale_indexes(3, 5, 2)
    of_array = client.create_model(by_scale(np.linspace(1, 9, SCALES)))
    rate(of_array, y, indexes).sum().backward()
    rate(model, y, indexes.detach().to(torch.int64)).sum().backward()
    rate(model, y, indexes.detach().numpy().astype(np.uint8), 0.5).sum().backward()
    assert y.grad is not None
    assert indexes.grad is None


def test_a_second_derivative_is_refused(model: RecordedModel) -> None:
    y, indexes = values(3, 5, 2), scale_indexes(3, 5, 2)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(rate(model, y, indexes).sum(), y, create_graph=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_gradients_are_of_the_dtype_of_each_argument_and_bits_of_the_priors(
    client: entropyd.Client, dtype: str
) -> None:
    model = client.create_model(by_scale(dtype=dtype))
    y = values(3, 5, 2).detach().to(getattr(torch, dtype)).requires_grad_()
    indexes, loc = scale_indexes(3, 5, 2).detach().float().requires_grad_(), values(2)
    bits = rate(model, y, indexes, loc)
    bits.sum().backward()
    assert bits.dtype == torch.float64
    for x in (y, indexes, loc):
        assert x.grad is not None
        assert x.grad.dtype == x.dtype


def test_errors_are_those_of_perturb(model: RecordedModel) -> None:
    y, indexes = values(3, 5, 2), scale_indexes(3, 5, 2)
    with pytest.raises(entropyd.InvalidTensorError, match="indexes are missing"):
        rate(model, y)
    with pytest.raises(entropyd.InvalidTensorError, match="bottleneck has dtype float32"):
        rate(model, y.float(), indexes)
    with pytest.raises(entropyd.InvalidTensorError, match=r"loc has shape \(7,\)"):
        rate(model, y, indexes, values(7))


def test_a_toy_trains_as_with_local_bits(client: entropyd.Client) -> None:
    model = client.create_model(by_scale(coding_rank=1))
    deviations = torch.tensor([0.2, 1.0, 5.0, 20.0], dtype=torch.float64)

    def local(y: torch.Tensor, indexes: torch.Tensor, loc: torch.Tensor) -> torch.Tensor:
        return noisy_normal_bits(y - loc + torch.rand_like(y) - 0.5, indexes, 1)

    def loss(bits: Any, x: torch.Tensor, gain: Any, indexes: Any, loc: Any) -> torch.Tensor:
        y = x * gain.exp()
        restored = (y + torch.rand_like(y) - 0.5) / gain.exp()
        return (bits(y, indexes.expand_as(y), loc) + 3 * ((restored - x) ** 2).sum(1)).mean()

    def trained(bits: Any, steps: int = 50) -> float:
        """The loss, by local bits, after a training with some bits."""
        torch.manual_seed(0)
        start = (torch.full((4,), value, dtype=torch.float64) for value in (0.0, 8.0, 0.0))
        parameters = [x.requires_grad_() for x in start]
        optimizer = torch.optim.Adam(parameters, lr=0.2)
        for _ in range(steps):
            optimizer.zero_grad()
            x = 2 + deviations * torch.randn(256, 4, dtype=torch.float64)
            loss(bits, x, *parameters).backward()
            optimizer.step()
        torch.manual_seed(1)
        x = 2 + deviations * torch.randn(10**4, 4, dtype=torch.float64)
        return float(loss(local, x, *parameters))

    expected = trained(local)
    assert expected < 0.5 * trained(local, steps=0)
    assert trained(lambda *inputs: rate(model, *inputs)) == pytest.approx(expected, rel=0.02)


def test_the_example_of_hyperprior_md_runs_as_it_is_written(client: entropyd.Client) -> None:
    (code,) = re.findall(
        r"```python\n(import torch\n.*?)```", (ROOT / "docs/hyperprior.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {"y_model": client.create_model(by_scale(dtype="float32", coding_rank=3))}
    exec(code, names)  # noqa: S102 - our own page
    assert names["bits"].shape == (4,)
    assert all(names[name].grad is not None for name in ("y", "indexes", "loc"))


def test_the_example_converges(server: LocalServer) -> None:
    command = [sys.executable, str(ROOT / "examples/rate_torch.py"), "--server", server.target]
    command += ["--steps", "100"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    before, after = (
        float(bits) + 12 * float(error)
        for bits, error in re.findall(r"([\d.]+) bits, squared error ([\d.]+)", ran.stdout)
    )
    assert after < 0.6 * before
