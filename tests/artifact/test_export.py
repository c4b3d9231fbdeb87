import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellclf.artifact.export import Exported, _without_paths, export
from cellclf.artifact.precisions import PRECISIONS, PrecisionRow
from cellclf.artifact.verify import verify
from cellclf.card import graph_digest, read_model_file
from cellclf.data.crops import View
from cellclf.data.decoding import Pixels, decode_file
from cellclf.data.manifest import Split
from cellclf.environment import cpu_name
from cellclf.errors import CellclfError, DataError, ParityError, RunError, UnknownNameError
from cellclf.evaluation.metrics import measure
from cellclf.runtime.classifier import Classifier, Prediction
from cellclf.tables import Table
from cellclf.training.run import Run
from tests.conftest import small_recipe
from tests.model_files import scaled_head

EVERY_PRECISION = pytest.mark.parametrize("precision", list(PRECISIONS))
BYTES_A_PARAMETER = 4
LARGEST_SHARE_OF_FP32_WEIGHTS = {"fp32": 1.05, "fp16": 0.6, "int8": 0.5}
"""Measured .99, .52 and .39 on this tiny network, whose names, card and graph weigh more than a real one's."""


@pytest.fixture(scope="module")
def files(finished_run: Run, model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run in every precision."""
    folder = tmp_path_factory.mktemp("exported")
    others = {name: export(finished_run, folder / f"{name}.onnx", precision=name).path for name in PRECISIONS if name != "fp32"}
    return {"fp32": model_file, **others}


@pytest.fixture
def copied_run(finished_run: Run, tmp_path: Path) -> Run:
    """A copy of the run, to be damaged."""
    return Run(Path(shutil.copytree(finished_run.folder, tmp_path / "copied")))


def use_converter(monkeypatch: pytest.MonkeyPatch, name: str, convert: Callable[[Any, Pixels], Any]) -> None:
    """Give one precision another conversion, in a copy of the table."""
    rows: list[PrecisionRow] = [replace(row, convert=convert) if row.name == name else row for row in PRECISIONS.values()]
    monkeypatch.setattr("cellclf.artifact.export.PRECISIONS", Table("precision", rows))


def pixels_of(run: Run, split: Split) -> Pixels:
    manifest, size = run.manifest(), run.setup().recipe.image_size_px
    return np.stack([decode_file(manifest.file(entry), View(size, size)) for entry in manifest.split(split)])


def stored_predictions(run: Run, split: Split) -> npt.NDArray[np.float64]:
    with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return np.array([[float(value) for value in row[5:]] for row in csv.reader(stream) if row[2] == split])


def initializer_types(model: Any, operator: str) -> set[int]:
    """Element types of the weights (second inputs) of all nodes of a kind, seen through DequantizeLinear."""
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    stored = (sources.get(node.input[1], node.input[1]) for node in model.graph.node if node.op_type == operator)
    return {types[name] for name in stored if name in types}


@EVERY_PRECISION
def test_an_exported_file_is_valid_onnx(files: dict[str, Path], precision: str) -> None:
    onnx.checker.check_model(onnx.load(files[precision]), full_check=True)


@EVERY_PRECISION
def test_input_and_output_are_as_the_design_says(files: dict[str, Path], precision: str, finished_run: Run) -> None:
    graph = onnx.load(files[precision]).graph
    size, labels = finished_run.setup().recipe.image_size_px, finished_run.setup().data.labels
    described = [
        (value.name, value.type.tensor_type.elem_type, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]
    assert described == [
        ("image", TensorProto.UINT8, ["batch", size, size, 3]),
        ("probabilities", TensorProto.FLOAT, ["batch", len(labels)]),
        ("heatmaps", TensorProto.FLOAT, ["batch", len(labels), 1, 1]),
    ]


@EVERY_PRECISION
def test_a_files_size_is_its_precisions_share_of_the_fp32_weights(files: dict[str, Path], precision: str, finished_run: Run) -> None:
    fp32_bytes = BYTES_A_PARAMETER * finished_run.metrics().parameters.total
    assert files[precision].stat().st_size <= LARGEST_SHARE_OF_FP32_WEIGHTS[precision] * fp32_bytes


def test_convolution_weights_are_stored_in_the_files_precision_and_the_start_and_head_of_int8_stay_fp32(files: dict[str, Path]) -> None:
    models = {name: onnx.load(path) for name, path in files.items()}
    stored = {"fp32": {TensorProto.FLOAT}, "fp16": {TensorProto.FLOAT16}, "int8": {TensorProto.INT8, TensorProto.FLOAT}}
    assert {name: initializer_types(model, "Conv") for name, model in models.items()} == stored, "int8 keeps its narrow start in fp32"
    assert initializer_types(models["int8"], "Gemm") | initializer_types(models["int8"], "MatMul") == {TensorProto.FLOAT}


@EVERY_PRECISION
def test_parity_with_the_trained_network_is_recorded_and_within_what_the_precision_may(
    files: dict[str, Path], precision: str, finished_run: Run
) -> None:
    parity, allowed = read_model_file(files[precision]).card.parity, PRECISIONS.find(precision).tolerance
    assert (parity.split, parity.images) == ("validation", len(finished_run.manifest().split("validation")))
    assert 0 <= parity.mean_difference <= allowed.mean_difference
    assert parity.mean_difference <= parity.max_difference <= allowed.max_difference
    assert parity.flipped == 0


@EVERY_PRECISION
def test_the_recorded_parity_is_what_the_file_really_gives(files: dict[str, Path], precision: str, finished_run: Run) -> None:
    found = Classifier(files[precision], device="cpu").probabilities(pixels_of(finished_run, "validation"))
    difference = np.abs(found - stored_predictions(finished_run, "validation"))
    parity = read_model_file(files[precision]).card.parity
    assert difference.max() == pytest.approx(parity.max_difference, abs=2e-6)
    assert difference.mean() == pytest.approx(parity.mean_difference, abs=2e-6)


@EVERY_PRECISION
def test_the_cards_test_figures_are_those_of_this_very_file(files: dict[str, Path], precision: str, finished_run: Run) -> None:
    classifier, manifest = Classifier(files[precision], device="cpu"), finished_run.manifest()
    entries = manifest.split("test")
    records = list(classifier.predict_many(manifest.file(entry) for entry in entries))
    rows = np.array([list(record.probabilities.values()) for record in records if isinstance(record, Prediction)])
    truth = np.array([classifier.labels.index(entry.label) for entry in entries])
    found = measure(rows, truth, classifier.labels, groups=manifest.group_keys("test"), unit="group")
    figures = classifier.card.metrics["test"]
    assert figures["accuracy"] == found.accuracy
    assert figures["balanced_accuracy"] == found.balanced_accuracy
    assert figures["loss"].value == pytest.approx(found.loss, abs=1e-5)
    assert found.auc is not None
    assert figures["auc"].value == pytest.approx(found.auc.value, abs=0.02)
    assert figures["brier"].value == pytest.approx(found.brier, abs=1e-5)
    assert figures["recall of MONOCYTE"] == found.per_label["MONOCYTE"].recall


def test_the_losses_of_the_precisions_differ_so_they_were_measured_each_for_itself(files: dict[str, Path]) -> None:
    losses = [read_model_file(path).card.metrics["test"]["loss"].value for path in files.values()]
    assert len(set(losses)) == len(losses)


@EVERY_PRECISION
def test_the_card_tells_where_the_file_came_from(files: dict[str, Path], precision: str, finished_run: Run) -> None:
    card, setup = read_model_file(files[precision]).card, finished_run.setup()
    assert card.name == finished_run.name
    assert card.precision == precision
    assert card.labels == setup.data.labels
    assert card.recipe_fingerprint == setup.recipe.fingerprint
    assert card.data_fingerprint == setup.data.fingerprint == finished_run.manifest().fingerprint
    assert card.parameters == finished_run.metrics().parameters.total
    assert (card.height_px, card.width_px) == (setup.recipe.image_size_px,) * 2
    assert card.golden_tolerance == PRECISIONS.find(precision).tolerance.golden
    assert card.recipe["backbone"] == setup.recipe.backbone


@EVERY_PRECISION
def test_no_folder_of_the_exporting_machine_is_in_the_file(files: dict[str, Path], precision: str, sample_folder: Path) -> None:
    content = files[precision].read_bytes()
    assert str(sample_folder.parent.parent).encode() not in content
    assert str(Path.home()).encode() + b"/" not in content


@EVERY_PRECISION
def test_an_exported_file_is_verified_and_its_digest_holds(files: dict[str, Path], precision: str) -> None:
    assert verify(files[precision], device="cpu").cases == 8
    assert read_model_file(files[precision]).card.graph_sha256 == graph_digest(files[precision].read_bytes())


@EVERY_PRECISION
def test_a_coarser_precision_is_timed_beside_fp32_and_the_figure_kept_with_its_processor(files: dict[str, Path], precision: str) -> None:
    gain = read_model_file(files[precision]).card.benefit
    assert (gain is None) == (precision == "fp32")
    if gain is not None:
        assert gain.ratio > 0 and gain.images_per_second > 0
        assert (gain.cpu, gain.provider) == (cpu_name(), "CPUExecutionProvider")


def test_what_is_calibrated_says_with_how_many_images(files: dict[str, Path], finished_run: Run) -> None:
    calibrated = {name: read_model_file(path).card.calibration_images for name, path in files.items()}
    assert calibrated == {"fp32": None, **dict.fromkeys(("fp16", "int8"), len(finished_run.manifest().split("train")))}


def test_an_int8_file_tells_how_many_of_its_convolutions_are_not_in_int8(files: dict[str, Path]) -> None:
    told = {name: read_model_file(path).card.convolutions_in_fp32 for name, path in files.items()}
    graph = onnx.load(files["int8"]).graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    assert told == {"fp32": None, "fp16": None, "int8": (sum(name in floats for name in weights), len(weights))}
    assert told["int8"] is not None and 0 < told["int8"][0] < told["int8"][1]


def test_int8_is_calibrated_on_training_images_and_never_on_validation_or_test_images(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Pixels] = []
    whole = PRECISIONS.find("int8").convert

    def recorded(model: Any, calibration: Pixels) -> Any:
        seen.append(calibration.copy())
        return whole(model, calibration)

    use_converter(monkeypatch, "int8", recorded)
    export(finished_run, tmp_path / "m.onnx", precision="int8")
    used = {image.tobytes() for calibration in seen for image in calibration}
    known: dict[Split, set[bytes]] = {
        split: {image.tobytes() for image in pixels_of(finished_run, split)} for split in ("train", "validation", "test")
    }
    assert used == known["train"]
    assert not used & (known["validation"] | known["test"])


def test_the_returned_figures_are_those_of_the_written_file(finished_run: Run, tmp_path: Path) -> None:
    stages: list[str] = []
    exported: Exported = export(finished_run, tmp_path / "new" / "m.onnx", on_stage=lambda name, _done, _total: stages.append(name))
    assert exported.path == tmp_path / "new" / "m.onnx"
    assert exported.size_bytes == exported.path.stat().st_size
    assert exported.card == read_model_file(exported.path).card
    assert "converting" in stages
    assert [path.name for path in exported.path.parent.iterdir()] == ["m.onnx"]


def damaged(model: Any, _: Pixels) -> Any:
    scaled_head(1.5)(model)
    return model


def shuffled(model: Any, _: Pixels) -> Any:
    """Swap two outputs: each probability is right, but under another label."""
    last = model.graph.node[-1]
    last.output[0] = "sorted"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0, 3], dtype=np.int64), "order"))
    model.graph.node.append(helper.make_node("Gather", ["sorted", "order"], ["probabilities"], axis=1))
    return model


@pytest.mark.parametrize("change", [damaged, shuffled])
def test_a_network_that_gives_other_numbers_is_a_parity_error_and_leaves_no_file(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Pixels], Any]
) -> None:
    use_converter(monkeypatch, "fp32", change)
    with pytest.raises(ParityError, match=r"fp32 file does not give.*8 validation images.*it was not written"):
        export(finished_run, tmp_path / "exported" / "m.onnx", heatmaps=False)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_failed_export_leaves_the_older_file_as_it_was(
    finished_run: Run, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = files["fp32"].read_bytes()
    target = tmp_path / "m.onnx"
    target.write_bytes(older)
    use_converter(monkeypatch, "fp32", damaged)
    with pytest.raises(ParityError):
        export(finished_run, target)
    assert target.read_bytes() == older


def test_an_interrupted_write_leaves_the_older_file_and_nothing_else(
    finished_run: Run, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = files["fp32"].read_bytes()
    target = tmp_path / "m.onnx"
    target.write_bytes(older)

    def interrupt(written: Path, **_: str) -> None:
        assert read_model_file(written).card.precision == "fp32", "the whole file is there, under its temporary name"
        raise KeyboardInterrupt

    monkeypatch.setattr("cellclf.artifact.export.verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(finished_run, target)
    assert target.read_bytes() == older
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(("trained_on", "named"), [("/home/me/sample", "./sample"), ("sample", "sample"), ("/home/me/mine", "mine")])
def test_a_folder_of_a_named_sets_name_is_not_taken_for_it(trained_on: str, named: str) -> None:
    recipe = small_recipe()
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"data": trained_on})})
    assert _without_paths(recipe, Path(trained_on).name)["data"]["data"] == named


def test_what_is_no_earlier_export_of_the_run_is_never_replaced(finished_run: Run, copied_run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"somebody's")
    with pytest.raises(RunError, match=r"m\.onnx exists and is no exported file; give another --output, or remove it"):
        export(finished_run, target)
    assert target.read_bytes() == b"somebody's"
    target.write_bytes(files["fp32"].read_bytes())
    recipe = copied_run.folder / "recipe.json"
    setup = copied_run.setup()
    setup.model_copy(update={"recipe": setup.recipe.model_copy(update={"seed": 7})}).write(recipe)
    with pytest.raises(RunError, match=rf"m\.onnx holds {finished_run.name} of another recipe or other data"):
        export(copied_run, target)
    assert target.read_bytes() == files["fp32"].read_bytes()
    assert export(finished_run, target).card.name == finished_run.name


def assert_refused(run: Run, error: type[CellclfError], match: str) -> None:
    target = run.folder.parent / "exported" / "m.onnx"
    with pytest.raises(error, match=match):
        export(run, target)
    assert not target.parent.exists() or not list(target.parent.iterdir())


def test_an_unfinished_run_is_refused_and_told_how_to_go_on(copied_run: Run) -> None:
    (copied_run.folder / "metrics.json").unlink()
    assert_refused(copied_run, RunError, r"copied has not finished.*cellclf train --resume copied")


def test_an_unknown_precision_is_an_error_with_near_names(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'fp8'.*did you mean.*known: fp32, fp16, int8"):
        export(finished_run, tmp_path / "m.onnx", precision="fp8")


def test_weights_that_are_cut_short_are_refused(copied_run: Run) -> None:
    copied_run.weights.write_bytes(copied_run.weights.read_bytes()[:5000])
    assert_refused(copied_run, RunError, r"model\.weights\.h5 does not fit")


def test_weights_that_are_not_the_runs_own_are_refused(copied_run: Run) -> None:
    def scale(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            item[...] = item[...] * -3

    with h5py.File(copied_run.weights, "r+") as weights:
        weights.visititems(scale)
    assert_refused(copied_run, RunError, "its weights do not give its stored predictions")


def test_a_manifest_that_was_changed_is_refused(copied_run: Run) -> None:
    path = copied_run.folder / "manifest.csv"
    path.write_text(path.read_text().replace(",validation\n", ",train\n", 1))
    assert_refused(copied_run, DataError, "does not match its recorded fingerprint")


def test_a_recipe_that_another_version_wrote_is_refused(copied_run: Run) -> None:
    path = copied_run.folder / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    assert_refused(copied_run, CellclfError, r"recipe\.json cannot be read: surprise")
