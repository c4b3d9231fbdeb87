"""`cellclf serve` as a process: what it loads, how it ends, what it refuses, in which words."""

import contextlib
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cellclf.card import read_model_file
from cellclf.cli.serve import serve
from cellclf.serving.settings import Settings
from tests.cli.reading import error_line
from tests.conftest import Completed
from tests.runtime.test_plan import plan_for
from tests.serving.conftest import MODEL, SHIPPED, WAIT_S, alive, needs_openvino, picture, wait_until

Cli = Callable[..., Completed]
FRAMEWORKS = {"tensorflow", "keras", "jax", "tf2onnx", "sklearn", "matplotlib", "torch", "onnx"}

_WATCHED = """
import json, sys
from cellclf.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    raise
"""


@contextlib.contextmanager
def service(*arguments: str | Path, device: str = "cpu", **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on a free port, and its address, once it is ready; killed at the end if it still runs."""
    command = [sys.executable, "-W", "error", "-c", _WATCHED, "serve", *map(str, arguments or (SHIPPED,)), "--port", "0", "--device", device]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(WAIT_S * 3, process.kill)
        timer.start()
        try:
            assert process.stderr is not None
            found = None
            while found is None:
                line = process.stderr.readline()
                assert line, "it ended before it served"
                found = re.search(r"serving .* at (http://\S+)", line)
            yield process, found[1]
        finally:
            timer.cancel()
            process.kill()


def ended(process: "subprocess.Popen[str]", number: int) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


@pytest.mark.skipif(os.name == "nt", reason="signals are other ones there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_ends_with_0_on_a_signal_and_loads_no_framework(number: int) -> None:
    with service() as (process, address):
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.get("/v2/health/ready").status_code == 200
            assert client.post("/predict?name=secret-name.png", content=picture(1)).status_code == 200
            assert client.get("/metrics").status_code == 200
            assert client.get("/docs").status_code == 200
        code, out, err = ended(process, number)
    assert code == 0, err
    assert not set(json.loads(out)) & FRAMEWORKS
    events = [json.loads(line) for line in err.splitlines()]
    assert [each["event"] for each in events] == ["serving", "request", "request", "draining", "stopped"]
    request = events[1]
    assert (request["route"], request["status"], request["images"], request["refusal"]) == ("/predict", 200, 1, "")
    assert request["model"].startswith(f"{MODEL}@")
    assert re.fullmatch("[0-9a-f]{16}", request["id"])
    assert "secret-name" not in err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signals that a process ignores are told by /proc")
def test_a_client_that_leaves_cannot_end_it_by_a_broken_pipe() -> None:
    with service() as (process, address):
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.get("/v2/health/ready").status_code == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
        ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")), 16)
        assert ignored & 1 << signal.SIGPIPE - 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are told by /proc")
def test_worker_processes_hear_no_signal_and_end_with_the_service_that_is_killed() -> None:
    with service(SHIPPED, "--threads", "2") as (process, address):
        children = [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) == 2
        for child in children:
            os.kill(child, signal.SIGTERM)
            os.kill(child, signal.SIGINT)
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.post("/predict", content=picture(1)).status_code == 200
            assert "cellclf_worker_ends_total 0.0" in client.get("/metrics").text
        process.kill()
        process.wait(WAIT_S)
        for child in children:
            wait_until(lambda child=child: not alive(child))  # type: ignore[misc]  # default binds


def test_without_processes_workers_are_threads() -> None:
    with service(SHIPPED, "--no-processes") as (process, address):
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.post("/predict", content=picture(1)).status_code == 200


@needs_openvino
def test_a_plan_is_used_and_logged_although_threads_are_given_and_loads_no_framework(tmp_path: Path) -> None:
    plan = plan_for(read_model_file(SHIPPED).fingerprint, device="openvino")
    plan.write(tmp_path / "plans" / f"{plan.model}.json")
    with service(SHIPPED, "--threads", "1", device="auto", CELLCLF_CACHE=str(tmp_path)) as (process, address):
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=httpx.HTTPTransport(retries=20)) as client:
            assert client.post("/predict", content=picture(1)).json()[0]["provider"] == "OpenVINO:CPU f32"
        code, out, _ = ended(process, signal.SIGTERM)
    assert code == 0
    assert not set(json.loads(out)) & FRAMEWORKS


def test_keys_from_the_environment_are_asked_for() -> None:
    with service(CELLCLF_API_KEYS="0123456789abcdef0123") as (_, address):
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(base_url=address, timeout=WAIT_S, transport=transport) as client:
            assert client.get("/v2").status_code == 401
            assert client.get("/v2", headers={"x-api-key": "0123456789abcdef0123"}).status_code == 200


def test_every_interface_without_keys_is_one_line(cli: Cli) -> None:
    assert "--no-auth" in error_line(cli("serve", SHIPPED, "--host", "0.0.0.0", "--port", "0", CELLCLF_API_KEYS=""))


def test_a_port_in_use_is_one_line(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be bound" in error_line(cli("serve", SHIPPED, "--port", str(port)))


def test_a_bad_model_a_wrong_hash_and_no_model_are_one_line_each(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert "bad.onnx" in error_line(cli("serve", "bad.onnx", "--port", "0"))
    assert "SHA-256" in error_line(cli("serve", SHIPPED, "--port", "0", "--sha256", "0" * 64))
    assert "exported/" in error_line(cli("serve", "--port", "0"))


def test_a_missing_extra_is_one_line_that_names_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['fastapi'] = None; sys.argv[1:] = ['serve', sys.argv[1]]; from cellclf.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden, str(SHIPPED)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "pip install 'cellclf[serve]'" in error_line(Completed(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--max-pixels", "0"], ["--log-level", "loud"], ["--port", "70000"]])
def test_wrong_usage_exits_with_2(cli: Cli, arguments: list[str]) -> None:
    assert cli("serve", SHIPPED, *arguments).code == 2


def test_the_options_defaults_are_the_settings() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()}
    settings = Settings(threads=1)
    shared = [name for name in defaults if hasattr(settings, name) and name not in ("threads", "processes")]  # the machine decides those
    assert len(shared) >= 10
    assert {name: defaults[name] for name in shared} == {name: getattr(settings, name) for name in shared}
    assert defaults["max_body_mb"] << 20 == settings.max_body_bytes
