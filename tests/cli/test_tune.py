import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.card import read_model_file
from cellclf.runtime.providers import gpu_count
from tests.conftest import Completed
from tests.runtime.test_plan import SHIPPED, plan_for

Cli = Callable[..., Completed]


def test_tune_measures_and_keeps_a_plan_only_where_it_found_one(cli: Cli, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = cli("tune", SHIPPED, "--seconds", "1", "--devices", "cpu", "--json", CELLCLF_CACHE=str(cache))
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert {each["setting"]["device"] for each in found["many"]} == {"cpu"}
    kept = cache / "plans" / f"{read_model_file(SHIPPED).fingerprint}.json"
    assert kept.exists() == (found["plan"] is not None)


def test_tune_shows_every_setting_beside_the_default_and_what_it_decided(cli: Cli, tmp_path: Path) -> None:
    done = cli("tune", SHIPPED, "--seconds", "1", "--devices", "cpu", CELLCLF_CACHE=str(tmp_path))
    assert done.code == 0, done.err
    assert "against the default" in done.out
    assert "1.00 ± 0.00" in done.out
    assert done.out.splitlines()[-1].startswith(("the default is as good", "plan: "))


def test_tune_forgets_a_plan_that_no_longer_pays(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plans" / f"{read_model_file(SHIPPED).fingerprint}.json"
    plan_for(read_model_file(SHIPPED).fingerprint).write(path)
    done = cli("tune", SHIPPED, "--seconds", "1", "--devices", "cpu", "--json", CELLCLF_CACHE=str(tmp_path))
    plan = json.loads(done.out)["plan"]
    assert path.exists() == (plan is not None)
    assert plan is None or plan["batch"] != 5


def test_tune_keeps_a_plan_of_a_provider_that_it_did_not_try_and_says_so(cli: Cli, tmp_path: Path) -> None:
    fingerprint = read_model_file(SHIPPED).fingerprint
    path = tmp_path / "plans" / f"{fingerprint}.json"
    plan_for(fingerprint, device="openvino", gain=50.0).write(path)
    kept = path.read_bytes()
    done = cli("tune", SHIPPED, "--seconds", "1", "--devices", "cpu", CELLCLF_CACHE=str(tmp_path))
    assert path.read_bytes() == kept
    assert done.out.splitlines()[-1].startswith("openvino, which was not tried, is as quick as anything here")


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_a_device_that_is_asked_for_and_absent_is_an_error_and_the_plan_stays(cli: Cli, tmp_path: Path) -> None:
    done = cli("tune", SHIPPED, "--seconds", "1", "--devices", "cuda", CELLCLF_CACHE=str(tmp_path))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "cuda" in done.err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("arguments", [["--devices", "gpu0"], ["--devices", "cpu,auto"], ["nowhere.onnx"]], ids=["device", "auto", "file"])
def test_wrong_choices_are_one_line(cli: Cli, arguments: list[str]) -> None:
    done = cli("tune", *([SHIPPED] if arguments[0].startswith("-") else []), *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)


def test_predict_says_the_plan_it_uses_in_one_line(cli: Cli, sample_folder: Path, tmp_path: Path) -> None:
    fingerprint = read_model_file(SHIPPED).fingerprint
    plan_for(fingerprint).write(tmp_path / "plans" / f"{fingerprint}.json")
    image = next((sample_folder / "TEST").rglob("*.jpeg"))
    done = cli("predict", image, "--model", SHIPPED, "--json", CELLCLF_CACHE=str(tmp_path))
    assert (done.code, done.err.splitlines()) == (0, ["plan: cpu, 1 session × 2 threads, batch 5, measured 2026-11-22"])
    told = cli("predict", image, "--model", SHIPPED, "--json", "--device", "cpu", CELLCLF_CACHE=str(tmp_path))
    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == json.loads(done.out)


def test_predict_of_a_large_list_without_a_plan_hints_at_tune(cli: Cli, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(2000)]
    done = cli("predict", *names, "--model", SHIPPED, "--ndjson", CELLCLF_CACHE=str(tmp_path))
    assert done.code == 3
    assert f"2000 images with the default settings; `cellclf tune {SHIPPED}`" in done.err
    assert "cellclf tune" not in cli("predict", *names, "--model", SHIPPED, "--ndjson", "--device", "cpu", CELLCLF_CACHE=str(tmp_path)).err
    assert "cellclf tune" not in cli("predict", *names[1:], "--model", SHIPPED, "--ndjson", CELLCLF_CACHE=str(tmp_path)).err
