import json
import re
from typing import Any

import pytest

import cellclf
from benchmarks.serving.footprint import MARGIN, RESULTS, START_MARGIN, autoscaled_from, cpu_request, manifest_arguments, page_of
from cellclf.serving.gate import OPEN_PATHS
from cellclf.serving.settings import Settings
from tests.deploy.dockerfile import ROOT, read_stages
from tests.deploy.manifests import CONTAINERS, DEPLOY, KSERVE, KUBERNETES, POD, bytes_of

SERVE = read_stages()["serve"]
MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))


both = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)


def option(container: dict[str, Any], name: str) -> int:
    (value,) = [word.partition("=")[2] for word in container["args"] if word.startswith(f"--{name}=")]
    return int(value)


def test_the_measured_service_is_the_deployed_one() -> None:
    assert MEASURED["arguments"] == manifest_arguments(), "run: make results-footprint"
    assert MEASURED["exit_code"] == 0
    assert MEASURED["ordinary"].keys() == {"200"}


def test_the_page_says_what_was_measured() -> None:
    assert RESULTS.with_suffix(".md").read_text(encoding="utf-8") == page_of(MEASURED), "run: make results-footprint"


@both
def test_memory_is_requested_and_limited_as_measured(container: dict[str, Any]) -> None:
    resources = container["resources"]
    settings = Settings(threads=option(container, "threads"), max_pixels=option(container, "max-pixels"), processes=True)
    highest = max(value for name, value in MEASURED.items() if name.endswith("_mb"))
    assert bytes_of(resources["requests"]["memory"]) >= MEASURED["ordinary_mb"] * 1e6
    assert bytes_of(resources["limits"]["memory"]) >= MARGIN * highest * 1e6
    bounds = settings.buffered_bound_bytes + settings.decoding_bound_bytes
    assert bytes_of(resources["limits"]["memory"]) >= MEASURED["idle_mb"] * 1e6 + bounds


@both
def test_cores_are_requested_for_what_a_pod_promises_by_the_measured_time_of_an_image(container: dict[str, Any]) -> None:
    assert float(container["resources"]["requests"]["cpu"]) == cpu_request(MEASURED, autoscaled_from()), "run: make results-footprint"


def test_cores_are_rounded_up_to_halves() -> None:
    assert cpu_request({"processor_ms_per_image": 1.6}, 0.8) == 1.0  # 500 images a second of 1.6 ms are .8 cores
    assert cpu_request({"processor_ms_per_image": 1.61}, 0.8) == 1.5


@both
def test_there_are_as_many_threads_as_cores(container: dict[str, Any]) -> None:
    assert option(container, "threads") == int(container["resources"]["limits"]["cpu"])


@both
def test_a_pod_may_do_nothing_but_serve(container: dict[str, Any]) -> None:
    context = {**(POD["securityContext"] if container is CONTAINERS["kubernetes"] else {}), **container["securityContext"]}
    user = SERVE.one("USER").rest
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@both
def test_probes_ask_what_needs_no_key_where_the_image_listens(container: dict[str, Any]) -> None:
    port = container["ports"][0]["containerPort"]
    assert str(port) == SERVE.one("EXPOSE").rest
    for probe, path in (("startupProbe", "ready"), ("readinessProbe", "ready"), ("livenessProbe", "live")):
        asked = container[probe]["httpGet"]
        assert asked["path"] == f"/v2/health/{path}"
        assert asked["path"] in OPEN_PATHS
        assert asked["port"] in (port, container["ports"][0].get("name"))
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= START_MARGIN * MEASURED["ready_s"]


@both
def test_keys_come_from_a_secret(container: dict[str, Any]) -> None:
    (path,) = [word.partition("=")[2] for word in container["args"] if word.startswith("--api-keys-file=")]
    (mount,) = container["volumeMounts"]
    assert path.startswith(mount["mountPath"] + "/")
    pod = POD if container is CONTAINERS["kubernetes"] else KSERVE["ServingRuntime"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["secret"]["secretName"] in (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert "--no-auth" not in container["args"]


@both
def test_a_pod_is_given_the_time_to_answer_whom_it_let_in(container: dict[str, Any]) -> None:
    wait_s = container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})["preStop"]["sleep"]["seconds"]
    grace = {"kubernetes": POD, "kserve": KSERVE["InferenceService"]["spec"]["predictor"]}
    (where,) = [name for name, found in CONTAINERS.items() if found is container]
    assert grace[where]["terminationGracePeriodSeconds"] > wait_s + option(container, "drain-s")


@both
def test_the_image_is_this_version(container: dict[str, Any]) -> None:
    assert container["image"] == f"cellclf:{cellclf.__version__}"


def test_everything_selects_the_deployments_pods() -> None:
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Service"]["spec"]["selector"] == labels
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Service"]["spec"]["ports"][0]["targetPort"] == CONTAINERS["kubernetes"]["ports"][0]["name"]
    assert KUBERNETES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == KUBERNETES["Deployment"]["metadata"]["name"]


def test_kserve_speaks_the_open_inference_protocol_with_our_runtime() -> None:
    runtime, model = KSERVE["ServingRuntime"], KSERVE["InferenceService"]["spec"]["predictor"]["model"]
    assert runtime["spec"]["protocolVersions"] == [model["protocolVersion"]] == ["v2"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert CONTAINERS["kserve"]["name"] == "kserve-container", "KServe finds it by this name"


def test_an_audit_that_cannot_ask_is_no_pass() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile[makefile.index("\naudit-deps:") :].partition("\n\n")[0]
    assert "pip-audit --strict" in recipe
    assert all(f"-r {name}" in recipe for name in ("constraints.txt", "constraints-cuda.txt"))


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (DEPLOY / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (DEPLOY / link).exists()] == []
