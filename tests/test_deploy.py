"""compose.yaml and the files of deploy/: right by their schemas, and by what the service is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app import create_app
from app.settings import VARIABLES, Settings
from app.version import VERSION

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
MANIFEST = ROOT / "deploy/kubernetes/metaplastic.yaml"
RESOURCES = {resource["kind"]: resource for resource in yaml.safe_load_all(MANIFEST.read_text())}
POD = RESOURCES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
KUBERNETES = "1.34"
KNOWN = {variable.name for variable in VARIABLES}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("pyproject.toml", 'version = "{}"'),
        ("Dockerfile", 'image.version="{}"'),
        ("compose.yaml", "image: metaplastic:{}\n"),
        ("deploy/kubernetes/metaplastic.yaml", "image: metaplastic:{}\n"),
        ("Dockerfile.learner", 'image.version="{}"'),
        ("compose.learning.yaml", "image: metaplastic-learner:{}\n"),
        ("deploy/kubernetes/learning.yaml", "image: metaplastic-learner:{}\n"),
    ],
)
def test_every_file_is_of_the_services_version(file: str, line: str) -> None:
    assert line.format(VERSION) in (ROOT / file).read_text()


LEARNING = ROOT / "deploy/kubernetes/learning.yaml"
EXTRAS = ("compose.tls.yaml", "compose.learning.yaml", "compose.postgresql.yaml")


@pytest.mark.parametrize("file", ["compose.yaml", *EXTRAS])
def test_compose_is_valid_by_its_specification(file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.compose-spec", file]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("kind", RESOURCES)
def test_each_resource_is_valid_by_kubernetes_schemas(kind: str) -> None:
    kubernetes_validate.validate(RESOURCES[kind], KUBERNETES, strict=True)


def test_the_schemas_would_find_a_mistake() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(RESOURCES["Deployment"]))
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_everything_that_operations_need_is_there() -> None:
    kinds = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert set(RESOURCES) == kinds | {"NetworkPolicy"}
    assert set(COMPOSE["services"]) == {"metaplastic", "nginx", "redis", "prometheus", "grafana"}


def test_only_settings_that_there_are_are_set() -> None:
    used = {entry["name"] for entry in CONTAINER["env"]}
    used |= set(COMPOSE["services"]["metaplastic"]["environment"])
    assert used <= KNOWN
    Settings.from_environment(COMPOSE["services"]["metaplastic"]["environment"])
    Settings.from_environment({entry["name"]: entry["value"] for entry in CONTAINER["env"]})


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_the_probes_ask_what_the_service_answers(probe: str) -> None:
    path = CONTAINER[probe]["httpGet"]["path"]
    assert create_app(Settings()).test_client().get(path).status_code == 200


def test_the_pod_is_the_container_that_the_dockerfile_makes() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    user, group = re.search(r"^USER (\d+):(\d+)", dockerfile, re.M).groups()  # type: ignore
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    port = int(re.search(r"^EXPOSE (\d+)", dockerfile, re.M)[1])  # type: ignore
    assert CONTAINER["ports"][0]["containerPort"] == port
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_stop_leaves_the_service_its_time() -> None:
    needed = Settings().graceful_timeout
    slept = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > needed + slept
    assert int(COMPOSE["services"]["metaplastic"]["stop_grace_period"][:-1]) > needed


def test_selectors_find_the_pods() -> None:
    labels = RESOURCES["Deployment"]["spec"]["template"]["metadata"]["labels"]

    def chosen(selector: dict[str, Any]) -> bool:
        return selector.items() <= labels.items()

    assert chosen(RESOURCES["Service"]["spec"]["selector"])
    assert chosen(RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    assert chosen(RESOURCES["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    scaled = RESOURCES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert scaled["name"] == RESOURCES["Deployment"]["metadata"]["name"]


def test_every_file_that_compose_mounts_is_there() -> None:
    mounted = [
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounted) == 4
    assert [path for path in mounted if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_can_neither_change_itself_nor_gain_a_privilege(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in container["security_opt"]
    assert "cap_add" not in container or name == "nginx"
    assert not container.get("privileged")


def test_tls_is_switched_on_for_a_service_and_a_proxy_that_there_are() -> None:
    extra = yaml.safe_load((ROOT / "compose.tls.yaml").read_text())["services"]
    assert set(extra) <= set(COMPOSE["services"])
    (mounted,) = extra["nginx"]["volumes"]
    assert mounted == "./deploy/tls:/etc/nginx/tls:ro"  # where nginx.conf includes tls/*.conf
    assert "include tls/*.conf;" in (ROOT / "deploy/nginx.conf").read_text()


def test_kubernetes_sets_none_of_our_variables() -> None:
    assert POD["enableServiceLinks"] is False


def test_prometheus_own_tool_finds_no_fault_with_its_configuration() -> None:
    if not shutil.which("promtool"):
        pytest.skip("Debian's package prometheus is not installed")
    command = ["promtool", "check", "config", str(ROOT / "deploy/prometheus/prometheus.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    targets = re.findall(r"targets: \[\"(\w+):(\d+)", Path(command[-1]).read_text())
    assert targets == [("metaplastic", str(Settings().port))]


def merged(*files: str) -> Any:
    """Return the services of compose files, as compose puts them together."""
    services: dict[str, Any] = {}
    for file in files:
        for name, extra in yaml.safe_load((ROOT / file).read_text())["services"].items():
            before = services.setdefault(name, {})
            for key, value in extra.items():
                known = before.get(key)
                if isinstance(known, dict) and isinstance(value, dict):
                    before[key] = {**known, **value}
                elif isinstance(known, list) and isinstance(value, list):
                    before[key] = [*known, *value]
                else:
                    before[key] = value
    return services


@pytest.mark.parametrize("database", [[], ["compose.postgresql.yaml"]])
def test_service_and_learner_share_votes_and_models(
    database: list[str],
) -> None:
    services = merged("compose.yaml", "compose.learning.yaml", *database)
    service, learner = services["metaplastic"], services["learner"]
    given = {
        name: text.replace("${METAPLASTIC_DATABASE_PASSWORD:?}", "password")
        for name, text in service["environment"].items()
    }
    settings = Settings.from_environment(given)
    assert settings.feedback.startswith("postgresql" if database else "sqlite")
    for name in ("METAPLASTIC_FEEDBACK", "METAPLASTIC_CANARY", "METAPLASTIC_WEIGHTS"):
        assert service["environment"][name] == learner["environment"][name]
    assert {"weights:/weights", "votes:/votes"} <= set(service["volumes"]) & set(learner["volumes"])
    for name in ("learner", "repository", *(["postgresql"] if database else [])):
        container = services[name]
        assert container["read_only"] is True
        assert container["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in container["security_opt"]


@pytest.mark.parametrize(
    "resource", list(yaml.safe_load_all(LEARNING.read_text())), ids=lambda one: str(one["kind"])
)
def test_each_resource_of_the_learner_is_valid(resource: Any) -> None:
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_the_patch_makes_a_valid_service_with_settings_that_there_are() -> None:
    patch = yaml.safe_load((ROOT / "deploy/kubernetes/learning-patch.yaml").read_text())
    deployment = yaml.safe_load(yaml.safe_dump(RESOURCES["Deployment"]))
    pod, extra = deployment["spec"]["template"]["spec"], patch["spec"]["template"]["spec"]
    pod["securityContext"] |= extra["securityContext"]
    pod["volumes"] += extra["volumes"]
    for name in ("env", "volumeMounts"):
        pod["containers"][0][name] += extra["containers"][0][name]
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    assert {entry["name"] for entry in extra["containers"][0]["env"]} <= KNOWN
    (claim,) = (v["persistentVolumeClaim"]["claimName"] for v in extra["volumes"])
    claims = [r for r in yaml.safe_load_all(LEARNING.read_text()) if "accessModes" in r["spec"]]
    assert [one["metadata"]["name"] for one in claims] == [claim]


def test_the_learners_image_holds_what_the_learner_imports() -> None:
    rules = (ROOT / "Dockerfile.learner.dockerignore").read_text()
    dockerfile = (ROOT / "Dockerfile.learner").read_text()
    for needed in ("models", "studies", "weights"):
        assert f"!{needed}\n" in rules
        assert f"COPY --chmod=755 {needed} {needed}\n" in dockerfile
    for needed in ("requirements.txt", "requirements-serve.txt", "constraints.txt"):
        assert f"!{needed}\n" in rules
