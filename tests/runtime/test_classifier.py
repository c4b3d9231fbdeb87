import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellclf import Classifier, Failure, Prediction
from cellclf.card import Card, read_model_file
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.errors import CellclfError, DecodeError, InferenceError, ModelFileError
from cellclf.runtime.classifier import EXPORTED, newest_model
from cellclf.training.run import Run
from tests.model_files import node_of_probabilities, resigned, scaled_head

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def classifier(model_file: Path) -> Classifier:
    return Classifier(model_file, device="cpu", threads=2)


@pytest.fixture(scope="module")
def images(sample_folder: Path) -> list[str]:
    """The sample's 16 test images."""
    return [str(path) for path in sorted((sample_folder / "TEST").rglob("*.jpeg"))]


@pytest.fixture(scope="module")
def broken(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Inputs that cannot be read, and a word that the reason must hold."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "cut.jpeg").write_bytes(Path(images[0]).read_bytes()[:2000])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    reasons = {"cut.jpeg": "damaged", "text.png": "not an image", "empty.png": "empty", "folder.png": "directory", "missing.png": "no such file"}
    return {str(folder / name): reason for name, reason in reasons.items()}


@pytest.fixture(scope="module")
def alone(classifier: Classifier, images: list[str]) -> dict[str, Prediction]:
    """Each image predicted by itself."""
    return {path: classifier.predict(path) for path in images}


def assert_same(record: Prediction | Failure, reference: Prediction) -> None:
    assert isinstance(record, Prediction), record
    assert record.path == reference.path
    assert record.label == reference.label
    assert list(record.probabilities) == list(reference.probabilities)
    assert list(record.probabilities.values()) == pytest.approx(list(reference.probabilities.values()), abs=TOLERANCE)


def test_probabilities_are_those_of_a_plain_onnxruntime_session(classifier: Classifier, images: list[str], model_file: Path) -> None:
    card = classifier.card
    pixels = np.stack([decode_file(Path(path), View(card.height_px, card.width_px)) for path in images])
    plain = onnxruntime.InferenceSession(model_file.read_bytes(), providers=["CPUExecutionProvider"]).run(["probabilities"], {"image": pixels})[0]
    np.testing.assert_allclose(classifier.probabilities(pixels), plain, atol=TOLERANCE)
    records = list(classifier.predict_many(images))
    assert [record.label for record in records if isinstance(record, Prediction)] == [card.labels[row.argmax()] for row in plain]


def test_predictions_are_those_of_the_trained_network(classifier: Classifier, finished_run: Run) -> None:
    root = Path(finished_run.setup().data.root)
    with (finished_run.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    assert len(rows) == 16
    for row, record in zip(rows, classifier.predict_many(root / row["path"] for row in rows), strict=True):
        assert isinstance(record, Prediction)
        assert record.probabilities == pytest.approx({label: float(row[f"p_{label}"]) for label in classifier.labels}, abs=1e-4)


def test_a_label_is_its_most_probable_one_and_probabilities_sum_to_one(classifier: Classifier, alone: dict[str, Prediction]) -> None:
    for record in alone.values():
        assert tuple(record.probabilities) == classifier.labels == classifier.card.labels
        assert sum(record.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert record.probability == record.probabilities[record.label] == max(record.probabilities.values())


def test_without_an_operating_point_nothing_is_abstained(alone: dict[str, Prediction]) -> None:
    assert not any(record.abstained for record in alone.values())


def deciding(model_file: Path, target: Path, positive: str, threshold: float, low: float, high: float) -> Classifier:
    """The same network with an operating point and a band without an answer."""
    whole = {"value": 1.0, "low": None, "high": None}
    chosen = {"positive": positive, "split": "validation", "images": 1}
    card = {
        "operating_point": {**chosen, "threshold": threshold, "min_sensitivity": 0.9, "sensitivity": whole, "specificity": whole, "groups": 1},
        "abstain": {**chosen, "low": low, "high": high, "max_error": 0.1, "min_coverage": None, "coverage": whole, "error": None, "curve": []},
    }
    return Classifier(resigned(model_file, target, card=card), device="cpu", threads=2)


def test_an_operating_point_calls_its_label_from_the_threshold_on_and_the_best_other_below(
    model_file: Path, images: list[str], alone: dict[str, Prediction], tmp_path: Path
) -> None:
    values = sorted(record.probabilities["MONOCYTE"] for record in alone.values())
    threshold, low, high = ((values[place - 1] + values[place]) / 2 for place in (8, 6, 11))
    classifier = deciding(model_file, tmp_path / "model.onnx", "MONOCYTE", threshold, low, high)
    records = [record for record in classifier.predict_many(images, batch_size=3) if isinstance(record, Prediction)]
    assert [record.path for record in records] == images
    for record in records:
        found = record.probabilities["MONOCYTE"]
        others = {label: value for label, value in record.probabilities.items() if label != "MONOCYTE"}
        assert record.label == ("MONOCYTE" if found >= threshold else max(others, key=others.__getitem__))
        assert record.probability == record.probabilities[record.label]
        assert record.abstained == (low <= found < high)
        assert record.as_dict()["abstained"] is record.abstained
    assert sum(record.label == "MONOCYTE" for record in records) == 8
    assert sum(record.abstained for record in records) == 5


def test_one_image_is_decided_as_in_a_batch(model_file: Path, images: list[str], alone: dict[str, Prediction], tmp_path: Path) -> None:
    values = sorted(record.probabilities["MONOCYTE"] for record in alone.values())
    middle = (values[7] + values[8]) / 2
    classifier = deciding(model_file, tmp_path / "model.onnx", "MONOCYTE", middle, (values[5] + values[6]) / 2, middle)
    many = list(classifier.predict_many(images))
    for path, record in zip(images, many, strict=True):
        for single in (classifier.predict(path), classifier.record(path)):
            assert isinstance(single, Prediction) and isinstance(record, Prediction)
            assert (single.label, single.abstained) == (record.label, record.abstained)


def test_top_lists_the_most_probable_labels_best_first(alone: dict[str, Prediction]) -> None:
    record = next(iter(alone.values()))
    assert record.top(1) == [(record.label, record.probability)]
    best_first = record.top(99)
    assert dict(best_first) == record.probabilities
    assert [probability for _, probability in best_first] == sorted(record.probabilities.values(), reverse=True)


def test_every_record_names_the_files_sha256_and_the_provider(
    classifier: Classifier, model_file: Path, images: list[str], broken: dict[str, str]
) -> None:
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert classifier.fingerprint == digest
    for record in classifier.predict_many([*images[:2], *broken]):
        assert (record.model, record.provider) == (digest, "CPUExecutionProvider")
        assert record.as_dict()["model"] == digest


def test_failures_stand_at_their_place_and_the_others_go_on(classifier: Classifier, images: list[str], broken: dict[str, str]) -> None:
    inputs = [path for pair in zip(images, broken, strict=False) for path in pair]
    records = list(classifier.predict_many(inputs, batch_size=4))
    assert [record.path for record in records] == inputs
    for record in records:
        if isinstance(record, Failure):
            assert broken[record.path] in record.error.lower()
        else:
            assert record.path in images


def test_a_batch_of_unreadable_inputs_gives_failures_only(classifier: Classifier, broken: dict[str, str]) -> None:
    assert [type(record) for record in classifier.predict_many(broken, batch_size=2)] == [Failure] * len(broken)


def test_no_input_gives_no_record(classifier: Classifier) -> None:
    assert list(classifier.predict_many([])) == []


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_a_result_does_not_depend_on_the_size_of_its_batch(classifier: Classifier, alone: dict[str, Prediction], batch_size: int) -> None:
    records = list(classifier.predict_many(alone, batch_size=batch_size))
    for record, reference in zip(records, alone.values(), strict=True):
        assert_same(record, reference)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), batch_size=st.integers(1, 20))
def test_one_record_an_input_in_order_whatever_stands_beside_it(
    classifier: Classifier, alone: dict[str, Prediction], broken: dict[str, str], data: st.DataObject, batch_size: int
) -> None:
    inputs = data.draw(st.lists(st.sampled_from([*alone, *broken]), max_size=24))
    records = list(classifier.predict_many(inputs, batch_size=batch_size))
    assert [record.path for record in records] == inputs
    for record in records:
        if record.path in alone:
            assert_same(record, alone[record.path])
        else:
            assert isinstance(record, Failure)


def test_a_path_a_string_and_the_bytes_give_the_same(classifier: Classifier, alone: dict[str, Prediction]) -> None:
    for path, reference in list(alone.items())[:3]:
        from_bytes = classifier.predict(Path(path).read_bytes())
        assert from_bytes.path == ""
        assert (from_bytes.label, from_bytes.probabilities) == (reference.label, reference.probabilities)
        assert classifier.predict(Path(path)) == reference


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(model_file: Path, alone: dict[str, Prediction], threads: int) -> None:
    classifier = Classifier(model_file, device="cpu", threads=threads)
    for path, reference in alone.items():
        assert_same(classifier.predict(path), reference)
    for record, reference in zip(classifier.predict_many(alone, batch_size=3), alone.values(), strict=True):
        assert_same(record, reference)


def test_what_cannot_be_meant_is_one_clear_error(classifier: Classifier, model_file: Path, images: list[str]) -> None:
    with pytest.raises(CellclfError, match="predict_many takes a list of paths; for one image there is predict"):
        classifier.predict_many(images[0])
    for size in (0, -1):
        with pytest.raises(CellclfError, match=f"batch_size {size} must be at least 1"):
            classifier.predict_many(images, batch_size=size)
    with pytest.raises(InferenceError, match="no images were given"):
        classifier.probabilities(np.zeros((0, classifier.card.height_px, classifier.card.width_px, 3), np.uint8))
    with pytest.raises(CellclfError, match="sessions 0 must be at least 1"):
        Classifier(model_file, sessions=0)
    with pytest.raises(CellclfError, match="threads 1000000 is more than"):
        Classifier(model_file, threads=1_000_000)


def test_predict_of_an_unreadable_image_raises_the_reason(classifier: Classifier, broken: dict[str, str]) -> None:
    for path, reason in broken.items():
        with pytest.raises(DecodeError, match=f"(?i){reason}"):
            classifier.predict(path)
    with pytest.raises(DecodeError, match="empty"):
        classifier.predict(b"")


def test_an_endless_list_is_predicted_as_it_comes(classifier: Classifier, images: list[str]) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield images[taken % len(images)]

    records = classifier.predict_many(endless(), batch_size=2)
    for _ in range(5):
        assert isinstance(next(records), Prediction)
    records.close()  # type: ignore[attr-defined]  # predict_many is a generator
    assert taken <= 5 + 2 * (classifier.threads + 2) + 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_with_one_byte_changed_anywhere_is_refused(model_file: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(model_file.read_bytes())
    card_starts = bytes(content).index(b"cellclf.card")
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(card_starts - 8, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path_factory.getbasetemp() / "changed.onnx"
    changed.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"changed\.onnx"):
        read_model_file(changed)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(model_file: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = model_file.read_bytes()
    cut = tmp_path_factory.getbasetemp() / "cut.onnx"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1) | st.integers(len(content) - 4000, len(content) - 1))])
    with pytest.raises(ModelFileError, match=r"cut\.onnx"):
        read_model_file(cut)


