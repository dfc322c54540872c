"""The documentation site: `make docs` builds it, and a real browser opens every page of it."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.chromium import Browser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = (
    "",
    ".aio",
    ".bounded",
    ".compressai",
    ".dask",
    ".priors",
    ".rates",
    ".tables",
    ".tfc",
    ".torch",
    ".zarr",
)
# Names of types, which have no docstring.
ALIASES = {"Quantization", "Row"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder: Path = tmp_path_factory.mktemp("site")
    command = ["make", "--silent", "--old-file=.venv/.ready", "docs", f"SITE={folder}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return folder


def test_every_page_has_its_title_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    sources = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert sources <= {page.relative_to(site) for page in pages}
    with Browser() as browser:
        for page in pages:
            heading = re.search(r"<h1>(.*?)<a ", page.read_text())
            title = browser.open(page.as_uri())
            assert title.startswith("Index" if page.stem == "genindex" else "Search") or heading, page
            assert title.endswith("entropyd"), page
            if heading and page != site / "index.html":
                assert title.startswith(re.sub("<.*?>", "", heading[1]).replace("&amp;", "&")), page
    assert browser.messages == []
    outside = {url for url in browser.requested.values() if not url.startswith((site.as_uri(), "data:"))}
    assert outside == set()
    assert any(urlsplit(url).path.endswith(".css") for url in browser.requested.values())


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_reference_has_every_public_name(site: Path, module: str) -> None:
    name = f"entropyd{module}"
    found = find_spec(name)  # not imported: some need TensorFlow or torch
    assert found is not None
    assert found.origin is not None
    (listed,) = re.findall(r"^__all__ = \[(.*?)\]", Path(found.origin).read_text(), re.MULTILINE | re.DOTALL)
    names = {word for word in re.findall(r'"(\w+)"', listed) if not word.isupper()} - ALIASES
    assert names
    page = (site / "reference" / f"{module.lstrip('.') or name}.html").read_text()
    assert {public for public in names if f'id="{name}.{public}"' not in page} == set()
