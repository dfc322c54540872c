"""What docs/operations.md says, compared with what there is."""

from __future__ import annotations

import re
from pathlib import Path

from entropyd_server.metrics import Metrics
from tests.deploy.dockerfile import REPOSITORY, stages
from tests.deploy.flags import flags
from tests.deploy.manifests import FOLDER, OVERLAYS, manifests
from tests.deploy.write_flags import PAGE, written

TEXT = PAGE.read_text()


def test_the_table_of_flags_is_that_of_the_command() -> None:
    assert written(TEXT) == TEXT, "run: python -m tests.deploy.write_flags"


def test_flags_and_variables_in_the_text_exist() -> None:
    known = flags()
    assert set(re.findall(r"ENTROPYD_[A-Z_]+[A-Z]", TEXT)) <= set(known)
    options = {name for option in known.values() for name in option.opts}
    ours = re.compile(r"`(--(?:max|codec|health|metrics|drain|role|store|devices)[a-z-]*)")
    assert set(ours.findall(TEXT)) <= options


def test_metrics_in_the_text_exist() -> None:
    families = {family.name for family in Metrics("0").collect()}
    suffixes = "_(total|bucket|sum|count|info)$"
    named = {re.sub(suffixes, "", name) for name in re.findall(r"`(entropyd_[a-z_]+)", TEXT)}
    assert named - {"entropyd_server"} <= families


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(#([\w-]+)\)", TEXT))
    assert linked
    assert linked <= anchors


def test_targets_and_overlays_in_the_text_are_all_there_are() -> None:
    assert (
        set(re.findall(r"docker build --target (\S+)", TEXT))
        == {"coding", "server", "server-gpu"}
        <= set(stages())
    )
    assert set(re.findall(r"^\| `([a-z0-9]+)` \| ", TEXT, re.MULTILINE)) == set(OVERLAYS)
    assert (REPOSITORY / "deploy" / "systemd" / "entropyd.service").exists()


def test_the_example_of_an_own_overlay_renders_to_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", TEXT, re.DOTALL)
    to_root = Path("/".join([".."] * (len(tmp_path.parts) - 1))) / FOLDER.relative_to("/")
    (tmp_path / "kustomization.yaml").write_text(example.replace("../../", f"{to_root}/"))
    found = manifests(str(tmp_path))
    images = {
        container["image"].rpartition(":")[0]
        for deployment in found
        if deployment["kind"] == "Deployment"
        for container in deployment["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"registry.example/entropyd-coding", "registry.example/entropyd-server-gpu"}
    stores = {
        manifest["data"]["ENTROPYD_STORE"]
        for manifest in found
        if "ENTROPYD_STORE" in str(manifest.get("data"))
    }
    assert stores == {"s3://my-bucket/entropyd"}
