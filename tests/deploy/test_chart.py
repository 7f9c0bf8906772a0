"""The Helm chart, rendered by the real helm: every manifest is valid, and says what keeps money and requests safe."""

from __future__ import annotations

import json
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

with warnings.catch_warnings():  # it reads its own version by an interface that is going away
    warnings.simplefilter("ignore")
    import kubernetes_validate  # type: ignore[import-untyped]  # it has no annotations

from gateway import __version__
from gateway.cli.serve import serve
from tests.deploy.queries import DASHBOARDS, DEPLOY, alerts, recorded
from tests.deploy.tools import helm

CHART = DEPLOY / "helm" / "image-gateway"
JOBS = ".*image-gateway.*"
"""What the alerts look for."""
LONGEST_NAME = 63
OF_OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that another project defines; their schemas are not Kubernetes' own."""
EXTERNAL: dict[str, Any] = {
    "policy": {"existingConfigMap": "my-policy"},
    "secrets": {"existingSecret": "image-gateway"},
    "store": {"existingSecret": "redis"},
}
BUNDLED: dict[str, Any] = {
    "policy": {"files": {"policy.yaml": "providers: {}\nroutes: {}\n"}},
    "secrets": {"existingSecret": "image-gateway"},
    "store": {"bundled": {"enabled": True, "storageClassName": "fast"}},
    "providerKeys": [{"name": "OPENAI_API_KEY", "secret": "openai", "key": "api-key"}],
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-1"}],
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "networkPolicy": {"monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    "publicUrl": "https://images.example.com",
    "assets": "s3://bucket/prefix",
    "podAnnotations": {"a": "b"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Helm."""
    return helm(tmp_path_factory.mktemp("helm"))


def run(command: str, *arguments: str, values: dict[str, Any], work: Path) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart with values; nothing is read of this machine's own configuration."""
    given = work / "values.yaml"
    given.write_text(json.dumps(values))
    home = {name: str(work / name) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    line = [command, *arguments, str(CHART), "--values", str(given)]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=60, check=False, env={"HOME": str(work), **home}
    )


def rendered(command: str, values: dict[str, Any], work: Path) -> list[dict[str, Any]]:
    """Every manifest."""
    done = run(command, "template", "gw", values=values, work=work)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def one(manifests: list[dict[str, Any]], kind: str, name: str = "gw-image-gateway") -> dict[str, Any]:
    """The manifest of a kind and name."""
    (found,) = (each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("values", [EXTERNAL, BUNDLED], ids=["external", "bundled"])
def test_every_manifest_is_valid(command: str, values: dict[str, Any], tmp_path: Path) -> None:
    """Helm's strict lint passes, and each manifest is what Kubernetes' schemas want, unknown fields refused."""
    linted = run(command, "lint", "--strict", values=values, work=tmp_path)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    manifests = rendered(command, values, tmp_path)
    for manifest in manifests:
        if manifest["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    assert not [manifest for manifest in manifests if manifest["kind"] == "Secret"]


def test_the_pod_is_confined_and_told_how_to_stop(command: str, tmp_path: Path) -> None:
    """No root, no writable root, no service links; the cluster waits longer than delay and grace; options exist."""
    manifests = rendered(command, BUNDLED, tmp_path)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {each["name"]: each for each in container["env"]}

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["enableServiceLinks"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    told = sum(float(env[f"IMAGE_GATEWAY_{name}"]["value"]) for name in ("GRACE", "SHUTDOWN_DELAY"))
    assert pod["terminationGracePeriodSeconds"] >= told + 20
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(env["IMAGE_GATEWAY_SHUTDOWN_DELAY"]["value"])
    options = {option.envvar for option in serve.params if option.envvar} | {"IMAGE_GATEWAY_PEPPER"}
    ours = {name for name in env if name.startswith("IMAGE_GATEWAY_")}
    assert ours - options <= {"IMAGE_GATEWAY_ADMIN_TOKEN"}
    assert "secretKeyRef" in env["OPENAI_API_KEY"]["valueFrom"]
    assert all("valueFrom" in env[f"IMAGE_GATEWAY_{name}"] for name in ("PEPPER", "ADMIN_TOKEN"))


def test_selectors_meet(command: str, tmp_path: Path) -> None:
    """Services, budget, policies and monitor select the pods and services that they are about, and no others."""
    manifests = rendered(command, BUNDLED, tmp_path)
    gateway = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    store = one(manifests, "StatefulSet", "gw-image-gateway-store")["spec"]["template"]["metadata"]["labels"]

    def about(selector: dict[str, str]) -> list[bool]:
        return [selector.items() <= labels.items() for labels in (gateway, store)]

    for name in ("", "-admin"):
        assert about(one(manifests, "Service", f"gw-image-gateway{name}")["spec"]["selector"]) == [True, False]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert about(one(manifests, kind)["spec"]["selector"]["matchLabels"]) == [True, False]
    assert about(one(manifests, "Service", "gw-image-gateway-store")["spec"]["selector"]) == [False, True]
    for name, which in (("", [True, False]), ("-store", [False, True])):
        policy = one(manifests, "NetworkPolicy", f"gw-image-gateway{name}")
        assert about(policy["spec"]["podSelector"]["matchLabels"]) == which
    monitored = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    services = [each for each in manifests if each["kind"] == "Service"]
    found = [each["metadata"]["name"] for each in services if monitored <= each["metadata"]["labels"].items()]
    assert found == ["gw-image-gateway-admin"]


def test_rules_dashboards_and_store_arrive_whole(command: str, tmp_path: Path) -> None:
    """The chart carries the same rules and dashboards, and its store writes every change to disk before it answers."""
    manifests = rendered(command, BUNDLED, tmp_path)
    groups = one(manifests, "PrometheusRule")["spec"]["groups"]
    carried = {rule.get("alert") or rule["record"] for group in groups for rule in group["rules"]}
    assert carried == alerts().keys() | recorded()
    boards = one(manifests, "ConfigMap", "gw-image-gateway-dashboards")["data"].values()
    assert sorted(map(json.loads, boards), key=str) == sorted(
        (json.loads(path.read_text()) for path in DASHBOARDS), key=str
    )
    (container,) = one(manifests, "StatefulSet", "gw-image-gateway-store")["spec"]["template"]["spec"]["containers"]
    assert {"--appendonly": "yes", "--appendfsync": "always", "--maxmemory-policy": "noeviction"}.items() <= dict(
        zip(container["args"][::2], container["args"][1::2], strict=True)
    ).items()
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secrets": {"existingSecret": ""}}, "secrets.existingSecret"),
        ({"policy": {"existingConfigMap": ""}}, "policy: give files"),
        ({"store": {"existingSecret": ""}}, "store: give url"),
        ({"store": {"existingSecret": "redis", "bundled": {"enabled": True}}}, "either bundled"),
        ({"grace": "long"}, "grace"),
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}, "minReplicas is above"),
        ({"serviceMonitor": {"enabled": True}}, "networkPolicy.monitoring"),
        ({"secretz": {}}, "secretz"),
    ],
)
def test_values_that_cannot_be_are_refused_in_words(
    command: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """What is missing, contradicts itself or is misspelt ends with a message that names it."""
    done = run(command, "template", "gw", values={**EXTERNAL, **change}, work=tmp_path)
    assert done.returncode != 0
    assert words in done.stderr


NASTY: dict[str, Any] = {
    "policy": {
        "files": {
            "policy.yaml": "  # begins further in\n  providers: {}\n\n\n  a: |\n    b\n",
            "x.yaml": "\t{{ .Values }}",
        }
    },
    "secrets": {"existingSecret": "123", "pepperKey": "1e3", "adminTokenKey": "true"},
    "store": {"existingSecret": "0x1", "urlKey": "null"},
    "providerKeys": [{"name": "KEY", "secret": "017", "key": "no"}],
    "priorityClassName": "1.0",
}


def test_names_and_files_arrive_as_they_were_given(command: str, tmp_path: Path) -> None:
    """Policy comes letter by letter however it is indented, and a name that looks like a number stays a name."""
    manifests = rendered(command, NASTY, tmp_path)
    assert one(manifests, "ConfigMap", "gw-image-gateway-policy")["data"] == NASTY["policy"]["files"]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    named = [each["valueFrom"]["secretKeyRef"] for each in pod["containers"][0]["env"] if "valueFrom" in each]
    assert {(each["name"], each["key"]) for each in named} == {
        ("123", "1e3"),
        ("123", "true"),
        ("0x1", "null"),
        ("017", "no"),
    }
    assert pod["priorityClassName"] == "1.0"


@pytest.mark.parametrize(
    "release",
    [
        "a",
        "a-team-with-a-name-of-its-own-that-is-too-long-by-far",
        "prod-image-gateway",
        "a-release-with-a-rather-long-name-image-gateway-eu-1",
    ],
)
def test_alerts_find_the_job_of_any_release(command: str, release: str, tmp_path: Path) -> None:
    """The monitored service, whose name is the job's, holds the chart's name; nothing is too long for a cluster."""
    done = run(command, "template", release, values=BUNDLED, work=tmp_path)
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    names = [manifest["metadata"]["name"] for manifest in manifests]
    (job,) = (name for name in names if name.endswith("-admin"))
    assert re.fullmatch(JOBS, job)
    assert all(len(name) <= LONGEST_NAME for name in names)


def test_the_command_of_the_docs_gives_the_bucket_its_credentials(command: str, tmp_path: Path) -> None:
    """As typed, but rendered in place of installed, it names a bucket and everything that it takes to write there."""
    docs = (DEPLOY.parent / "docs" / "deployment.md").read_text()
    [typed] = re.findall(r"^(helm install (?:.*\\\n)+.*)$", docs, re.MULTILINE)
    (tmp_path / "helm").symlink_to(command)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (tmp_path / "policy.yaml").write_text("providers: {}\n")
    done = subprocess.run(
        ["sh", "-c", typed.replace("helm install", "./helm template")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    (container,) = one(manifests, "Deployment", "images-image-gateway")["spec"]["template"]["spec"]["containers"]
    names = {each["name"] for each in container["env"]}
    assert names >= {"OPENAI_API_KEY", "IMAGE_GATEWAY_ASSETS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    secrets = set(re.findall(r"kubectl create secret generic (\S+)", docs))
    assert {each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"] if "valueFrom" in each} == secrets
