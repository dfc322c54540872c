"""Every overlay, rendered and held to the API's schemas and to what the server really is."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest

from entropyd_server import app
from entropyd_server.installation import parse_roles
from entropyd_server.roles.coding import CodingRole
from entropyd_server.roles.modeling import ModelingRole
from entropyd_server.roles.registry import RegistryRole
from entropyd_server.rpc.health import LIVENESS
from tests.deploy.dockerfile import REPOSITORY, last, stages
from tests.deploy.flags import flags
from tests.deploy.manifests import (
    FOLDER,
    OVERLAYS,
    Manifest,
    container,
    manifests,
    name_of,
    selects,
    settings_of,
)
from tests.support.envoy import cluster, published

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)

# What the operator's kustomize has to be; docs/operations.md names the same kubectl.
VERSION = "\n# For kustomize 5.0.1 (kubectl 1.27) or newer.\napiVersion: "

# The oldest release that the manifests are for, and the newest that the schemas are known of.
RELEASES = ("1.30", kubernetes_validate.latest_version())
# Kinds of the mesh, and of Prometheus's operator: their clusters have the schemas.
CUSTOM = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}
SERVICES = {
    "coding": CodingRole.service.full_name,
    "registry": RegistryRole.service.full_name,
    "modeling": ModelingRole.service.full_name,
}


def deployments(overlay: str) -> list[Manifest]:
    found = manifests(overlay, "Deployment")
    assert sorted(map(name_of, found)) == ["entropyd-coding", "entropyd-modeling"]
    return found


def pod_labels(overlay: str) -> list[dict[str, str]]:
    return [found["spec"]["template"]["metadata"]["labels"] for found in deployments(overlay)]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_components_and_overlays_say_which_kustomize_they_are_for(overlay: str) -> None:
    folders = [FOLDER / "base", FOLDER / "overlays" / overlay, *(FOLDER / "components").iterdir()]
    for folder in folders:
        assert VERSION in (folder / "kustomization.yaml").read_text(), folder
    assert "`kubectl` 1.27 or newer" in (REPOSITORY / "docs" / "operations.md").read_text()


def strings_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [found for entry in value.values() for found in strings_in(entry)]
    if isinstance(value, list):
        return [found for entry in value for found in strings_in(entry)]
    return [str(value)]


@pytest.mark.parametrize("release", RELEASES)
def test_manifests_match_the_schemas_of_kubernetes(overlay: str, release: str) -> None:
    for manifest in manifests(overlay):
        if manifest["kind"] in CUSTOM:
            assert manifest["apiVersion"] == CUSTOM[manifest["kind"]]
        else:
            kubernetes_validate.validate(manifest, release, strict=True)


def test_everything_is_in_a_namespace_that_takes_restricted_pods_only(overlay: str) -> None:
    (namespace,) = manifests(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [found for found in manifests(overlay) if found["kind"] != "Namespace"]
    assert {found["metadata"]["namespace"] for found in others} == {name_of(namespace)}


def test_pods_are_restricted(overlay: str) -> None:
    """The rules of Pod Security's `restricted`, and a root that is read-only."""
    for deployment in deployments(overlay):
        pod = deployment["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert container(deployment)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert not [port for port in container(deployment)["ports"] if "hostPort" in port]


def test_pods_run_as_the_user_of_the_image(overlay: str) -> None:
    for deployment in deployments(overlay):
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        user = f"{context['runAsUser']}:{context['runAsGroup']}"
        assert user == last("coding", "USER") == last("server", "USER")


def test_images_are_those_of_the_dockerfile_at_a_version(overlay: str) -> None:
    for deployment in deployments(overlay):
        image, _, tag = container(deployment)["image"].rpartition(":")
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
        assert image.removeprefix("entropyd-") in stages()


def test_the_environment_holds_flags_of_the_server_and_values_that_it_takes(overlay: str) -> None:
    known = flags()
    for deployment in deployments(overlay):
        found = settings_of(overlay, deployment)
        ours = {name: value for name, value in found.items() if name.startswith("ENTROPYD_")}
        assert set(ours) <= set(known)
        for name, value in ours.items():
            # Devices are those of the machine, and a field of the pod has no value yet.
            if value and name != "ENTROPYD_DEVICES":
                known[name].type.convert(value, known[name], None)
        assert "ENTROPYD_CODEC_THREADS" in ours  # the default counts the cores of the node


def test_ports_are_those_that_the_server_listens_on(overlay: str) -> None:
    for deployment in deployments(overlay):
        ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
        found = settings_of(overlay, deployment)
        listened = {
            "grpc": port_of(found["ENTROPYD_LISTEN"]),
            "health": port_of(found["ENTROPYD_HEALTH_LISTEN"]),
            "metrics": port_of(found["ENTROPYD_METRICS_LISTEN"]),
        }
        assert ports == listened
        known = flags()
        assert ports["grpc"] == port_of(str(known["ENTROPYD_LISTEN"].default))
        assert ports["metrics"] == port_of(str(known["ENTROPYD_METRICS_LISTEN"].default))


def test_probes_ask_services_that_the_pod_has(overlay: str) -> None:
    for deployment in deployments(overlay):
        probed = container(deployment)
        role = settings_of(overlay, deployment)["ENTROPYD_ROLE"]
        served = {SERVICES[name] for name in parse_roles(role)}
        health = {port["containerPort"] for port in probed["ports"] if port["name"] == "health"}
        probes = [probed[f"{kind}Probe"]["grpc"] for kind in ("startup", "liveness", "readiness")]
        assert {probe["port"] for probe in probes} == health
        startup, liveness, readiness = (probe["service"] for probe in probes)
        assert startup == liveness == LIVENESS
        assert readiness in served


def test_a_pod_has_the_time_that_draining_takes(overlay: str) -> None:
    for deployment in deployments(overlay):
        (sleep, seconds) = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
        drain = float(settings_of(overlay, deployment)["ENTROPYD_DRAIN_SECONDS"])
        needed = float(seconds) + drain + app._GRACE_SECONDS
        assert sleep == "sleep"
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed


def test_pods_may_write_only_where_the_image_expects_it(overlay: str) -> None:
    for deployment in deployments(overlay):
        mounts = {mount["mountPath"]: mount for mount in container(deployment)["volumeMounts"]}
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        store = settings_of(overlay, deployment)["ENTROPYD_STORE"]
        folder = {store.removeprefix("file://")} if store.startswith("file:") else set()
        assert folder <= set(mounts)
        # Only the role that makes models writes them.
        assert writable == {"/tmp"} | (folder if "modeling" in name_of(deployment) else set())  # noqa: S108
        volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
        assert volumes == {mount["name"] for mount in mounts.values()}


def test_resources_are_asked_for_and_bounded(overlay: str) -> None:
    for deployment in deployments(overlay):
        resources = container(deployment)["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert {"cpu", "memory"} <= set(resources["limits"])


def test_selectors_find_pods(overlay: str) -> None:
    pods = pod_labels(overlay)
    for deployment, labels in zip(deployments(overlay), pods, strict=True):
        assert selects(deployment["spec"]["selector"]["matchLabels"], labels)
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert selects(constraint["labelSelector"]["matchLabels"], labels)
    selectors = [found["spec"]["selector"] for found in manifests(overlay, "Service")]
    selectors += [
        found["spec"]["selector"]["matchLabels"] for found in manifests(overlay, "PodDisruptionBudget")
    ]
    selectors += [
        found["spec"]["podSelector"]["matchLabels"] for found in manifests(overlay, "NetworkPolicy")
    ]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in manifests(overlay, "PodMonitor")]
    for selector in selectors:
        assert any(selects(selector, labels) for labels in pods), selector


def test_each_role_has_a_service_a_budget_and_an_account_of_its_own(overlay: str) -> None:
    for deployment in deployments(overlay):
        name, labels = name_of(deployment), deployment["spec"]["template"]["metadata"]["labels"]
        for kind, selector in (
            ("Service", ("selector",)),
            ("PodDisruptionBudget", ("selector", "matchLabels")),
        ):
            (found,) = [manifest for manifest in manifests(overlay, kind) if name_of(manifest) == name]
            chosen = found["spec"]
            for key in selector:
                chosen = chosen[key]
            assert [selects(chosen, pod) for pod in pod_labels(overlay)].count(True) == 1
            assert selects(chosen, labels)
        accounts = {name_of(account) for account in manifests(overlay, "ServiceAccount")}
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] in accounts