def test_a_tampered_network_is_refused(model_file: Path, tmp_path: Path) -> None:
    content = bytearray(model_file.read_bytes())
    content[len(content) // 2] ^= 1
    changed = tmp_path / "m.onnx"
    changed.write_bytes(content)
    with pytest.raises(ModelFileError, match="its network was changed"):
        Classifier(changed, device="cpu")


def test_a_tampered_card_is_refused(model_file: Path, tmp_path: Path) -> None:
    changed = tmp_path / "m.onnx"
    changed.write_bytes(model_file.read_bytes().replace(b'"MONOCYTE"', b'"LEUCOCYT"'))
    with pytest.raises(ModelFileError, match="its card was changed"):
        Classifier(changed, device="cpu")


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a model at all", b"\x89PNG\r\n\x1a\n"], ids=["empty", "zero", "text", "png"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        Classifier(path, device="cpu")


def test_a_plain_onnx_without_a_card_is_refused(model_file: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(model_file)
    del model.metadata_props[:]
    path = tmp_path / "plain.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="carries no cellclf card"):
        Classifier(path, device="cpu")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere.onnx", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ModelFileError, match=reason):
            Classifier(path, device="cpu")


def test_a_resize_method_that_this_version_does_not_know_is_refused(model_file: Path, tmp_path: Path) -> None:
    path = resigned(model_file, tmp_path / "m.onnx", card={"resize": "letterbox-lanczos"})
    with pytest.raises(ModelFileError, match=r"letterbox-lanczos.*update cellclf"):
        Classifier(path, device="cpu")


@pytest.mark.parametrize("change", [{"format": 2}, {"labels": None}, {"surprise": 1}], ids=["newer format", "wrong type", "unknown field"])
def test_a_card_of_another_version_is_an_error_that_names_the_field(model_file: Path, tmp_path: Path, change: dict[str, object]) -> None:
    path = resigned(model_file, tmp_path / "m.onnx", card=change)
    with pytest.raises(CellclfError, match=next(iter(change))):
        Classifier(path, device="cpu")


def test_a_network_that_onnx_runtime_cannot_load_is_refused_in_one_line(model_file: Path, tmp_path: Path) -> None:
    def disconnect(model: Any) -> None:
        node_of_probabilities(model).input[0] = "nowhere"

    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load") as caught:
        Classifier(resigned(model_file, tmp_path / "m.onnx", network=disconnect), device="cpu")
    assert "\n" not in str(caught.value)


def test_values_that_are_no_probabilities_are_an_error_not_a_prediction(model_file: Path, tmp_path: Path, images: list[str]) -> None:
    classifier = Classifier(resigned(model_file, tmp_path / "m.onnx", network=scaled_head(float("nan"))), device="cpu", threads=1)
    with pytest.raises(InferenceError, match="no probabilities"):
        classifier.predict(images[0])
    with pytest.raises(InferenceError, match="no probabilities"):
        list(classifier.predict_many(images))


def test_the_newest_model_is_the_one_written_last(tmp_path: Path) -> None:
    for name, time_s in (("a.onnx", 300), ("b.onnx", 100), ("z.onnx", 200), ("later.txt", 900)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time_s, time_s))
    assert newest_model(tmp_path) == tmp_path / "a.onnx"


def test_no_model_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no \.onnx file.*cellclf export.*--model"):
        newest_model(tmp_path)


def test_without_a_path_the_newest_in_exported_is_opened(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="exported"):
        Classifier(device="cpu")
    EXPORTED.mkdir()
    (EXPORTED / "m.onnx").write_bytes(model_file.read_bytes())
    classifier = Classifier(device="cpu")
    assert classifier.path == EXPORTED / "m.onnx"
    assert isinstance(classifier.card, Card)


def test_importing_cellclf_loads_neither_numpy_nor_onnxruntime_and_its_names_are_there() -> None:
    code = (
        "import sys, cellclf\n"
        "assert not {'numpy', 'onnxruntime', 'PIL', 'pydantic', 'rich', 'typer'} & set(sys.modules), 'loaded on import'\n"
        "from cellclf import Classifier, Failure, Prediction, __version__\n"
        "assert 'numpy' in sys.modules and 'tensorflow' not in sys.modules\n"
        "try:\n    cellclf.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'nothing'" in done.stdout
