"""The image is made and run as the Dockerfile says, without Docker; wants a package registry. `make docker-replay` shows what it prints."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.serving.footprint import highest_mb
from cellclf import Classifier, Prediction
from tests.deploy.dockerfile import ROOT
from tests.deploy.manifests import CONTAINERS, bytes_of
from tests.deploy.replay import Image, Replay, can_mount

KEY = "a-key-that-is-long-enough"
LARGEST_MB = 300
"""What the serving environment may take on disk; onnxruntime-gpu alone would be more."""
WAIT_S = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    reason = _no_registry()
    if reason:
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="cellclf-image-"))
    place.chmod(0o755)  # the image's user looks into it
    yield Replay(place)
    shutil.rmtree(place)


@pytest.fixture
def image(replay: Replay) -> Image:
    return replay.make("serve")


@dataclass(frozen=True)
class Container:
    """The entry point, running."""

    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)) as wire:
            wire.request("GET" if body is None else "POST", path, body, headers)
            answer = wire.getresponse()
            return answer.status, answer.read()


@contextlib.contextmanager
def running(replay: Replay, image: Image, **environment: str) -> Iterator[Container]:
    """docker run, until the health check says that it is healthy. The port of the image is a free one here."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    serve = replay.stage("serve")

    def words(*of: str) -> list[str]:
        return replay.command(image, [word.replace("8000", str(port)) for name in of for word in serve.one(name).command])

    directory, variables, check = replay.directory(image), replay.environment(image) | environment, words("HEALTHCHECK")
    process = subprocess.Popen(words("ENTRYPOINT", "CMD"), cwd=directory, env=variables)
    try:
        for _ in range(WAIT_S * 2):
            assert process.poll() is None, f"it ended with {process.poll()}"
            if subprocess.run(check, cwd=directory, env=variables, stderr=subprocess.DEVNULL, timeout=WAIT_S, check=False).returncode == 0:
                break
        yield Container(process, port)
    finally:
        process.kill()
        process.wait()


def run(replay: Replay, image: Image, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        replay.command(image, words),
        cwd=replay.directory(image),
        env=replay.environment(image) | environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_the_image_serves_what_the_checkout_predicts_and_ends_with_0(replay: Replay, image: Image, sample_folder: Path) -> None:
    picture = next(iter(sorted((sample_folder / "TEST").rglob("*.jpeg"))))
    expected = Classifier(ROOT / "exported" / "blood-cells-mobilenet025.onnx", device="cpu").predict(picture)
    assert isinstance(expected, Prediction)
    with running(replay, image, CELLCLF_API_KEYS=KEY) as container:
        assert container.ask("/v2/health/ready")[0] == 200
        assert container.ask("/predict", picture.read_bytes())[0] == 401
        status, answer = container.ask("/predict", picture.read_bytes(), Authorization=f"Bearer {KEY}")
        assert status == 200
        (record,) = json.loads(answer)
        assert record["label"] == expected.label
        assert record["model"] == expected.model
        assert record["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
        status, answer = container.ask("/predict?explain=true", picture.read_bytes(), Authorization=f"Bearer {KEY}")
        assert status == 200
        (heatmaps,) = [record["heatmaps"] for record in json.loads(answer)]
        assert heatmaps.keys() == expected.probabilities.keys()
        assert highest_mb(container.process.pid) * 1e6 < bytes_of(CONTAINERS["kubernetes"]["resources"]["requests"]["memory"])
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(WAIT_S) == 0


def test_without_keys_the_image_refuses_to_start(replay: Replay, image: Image) -> None:
    serve = replay.stage("serve")
    done = run(replay, image, *serve.one("ENTRYPOINT").command, *serve.one("CMD").command)
    assert done.returncode == 1
    assert "CELLCLF_API_KEYS" in done.stderr
    assert "--no-auth" in done.stderr


def test_the_image_holds_no_training_framework_and_no_installer(replay: Replay, image: Image) -> None:
    names = ("tensorflow", "keras", "jax", "tf2onnx", "onnx", "sklearn", "matplotlib", "pip", "uv")
    asked = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name)])"
    environment = replay.root / "opt" / "cellclf"
    assert run(replay, image, str(environment / "bin" / "python"), "-I", "-c", asked).stdout.strip() == "[]"
    size_mb = sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6
    print(f"serving environment: {size_mb:.0f} MB")  # noqa: T201  # what make docker-replay tells
    assert size_mb < LARGEST_MB


@pytest.mark.skipif(not can_mount(), reason="only root may give a process a file system of its own, and not everywhere")
@pytest.mark.parametrize("folder", [".", "/opt/cellclf", "/tmp"])
def test_the_image_is_run_where_nothing_can_be_written(replay: Replay, image: Image, folder: str) -> None:
    done = run(replay, image, "python", "-c", f"import os; print(os.getuid()); open({folder!r} + '/written', 'w')")
    assert done.stdout.strip() == image.user.partition(":")[0] if image.user else False
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("stage", ["train-cpu", "serve-cuda", "train-cuda"])
def test_what_is_too_large_to_install_here_is_resolved(replay: Replay, stage: str) -> None:
    replay.make(stage, dry_run=True)


def _no_registry() -> str | None:
    """Why nothing can be installed here, in one line; None where it can."""
    if sys.platform != "linux":
        return "what runs in the image runs on Linux"
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "idna==3.10"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*asked, "--dest", folder], capture_output=True, text=True, timeout=WAIT_S, check=False)
    return None if done.returncode == 0 else f"no package registry: {(done.stderr.splitlines() or ['pip gave no reason'])[-1]}"
