import re
import tomllib
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, ROOT, Stage, is_sent, lineage, read_stages

STAGES = read_stages()


def pinned(name: str) -> dict[str, str]:
    """Name → version, markers cut off; of two versions of a name the last."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE))


def installs(stage: Stage) -> list[str]:
    return [command for step in stage.of("RUN") for command in step.rest.split(" && ") if "pip install" in command]


def test_what_is_built_by_default_is_the_serving_image_for_the_cpu() -> None:
    assert list(STAGES)[-1] == "serve"
    assert [stage.name for stage in lineage(STAGES, "serve")] == ["serve", "build", "serve-cpu", "tools", "wheel", "tools"]


def test_cuda_is_a_build_argument_away() -> None:
    assert "serve-cuda" in [stage.name for stage in lineage(read_stages({"DEVICE": "cuda"}), "serve")]
    assert "train-cuda" in [stage.name for stage in lineage(read_stages({"DEVICE": "cuda"}), "train")]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_of_training_goes_into_the_serving_image(device: str) -> None:
    stages = read_stages({"DEVICE": device})
    extras = {name for stage in lineage(stages, "serve") for command in installs(stage) for name in re.findall(r"--extra (\S+)", command)}
    assert extras == {"serve", "cuda13"} if device == "cuda" else extras == {"serve"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    assert not [line for line in wanted if re.match(r"tensorflow|keras|tf2onnx|onnx\b(?!runtime)", line)]
    if device == "cuda":
        assert "--excludes without-jax.txt" in installs(stages["serve-cuda"])[0]


def test_every_package_comes_with_its_hash_or_is_our_own_wheel() -> None:
    commands = [command for stage in STAGES.values() for command in installs(stage)]
    assert len(commands) == 7
    assert all("--require-hashes" in command or "--no-deps dist/*.whl" in command for command in commands)
    assert "--require-hashes" in STAGES["wheel"].one("RUN").rest


def test_the_cuda_pins_add_to_the_others_and_contradict_none() -> None:
    added = pinned("constraints-cuda.txt")
    assert {"nvidia-cublas", "nvidia-cudnn-cu13"} <= added.keys()
    assert added.keys().isdisjoint(pinned("constraints.txt"))


@pytest.mark.parametrize("name", ["serve", "train"])
def test_an_image_runs_as_a_number_that_is_not_root(name: str) -> None:
    stage = STAGES[name]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.one("USER").rest), "Kubernetes' runAsNonRoot wants a number"
    after = stage.steps[stage.steps.index(stage.one("USER")) :]
    assert {step.keyword for step in after}.isdisjoint({"RUN", "COPY"})


@pytest.mark.parametrize("name", ["serve", "train"])
def test_the_process_is_started_without_a_shell_so_that_signals_reach_it(name: str) -> None:
    assert STAGES[name].one("ENTRYPOINT").command[0] == "cellclf"
    assert isinstance(STAGES[name].one("CMD").command, list)


def test_serving_lets_nobody_in_by_default() -> None:
    serve = STAGES["serve"]
    words = serve.one("ENTRYPOINT").command + serve.one("CMD").command
    assert words[:2] == ["cellclf", "serve"]
    assert "--no-auth" not in words
    assert not re.search("API_KEYS|TOKEN|SECRET", " ".join(step.rest for step in serve.of("ENV")))


@pytest.mark.parametrize("name", ["serve", "train"])
def test_an_image_reports_to_nobody(name: str) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in [word for step in STAGES[name].of("ENV") for word in step.words]


def test_health_is_asked_for_by_python_alone_on_the_port_of_the_service() -> None:
    serve = STAGES["serve"]
    asked = serve.one("HEALTHCHECK").command
    assert asked[:2] == ["python", "-c"]
    compile(asked[2], "HEALTHCHECK", "exec")
    words = serve.one("ENTRYPOINT").command
    port = words[words.index("--port") + 1]
    assert serve.one("EXPOSE").rest == port
    assert f"'127.0.0.1:{port}'" in asked[2]
    assert "'/v2/health/ready'" in asked[2]
    assert "urllib" not in asked[2], "it would ask the proxy that Docker's configuration names"


def test_base_images_are_pinned_by_a_tag() -> None:
    bases = {stage.base for stage in STAGES.values()} - STAGES.keys()
    assert len(bases) == 1
    assert all(re.fullmatch(r"[\w/.-]+:[\w.-]*\d[\w.-]*", base) and not base.endswith("latest") for base in bases)


def test_whatever_is_copied_is_there_and_sent_to_the_build() -> None:
    sources = [word for stage in STAGES.values() for step in stage.of("COPY") if "from" not in step.options for word in step.words[:-1]]
    assert "cellclf" in sources
    assert [source for source in sources if not (ROOT / source).exists() or not is_sent(source)] == []


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "runs/one/recipe.json", "exported/mine.onnx", "cellclf/cli/__pycache__/app.pyc", "tests/conftest.py"]
)
def test_the_build_is_not_sent_what_it_does_not_copy(path: str) -> None:
    assert not is_sent(path)


def test_the_build_is_sent_the_package_whole() -> None:
    files = [path for path in (ROOT / "cellclf").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [path for path in files if not is_sent(str(path.relative_to(ROOT)))] == []


def test_an_instruction_that_is_not_understood_is_no_pass(tmp_path: Path) -> None:
    strange = tmp_path / "Dockerfile"
    strange.write_text(DOCKERFILE.read_text(encoding="utf-8") + "\nONBUILD RUN true\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="ONBUILD"):
        read_stages(path=strange)
