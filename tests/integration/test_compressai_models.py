"""Whole models of CompressAI with the coding done by a server, against the same models without."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytestmark = pytest.mark.compressai
pytest.importorskip("torch", reason="torch is not installed; `make test-compressai` installs it")
pytest.importorskip("compressai", reason="CompressAI is not installed; `make test-compressai` installs it")

import torch  # noqa: E402 - behind what skips this file
from compressai.entropy_models import (  # noqa: E402
    EntropyBottleneck,
    EntropyBottleneckVbr,
    GaussianConditional,
    GaussianMixtureConditional,
)
from compressai.models import (  # noqa: E402
    Cheng2020Anchor,
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.models.sensetime import Cheng2020AnchorCheckerboard, Elic2022Official  # noqa: E402

from entropyd.compressai import RemoteEntropyBottleneck, RemoteGaussianConditional, remote  # noqa: E402
from tests.support.compressai_modules import conditional  # noqa: E402
from tests.support.pages import check_printed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    import entropyd
    from entropyd_server.local import LocalServer

ZOO = [FactorizedPrior, FactorizedPriorReLU, ScaleHyperprior, MeanScaleHyperprior]
CHANNELS = 6


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


MAKES = {make.__name__: lambda make=make: make(8, CHANNELS) for make in ZOO} | {
    # Slices of channels, and two halves of each as on a checkerboard: a call for each.
    "Elic2022Official": lambda: Elic2022Official(8, CHANNELS, groups=[2, 4]),
    "Cheng2020AnchorCheckerboard": lambda: Cheng2020AnchorCheckerboard(8),
}


def model_of(name: str) -> Any:
    """A model with random weights, whose latents are spread over many integers."""
    torch.manual_seed(0)
    model = MAKES[name]()
    for module in model.modules():
        if isinstance(module, EntropyBottleneck):
            module.quantiles.data += torch.randn(len(module.quantiles), 1, 1)
    [*model.g_a.parameters()][-2].data *= 20
    model.update()
    return model.eval()


def images() -> Any:
    """Two of 64x64 pixels, the least that the zoo's hyperpriors take."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.usefixtures("no_gradients")
def test_a_whole_model_has_its_own_strings_and_images(client: entropyd.Client, name: str) -> None:
    theirs, x = model_of(name), images()
    ours = remote(copy.deepcopy(theirs), client)
    compressed = theirs.compress(x)
    again = ours.compress(x)
    assert again["strings"] == compressed["strings"]
    assert any(len(set(strings)) == len(x) for strings in again["strings"])
    arguments = compressed["strings"], compressed["shape"]
    assert torch.equal(ours.decompress(*arguments)["x_hat"], theirs.decompress(*arguments)["x_hat"])
    assert torch.equal(ours(x)["x_hat"], theirs(x)["x_hat"])


@pytest.mark.usefixtures("no_gradients")
def test_checkpoints_load_both_ways(client: entropyd.Client) -> None:
    theirs, x = model_of("MeanScaleHyperprior"), images()
    ours = remote(MeanScaleHyperprior(8, CHANNELS).eval(), client)
    ours.load_state_dict(theirs.state_dict())
    strings = theirs.compress(x)["strings"]
    assert ours.compress(x)["strings"] == strings
    back = MeanScaleHyperprior.from_state_dict(ours.state_dict()).eval()
    assert type(back.gaussian_conditional) is GaussianConditional
    assert back.compress(x)["strings"] == strings
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.usefixtures("no_gradients")
def test_a_model_that_is_updated_again_is_registered_again(client: entropyd.Client) -> None:
    theirs, x = model_of("ScaleHyperprior"), images()
    ours = remote(copy.deepcopy(theirs), client)
    ours.compress(x)
    before = ours.gaussian_conditional.remote.id
    for model in (theirs, ours):
        model.update(torch.linspace(0.2, 9, 16), force=True)
    assert ours.compress(x)["strings"] == theirs.compress(x)["strings"]
    assert ours.gaussian_conditional.remote.id != before


def test_the_program_of_the_page_runs(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/compressai.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    torch.save(model_of("MeanScaleHyperprior").state_dict(), "checkpoint.pth")
    names: dict[str, Any] = {}
    exec(program.replace("127.0.0.1:7070", server.target), names)  # noqa: S102 - our own page
    names["client"].close()
    assert names["restored"].shape == (2, 3, 64, 64)


def test_the_tutorial_prints_what_it_says(server: LocalServer) -> None:
    check_printed("tutorials/compressai-model.md", server)


def test_a_remote_model_trains_as_before_with_its_optimiser(client: entropyd.Client) -> None:
    torch.manual_seed(0)
    model = ScaleHyperprior(8, CHANNELS)
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    assert remote(model, client) is model
    assert type(model.entropy_bottleneck) is RemoteEntropyBottleneck
    assert type(model.gaussian_conditional) is RemoteGaussianConditional
    before = model.entropy_bottleneck.quantiles.detach().clone()
    (-torch.log(model(images())["likelihoods"]["z"]).sum() + model.aux_loss()).backward()
    optimiser.step()
    assert not torch.equal(model.entropy_bottleneck.quantiles, before)


@pytest.mark.parametrize("make", [JointAutoregressiveHierarchicalPriors, Cheng2020Anchor])
def test_autoregressive_models_are_refused(client: entropyd.Client, make: Any) -> None:
    model = make(8)
    with pytest.raises(TypeError, match="codes one symbol at a time"):
        remote(model, client)
    assert type(model.entropy_bottleneck) is EntropyBottleneck


class Derived(GaussianConditional):  # type: ignore[misc]
    """A class that may code in any way."""


@pytest.mark.parametrize(
    "module", [GaussianMixtureConditional(), EntropyBottleneckVbr(3), Derived(None), torch.nn.Identity()]
)
def test_other_modules_are_refused_and_left_as_they_are(client: entropyd.Client, module: Any) -> None:
    kind, model = type(module), torch.nn.ModuleDict({"first": module})
    with pytest.raises(TypeError, match=r"first is a .*; expected an EntropyB|has no EntropyBottleneck"):
        remote(model, client)
    assert type(model["first"]) is kind


def test_a_class_derived_from_a_remote_one_is_taken(client: entropyd.Client) -> None:
    class DerivedRemote(RemoteGaussianConditional):
        """As a user would write it."""

    local = conditional()
    module = DerivedRemote(None, client=client)
    module.update_scale_table(local.scale_table)
    model = remote(torch.nn.ModuleDict({"first": module, "second": local}), client)
    assert type(model["first"]) is DerivedRemote
    assert model["first"].remote.id == model["second"].remote.id