def test_services_lead_to_the_port_for_grpc(overlay: str) -> None:
    services = manifests(overlay, "Service")
    assert all(found["spec"]["ports"][0]["targetPort"] == "grpc" for found in services)
    assert "None" in {found["spec"].get("clusterIP") for found in services}  # for clients that balance


def test_the_autoscaler_owns_the_number_of_coding_replicas(overlay: str) -> None:
    (scaler,) = manifests(overlay, "HorizontalPodAutoscaler")
    coding = deployments(overlay)[0]
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", name_of(coding))
    assert "replicas" not in coding["spec"]


def test_policies_open_ports_one_by_one(overlay: str) -> None:
    policies = manifests(overlay, "NetworkPolicy")
    (isolated,) = [found for found in policies if name_of(found) == "entropyd-isolated"]
    assert isolated["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(isolated["spec"])
    rules = [rule for found in policies for rule in found["spec"].get("ingress", [])]
    opened = [[port["port"] for port in rule["ports"]] for rule in rules]
    assert sorted(opened) == [["grpc"], ["metrics"]]
    assert all(rule["from"] for rule in rules)
    assert isolated["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "entropyd"}


def test_routes_of_the_mesh_lead_to_services_and_split_by_a_real_path(overlay: str) -> None:
    services = {name_of(found) for found in manifests(overlay, "Service")}
    for route in manifests(overlay, "VirtualService"):
        assert set(route["spec"]["hosts"]) <= services
        coding, others = route["spec"]["http"]
        assert coding["match"] == [{"uri": {"prefix": f"/{SERVICES['coding']}/"}}]
        assert "match" not in others
        targets = [rule["route"][0]["destination"]["host"] for rule in (coding, others)]
        assert targets == ["entropyd-coding", "entropyd-modeling"]


def test_the_mesh_does_with_calls_what_the_published_envoy_does(overlay: str) -> None:
    (listener,) = published()["static_resources"]["listeners"]
    (manager,) = listener["filter_chains"][0]["filters"]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    routes = {route["route"]["cluster"]: route["route"] for route in reversed(host["routes"])}
    for found in manifests(overlay, "VirtualService"):
        for rule in found["spec"]["http"]:
            policy = routes[rule["name"]]["retry_policy"]
            assert rule["retries"] == {"attempts": policy["num_retries"], "retryOn": policy["retry_on"]}
            assert rule["timeout"] == routes[rule["name"]]["timeout"]
    coding = cluster(published(), "coding")
    outliers, (limits,) = coding["outlier_detection"], coding["circuit_breakers"]["thresholds"]
    for found in manifests(overlay, "DestinationRule"):
        assert found["spec"]["host"] in {name_of(service) for service in manifests(overlay, "Service")}
        policy = found["spec"]["trafficPolicy"]
        (hashed,) = routes["coding"]["hash_policy"]
        assert policy["loadBalancer"]["consistentHash"]["httpHeaderName"] == hashed["header"]["header_name"]
        assert coding["lb_policy"] == "MAGLEV"
        assert "maglev" in policy["loadBalancer"]["consistentHash"]
        assert policy["outlierDetection"] == {
            "interval": outliers["interval"],
            "baseEjectionTime": outliers["base_ejection_time"],
            "maxEjectionPercent": outliers["max_ejection_percent"],
            "splitExternalLocalOriginErrors": outliers["split_external_local_origin_errors"],
            "consecutiveLocalOriginFailures": outliers["consecutive_local_origin_failure"],
            "consecutiveGatewayErrors": outliers["consecutive_gateway_failure"],
            "consecutive5xxErrors": outliers["enforcing_consecutive_5xx"],
        }
        assert policy["connectionPool"]["http"] == {
            "http2MaxRequests": limits["max_requests"],
            "maxRetries": limits["max_retries"],
        }


def test_nothing_secret_is_written_down(overlay: str) -> None:
    assert not manifests(overlay, "Secret")
    for manifest in manifests(overlay):
        for text in strings_in(manifest):
            assert "PRIVATE KEY" not in text
            assert not re.fullmatch(r"[0-9a-fA-F]{40,}|AKIA\w{16}|eyJ[\w-]+\.[\w.-]+", text)
