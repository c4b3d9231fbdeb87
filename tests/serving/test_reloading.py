import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.card import read_model_file
from cellclf.data.crops import CROPS
from cellclf.errors import ModelFileError, ServingError, VerificationError
from cellclf.serving.models import Models, load, sources_of
from cellclf.serving.reloading import Reloader
from cellclf.serving.settings import Settings
from tests.model_files import resigned, scaled_head
from tests.serving.conftest import MODEL, SHIPPED, Running, picture, serving, wait_until

SETTINGS = Settings(threads=1)
CHANGES = {"created": "2099-01-01T00:00:00+00:00"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))


def replaced(running: Running, model: str = "mine") -> float:
    return running.metrics().get(f'cellclf_reloads_total{{model="{model}",outcome="replaced"}}', 0)


def kept(running: Running) -> float:
    return running.metrics().get('cellclf_reloads_total{model="mine",outcome="kept"}', 0)


def test_a_changed_file_takes_over_once_it_is_proven(file: Path, tmp_path: Path) -> None:
    with serving(file, reload_s=0.01) as running:
        before = running.post("/predict", content=picture(1))
        resigned(SHIPPED, tmp_path / "new", card=CHANGES).replace(file)
        wait_until(lambda: replaced(running) == 1)
        after = running.post("/predict", content=picture(1))
        assert after.headers["x-model-version"] == read_model_file(file).fingerprint[:12] != before.headers["x-model-version"]
        (old,), (new,) = before.json(), after.json()
        assert (new["label"], new["model"]) == (old["label"], read_model_file(file).fingerprint)
        assert [name for name in running.metrics() if name.startswith("cellclf_model{")] == [
            f'cellclf_model{{model="mine",precision="fp32",provider="CPUExecutionProvider",version="{new["model"][:12]}"}}'
        ]


def test_a_file_that_is_served_under_two_names_takes_over_under_both(file: Path, tmp_path: Path) -> None:
    with serving(f"one={file}", f"two={file}", reload_s=0.01) as running:
        resigned(SHIPPED, tmp_path / "new", card=CHANGES).replace(file)
        wait_until(lambda: replaced(running, "one") == replaced(running, "two") == 1)
        versions = {running.post(f"/predict?model={name}", content=picture(1)).headers["x-model-version"] for name in ("one", "two")}
        assert versions == {read_model_file(file).fingerprint[:12]}


@pytest.mark.parametrize("how", ["cut", "other numbers", "no model"])
def test_where_the_changed_file_fails_the_old_one_stays_in_service(file: Path, tmp_path: Path, how: str) -> None:
    with serving(file, reload_s=0.01) as running:
        before = running.post("/predict", content=picture(1)).json()
        if how == "cut":
            file.write_bytes(SHIPPED.read_bytes()[:-1000])
        elif how == "no model":
            file.write_bytes(b"something else")
        else:
            resigned(SHIPPED, tmp_path / "new", network=scaled_head(3.0)).replace(file)
        wait_until(lambda: kept(running) >= 1)
        assert running.post("/predict", content=picture(1)).json() == before
        assert running.client.get("/v2/health/ready").status_code == 200
        resigned(SHIPPED, tmp_path / "good", card=CHANGES).replace(file)
        wait_until(lambda: replaced(running) == 1)


def with_labels_turned(target: Path) -> Path:
    labels = read_model_file(SHIPPED).card.labels
    return resigned(SHIPPED, target, card={**CHANGES, "labels": list(reversed(labels))})


def with_another_crop(target: Path) -> Path:
    return resigned(SHIPPED, target, card={**CHANGES, "resize": CROPS["cell"].resize})


@pytest.mark.parametrize("other", [with_labels_turned, with_another_crop])
def test_a_proven_file_that_its_clients_would_misunderstand_does_not_take_over(file: Path, tmp_path: Path, other: Callable[[Path], Path]) -> None:
    with serving(file, reload_s=0.01) as running:
        before = running.post("/predict", content=picture(1)).json()
        other(tmp_path / "new").replace(file)
        wait_until(lambda: kept(running) >= 1)
        assert running.post("/predict", content=picture(1)).json() == before


@pytest.mark.parametrize("other", [with_labels_turned, with_another_crop])
def test_versions_that_clients_would_take_for_one_another_need_names(tmp_path: Path, other: Callable[[Path], Path]) -> None:
    shutil.copy(SHIPPED, tmp_path / "mine.onnx")
    (tmp_path / "other").mkdir()
    other(tmp_path / "other" / "mine.onnx")
    with pytest.raises(ServingError, match="so it wants a name of its own"):
        Models([load(source, SETTINGS) for source in sources_of([str(tmp_path / "mine.onnx"), str(tmp_path / "other" / "mine.onnx")], device="cpu")])


