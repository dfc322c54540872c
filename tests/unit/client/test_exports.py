"""Laws of the public surface: what is public is exported, what is exported exists, and nothing else leaks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import entropyd
from entropyd import _client, _info, _messages, _model, aio, priors
from entropyd.archive import archive, bundle, compressed_bundle, embedded, tensor, writer
from entropyd.contract import config, errors
from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import FUNCTIONS
from entropyd.contract.kinds import KINDS
from entropyd.contract.prior import Prior
from entropyd_server.local import LocalServer

# Everything public in these modules is for users.
PUBLIC_MODULES = (
    _client,
    _info,
    _model,
    config,
    archive,
    bundle,
    compressed_bundle,
    embedded,
    errors,
    tensor,
    writer,
)


def own_classes(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


@pytest.mark.parametrize("module", [entropyd, aio, priors])
def test_exports_are_sorted_unique_and_exist(module: ModuleType) -> None:
    names = list(module.__all__)
    assert names == sorted(set(names))
    assert all(hasattr(module, name) for name in names)


def test_every_public_class_is_exported() -> None:
    public = set().union(*(own_classes(module) for module in PUBLIC_MODULES))
    kinds = {kind.__name__ for kind in KINDS.values()}
    results = own_classes(_messages) - {"Call"}
    others = {"Prior", "RateReport", "pack", "tls_credentials"}
    assert set(entropyd.__all__) == public | kinds | results | others


def test_the_package_shows_nothing_public_that_it_does_not_export() -> None:
    shown = {
        name
        for name, value in vars(entropyd).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert shown == set(entropyd.__all__)


def test_the_only_other_name_is_that_of_the_server() -> None:
    if sys.version_info < (3, 11):
        with pytest.raises(
            ImportError, match=r"a server needs Python 3.11 or newer, .* and this is Python 3.10"
        ):
            getattr(entropyd, "LocalServer")  # noqa: B009 - for its error
    else:
        assert entropyd.LocalServer is LocalServer
    assert not hasattr(entropyd, "NoSuchName")


def test_every_family_has_a_constructor_of_its_name() -> None:
    families = {family.partition(".")[0] for family in FAMILIES}
    assert set(priors.__all__) == {*families, *FUNCTIONS, "indexed"}
    functions = {
        name
        for name, value in vars(priors).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == priors.__name__
    }
    assert functions == set(priors.__all__)


PLAIN = [name for name, family in FAMILIES.items() if not (family.network or family.nested)]


@pytest.mark.parametrize("family", PLAIN)
def test_a_constructor_takes_the_parameters_of_its_family(family: str) -> None:
    values = {
        name: 2.0 if domain == "one positive" else [float(i + 1)] if domain != "weight" else [1.0]
        for i, (name, domain) in enumerate(FAMILIES[family].arrays.items())
    }
    source, _, name = family.partition(".")
    if source == "tfp":
        prior = priors.tfp(name, **values)
    else:
        assert list(inspect.signature(getattr(priors, family)).parameters) == list(FAMILIES[family].arrays)
        prior = getattr(priors, family)(**values)
    assert isinstance(prior, Prior)
    assert prior.family == family


def test_importing_the_client_imports_no_server_and_no_numerics_but_numpy() -> None:
    code = "import sys, entropyd, entropyd.priors; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"tensorflow", "tensorflow_compression", "numba", "entropyd_server", "obstore", "ml_dtypes"}
    heavy |= {"click", "rich", "zarr", "safetensors", "opentelemetry"}
    assert heavy.isdisjoint(output.split())