def test_versions_of_one_name_tell_the_same_labels_apart(tmp_path: Path) -> None:
    turned = with_labels_turned(tmp_path / "turned.onnx")
    with pytest.raises(ServingError, match="name of its own"):
        Models([load(source, SETTINGS) for source in sources_of([f"a={SHIPPED}", f"a={turned}"], device="cpu")])
    both = Models([load(source, SETTINGS) for source in sources_of([f"a={SHIPPED}", f"b={turned}"], device="cpu")])
    assert both.find("b").classifier.labels == tuple(reversed(both.find("a").classifier.labels))


def test_a_removed_file_changes_nothing(file: Path) -> None:
    with serving(file, reload_s=0.01) as running:
        file.unlink()
        before = running.metrics()
        assert running.post("/predict", content=picture(1)).status_code == 200
        assert not any(name.startswith("cellclf_reloads_total") for name in before)


def test_a_file_is_tried_once_for_each_change(file: Path) -> None:
    source = sources_of([str(file)], device="cpu")[0]
    models = Models([load(source, SETTINGS)])
    from cellclf.serving.metrics import Metrics

    metrics = Metrics()
    reloader = Reloader(models, {}, metrics, SETTINGS)
    file.write_bytes(b"broken")
    for _ in range(3):
        asyncio.run(reloader.look())
    assert metrics.reloads.labels("mine", "kept")._value.get() == 1


def test_a_file_of_another_hash_is_refused_before_it_is_opened(file: Path) -> None:
    right = read_model_file(file).fingerprint
    assert load(sources_of([str(file)], device="cpu", sha256=["0" * 64, right.upper()])[0], SETTINGS).version == right[:12]
    with pytest.raises(ServingError, match="was not opened"):
        load(sources_of([str(file)], device="cpu", sha256=["0" * 64])[0], SETTINGS)
    with pytest.raises(ServingError, match="64 hexadecimal"):
        sources_of([str(file)], device="cpu", sha256=["abc"])


def test_the_hash_is_asked_of_a_changed_file_too(file: Path, tmp_path: Path) -> None:
    with serving(file, reload_s=0.01, sha256=(read_model_file(file).fingerprint,)) as running:
        resigned(SHIPPED, tmp_path / "new", card=CHANGES).replace(file)
        wait_until(lambda: kept(running) == 1)
        assert running.post("/predict", content=picture(1)).headers["x-model-version"] == read_model_file(SHIPPED).fingerprint[:12]


def test_a_file_whose_golden_cases_fail_never_starts(tmp_path: Path) -> None:
    other = resigned(SHIPPED, tmp_path / "other.onnx", network=scaled_head(3.0))
    with pytest.raises(VerificationError):
        load(sources_of([str(other)], device="cpu")[0], SETTINGS)
    with pytest.raises(ModelFileError):
        load(sources_of([str(tmp_path / "none.onnx")], device="cpu")[0], SETTINGS)


def test_two_versions_of_a_name_are_served_and_the_newest_is_the_default(tmp_path: Path) -> None:
    newer = resigned(SHIPPED, tmp_path / "newer.onnx", card=CHANGES)
    with serving(f"cells={newer}", f"cells={SHIPPED}") as running:
        old, new = (read_model_file(path).fingerprint[:12] for path in (SHIPPED, newer))
        assert running.client.get("/v2/models/cells").json()["versions"] == [old, new]
        assert running.post("/predict", content=picture(1)).headers["x-model-version"] == new
        assert running.post(f"/predict?version={old}", content=picture(1)).headers["x-model-version"] == old
        assert running.client.get(f"/models/cells?version={old}").json()["version"] == old


def test_the_same_file_twice_under_one_name_and_a_name_that_is_none_are_errors() -> None:
    with pytest.raises(ServingError, match="same file"):
        Models([load(source, SETTINGS) for source in sources_of([f"a={SHIPPED}", f"a={SHIPPED}"], device="cpu")])
    with pytest.raises(ServingError, match="NAME=FILE"):
        sources_of(["my model.onnx"], device="cpu")
    assert [source.name for source in sources_of([str(SHIPPED), f"b.2={SHIPPED}"], device="cpu")] == [MODEL, "b.2"]
