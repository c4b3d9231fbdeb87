import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cellclf.data.prepare import DataRequest
from cellclf.errors import BadImagesError, RunError
from cellclf.evaluation.scores import cross_entropy
from cellclf.training.checkpoint import CHECKPOINT
from cellclf.training.progress import Progress
from cellclf.training.recipe import make_recipe
from cellclf.training.run import Run, find_run, newest_run
from cellclf.training.train import check, resume, train
from tests.conftest import small_recipe

RUN_FILES = {
    "recipe.json",
    "manifest.csv",
    "environment.json",
    "history.csv",
    "model.weights.h5",
    "predictions.csv",
    "metrics.json",
    "curves.png",
}


TRAIN = [sys.executable, "-m", "cellclf", "train", "--backbone", "mobilenet025", "--data", "sample"]
TRAIN += ["--weights", "none", "--image-size", "32", "--batch-size", "8"]


class StopsIn(Progress):
    """Interrupts the training in the middle of an epoch, as Ctrl-C does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        self.now = epoch

    def batch_done(self, step: int, *, loss: float, accuracy: float, images_per_second: float) -> None:
        if self.now == self.epoch and step == 2:
            raise KeyboardInterrupt


def losses(run: Run) -> list[tuple[int, float, float, float]]:
    return [(row.epoch, row.train_loss, row.validation_loss, row.learning_rate) for row in run.history()]


def probabilities(run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    manifest = run.manifest()
    entries = [entry for entry in manifest.entries if entry.split == split]
    stored = run.predictions("test" if split == "test" else "validation")
    values = np.array([stored[entry.path] for entry in entries])
    return values, np.array([manifest.labels.index(entry.label) for entry in entries])


def test_a_run_folder_holds_what_the_design_names_and_nothing_else(finished_run: Run) -> None:
    assert {path.name for path in finished_run.folder.iterdir()} == RUN_FILES


def test_history_has_every_epoch_and_finite_figures(finished_run: Run) -> None:
    history = finished_run.history()
    assert [row.epoch for row in history] == [1, 2]
    assert all(np.isfinite(list(row.model_dump().values())).all() for row in history)


def test_learning_time_is_split_into_data_compile_and_fit(finished_run: Run) -> None:
    spent = finished_run.metrics().learning_time
    assert min(spent.data_s, spent.compile_s, spent.fit_s) > 0
    assert spent.total_s == pytest.approx(spent.data_s + spent.compile_s + spent.fit_s)


def test_stored_predictions_give_the_stored_figures(finished_run: Run) -> None:
    values, truth = probabilities(finished_run, "test")
    test = finished_run.metrics().test
    assert test.accuracy.value == pytest.approx((values.argmax(axis=1) == truth).mean())
    assert test.loss == pytest.approx(cross_entropy(values, truth), abs=1e-6)


def test_an_existing_run_folder_is_never_written_into(finished_run: Run) -> None:
    with pytest.raises(RunError, match="exists already"):
        train(small_recipe(), finished_run.folder)


def test_a_place_where_no_run_can_be_made_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe("mobilenet025", DataRequest(data="sample"), weights="none")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is no folder"):
        train(recipe, tmp_path / "file" / "runs" / "a")
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(RunError, match="is not writable"):
        check(recipe, tmp_path / "runs" / "a")


def test_two_processes_never_train_into_one_run_folder(tmp_path: Path, sample_folder: Path) -> None:
    """While one trains, neither a new run of that name nor a resume begins; before its folder is there and after."""
    assert sample_folder.is_dir()
    refused: list[str] = []

    class Meddler(Progress):
        def stage(self, name: str, done: int, total: int) -> None:
            meddle()

        def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
            meddle()

    def meddle() -> None:
        with pytest.raises(RunError, match="another process is training into") as caught:
            train(small_recipe(seed=1), tmp_path / "run")
        refused.append(str(caught.value))
        with pytest.raises(RunError, match="another process is training into") as caught:
            resume(Run(tmp_path / "run"))
        refused.append(str(caught.value))

    run = train(small_recipe(), tmp_path / "run", progress=Meddler())
    assert run.finished and len(refused) >= 4
    assert run.setup().recipe.seed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_broken_image_stops_the_run_before_its_folder_is_made(tmp_path: Path, sample_folder: Path) -> None:
    broken = sample_folder / "TRAIN" / "MONOCYTE" / "slide99_0001.jpeg"
    broken.write_bytes(b"\xff\xd8 cut")
    try:
        with pytest.raises(BadImagesError, match=r"slide99_0001\.jpeg"):
            train(small_recipe(), tmp_path / "run")
    finally:
        broken.unlink()
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    recipe = small_recipe(epochs=3, augmentation="cells", schedule="cosine", deterministic=True)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped", progress=StopsIn(2))
    stopped = Run(tmp_path / "stopped")
    assert not stopped.finished
    assert [row.epoch for row in stopped.history()] == [1]
    kept = (stopped.folder / CHECKPOINT).read_bytes()
    for damaged in (kept[: len(kept) // 2], b""):
        (stopped.folder / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(RunError, match=r"checkpoint.npz is damaged: .*; start a new run"):
            resume(stopped)
    (stopped.folder / CHECKPOINT).write_bytes(kept)
    resumed = resume(stopped)
    assert losses(resumed) == losses(whole)
    np.testing.assert_array_equal(probabilities(resumed, "test")[0], probabilities(whole, "test")[0])
    assert {path.name for path in resumed.folder.iterdir()} == RUN_FILES


def test_a_killed_run_resumes_with_the_full_history_and_the_right_best_epoch(tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    options = [
        "--backbone",
        "mobilenet025",
        "--data",
        "sample",
        "--weights",
        "none",
        "--image-size",
        "48",
        "--epochs",
        "6",
        "--batch-size",
        "8",
        "--patience",
        "6",
        "--name",
        "killed",
    ]
    command = [sys.executable, "-m", "cellclf", "train", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    history = tmp_path / "runs" / "killed" / "history.csv"
    give_up = time.monotonic() + 240
    while not (history.exists() and history.read_text().count("\n") >= 3):
        assert time.monotonic() < give_up, "two epochs did not end in time"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = Run(tmp_path / "runs" / "killed")
    assert not run.finished
    resumed = resume(run)
    rows = resumed.history()
    metrics = resumed.metrics()
    assert [row.epoch for row in rows] == list(range(1, metrics.epochs_run + 1))
    assert metrics.epochs_run == 6
    best = min(rows, key=lambda row: row.validation_loss)
    assert metrics.best_epoch == metrics.weights_epoch == best.epoch
    values, truth = probabilities(resumed, "validation")
    assert cross_entropy(values, truth) == pytest.approx(best.validation_loss, abs=1e-4)
    assert {path.name for path in resumed.folder.iterdir()} == RUN_FILES


def test_early_stopping_restores_the_best_weights(tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    run = train(small_recipe(epochs=12, patience=1, learning_rate=0.05), tmp_path / "run")
    metrics, rows = run.metrics(), run.history()
    best = min(rows, key=lambda row: row.validation_loss)
    assert metrics.stopped_early
    assert metrics.epochs_run < 12
    assert metrics.weights_epoch == best.epoch == metrics.epochs_run - 1
    values, truth = probabilities(run, "validation")
    assert cross_entropy(values, truth) == pytest.approx(best.validation_loss, abs=1e-4)


def test_resuming_a_finished_run_changes_nothing(finished_run: Run) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished_run.folder.iterdir()}
    assert resume(finished_run) == finished_run
    assert {path.name: path.stat().st_mtime_ns for path in finished_run.folder.iterdir()} == before


def test_a_frozen_backbone_trains_on_features_computed_once(tmp_path: Path, sample_folder: Path) -> None:
    """The head is fitted on features; the saved whole network must then give the very same probabilities."""
    assert sample_folder.is_dir()
    from cellclf.artifact.export import export

    seen: list[int] = []
    totals: set[int] = set()

    class Watching(Progress):
        def stage(self, name: str, done: int, total: int) -> None:
            if name == "features":
                seen.append(done)
                totals.add(total)

    run = train(small_recipe(freeze="all", epochs=4), tmp_path / "frozen", progress=Watching())
    assert seen == sorted(set(seen)), "each image goes through the backbone once, whatever the epochs"
    assert {seen[-1]} == totals == {len(run.manifest().entries)}
    parameters = run.metrics().parameters
    assert parameters.trainable == 256 * 16 + 16 + 16 * 4 + 4
    card = export(run, tmp_path / "frozen.onnx").card
    assert card.metrics["test"]["accuracy"].value == run.metrics().test.accuracy.value
    from cellclf.runtime.classifier import Classifier, Prediction

    manifest = run.manifest()
    records = list(Classifier(tmp_path / "frozen.onnx", device="cpu").predict_many(manifest.file(entry) for entry in manifest.split("test")))
    found = np.array([[record.probabilities[label] for label in manifest.labels] for record in records if isinstance(record, Prediction)])
    np.testing.assert_allclose(found, probabilities(run, "test")[0], atol=1e-4)


@pytest.mark.parametrize("choices", [{"freeze": "all"}, {}], ids=["frozen", "whole"])
def test_a_run_with_test_time_augmentation_is_measured_as_its_file_answers(choices: dict[str, str], tmp_path: Path) -> None:
    from cellclf.artifact.export import export
    from cellclf.runtime.classifier import Classifier, Prediction

    run = train(small_recipe(epochs=1, tta="mirror", **choices), tmp_path / "run")
    card = export(run, tmp_path / "m.onnx").card
    assert card.recipe["tta"] == "mirror"
    assert card.metrics["test"]["accuracy"].value == run.metrics().test.accuracy.value
    assert card.parity.max_difference < 1e-4
    manifest = run.manifest()
    paths = [manifest.file(entry) for entry in manifest.split("test")][:6]
    records = [record for record in Classifier(tmp_path / "m.onnx", device="cpu").predict_many(paths) if isinstance(record, Prediction)]
    found = np.array([[record.probabilities[label] for label in manifest.labels] for record in records])
    np.testing.assert_allclose(found, probabilities(run, "test")[0][:6], atol=1e-4)


def arrays_of(weights: Path) -> dict[str, np.ndarray]:
    """Every array of a weights file, by its place in it."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(weights) as file:
        file.visititems(lambda name, item: found.update({name: np.array(item)}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_of_a_partly_frozen_backbone_only_the_last_layers_move(tmp_path: Path, sample_folder: Path) -> None:
    """MobileNet's last four layers: pointwise convolution, its batch norm, ReLU, pooling; and the head's two dense layers."""
    assert sample_folder.is_dir()
    still = arrays_of(train(small_recipe(freeze="all-but-4", epochs=1, learning_rate=1e-30), tmp_path / "still").weights)
    moved = arrays_of(train(small_recipe(freeze="all-but-4", epochs=1, learning_rate=1e-2), tmp_path / "moved").weights)
    assert still.keys() == moved.keys()
    changed = {name for name in still if not np.array_equal(still[name], moved[name])}
    backbone, head = "layers/functional/layers/", "layers/functional_1/layers/"
    last = [f"{backbone}{name}/" for name in ("conv2d_13", "batch_normalization_26")]
    of_the_head = {name for name in still if name.startswith(head)}
    assert len(of_the_head) == 4
    assert of_the_head < changed
    assert all(name.startswith((head, *last)) for name in changed)
    assert {name.split("/")[3] for name in still if name.startswith(backbone)} > {"conv2d_13", "batch_normalization_26"}


def test_mixed_precision_trains_and_exports_a_float32_network(tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    from cellclf.artifact.export import export

    run = train(small_recipe(precision="mixed_bfloat16", learning_rate=1e-3), tmp_path / "mixed")
    assert all(np.isfinite([row.train_loss, row.validation_loss]).all() for row in run.history())
    assert {str(values.dtype) for values in arrays_of(run.weights).values()} == {"float32"}
    values, _ = probabilities(run, "test")
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
    card = export(run, tmp_path / "mixed.onnx").card
    assert card.parity is not None
    assert card.parity.flipped == 0


@pytest.mark.parametrize(("class_weight", "expected"), [("none", 0.1), ("balanced", 0.5)])
def test_class_weights_make_rare_labels_as_likely_as_common_ones(tmp_path: Path, class_weight: str, expected: float) -> None:
    """Images that tell nothing: a network can only learn how often a label is, or how much it weighs."""
    generator = np.random.default_rng(0)
    for label, count in (("common", 90), ("rare", 10)):
        (tmp_path / "all" / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((32, 32, 3), 128, dtype=np.uint8)
            pixels[0, 0] = generator.integers(0, 256, 3)
            Image.fromarray(pixels).save(tmp_path / "all" / label / f"{number}.png")
    request = DataRequest(data=str(tmp_path / "all"), protocol="random")
    choices = {"freeze": "all", "epochs": 60, "learning_rate": 0.02, "class_weight": class_weight, "dropout": 0.0, "hidden": (), "patience": 0}
    recipe = make_recipe("mobilenet025", request, image_size_px=32, weights="none", augmentation="none", batch_size=16, **choices)
    run = train(recipe, tmp_path / "run")
    values, _ = probabilities(run, "test")
    assert values[:, run.manifest().labels.index("rare")].mean() == pytest.approx(expected, abs=0.07)


def test_a_loss_that_is_no_number_ends_the_run_with_an_error(tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    with pytest.raises(RunError, match="diverged"):
        train(small_recipe(learning_rate=3e38, epochs=3), tmp_path / "run")


def test_runs_are_found_by_name_and_by_folder_and_the_newest_is_the_last_to_finish(finished_run: Run, tmp_path: Path) -> None:
    runs = finished_run.folder.parent
    assert find_run("small", runs=runs).folder == finished_run.folder
    assert find_run(str(finished_run.folder), runs=tmp_path).folder == finished_run.folder
    assert newest_run(runs=runs).folder == finished_run.folder
    with pytest.raises(RunError, match="no run 'smal'"):
        find_run("smal", runs=runs)
    with pytest.raises(RunError, match="no finished run"):
        newest_run(runs=tmp_path)


def test_jax_trains_the_same_network_and_its_weights_move_to_tensorflow(tmp_path: Path, sample_folder: Path) -> None:
    """Trained by JAX in a process of its own; exported here by TensorFlow; the file must give JAX's stored probabilities."""
    assert sample_folder.is_dir()
    pytest.importorskip("jax")
    options = [
        "--backbone",
        "mobilenet025",
        "--data",
        "sample",
        "--weights",
        "none",
        "--image-size",
        "48",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--patience",
        "0",
        "--name",
        "jax",
        "--json",
    ]
    command = [sys.executable, "-m", "cellclf", "train", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stderr
    assert "jit_compile" not in done.stderr, "Keras warns where a layer keeps JAX from compiling the step"
    assert json.loads(done.stdout)["epochs_run"] == 1
    run = Run(tmp_path / "runs" / "jax")
    assert run.environment().keras_backend == "jax"
    from cellclf.artifact.export import export
    from cellclf.runtime.classifier import Classifier

    file = export(run, tmp_path / "jax.onnx").path
    manifest = run.manifest()
    entry = manifest.split("test")[0]
    found = Classifier(file, device="cpu").predict(manifest.file(entry)).probabilities
    np.testing.assert_allclose(list(found.values()), probabilities(run, "test")[0][0], atol=1e-4)


_ON_JAX = """
import json, sys
from pathlib import Path
import numpy as np
from cellclf.data.crops import View
from cellclf.data.decoding import decode_file
from cellclf.training.framework import backend, require_keras
from cellclf.training.network import build_network
from cellclf.training.run import Run

require_keras("jax")
run = Run(Path(sys.argv[1]))
setup, manifest = run.setup(), run.manifest()
network = build_network(setup.recipe, classes=len(manifest.labels), weights=None, steps_per_epoch=1).whole
network.load_weights(run.weights)
size = setup.recipe.image_size_px
images = np.stack([decode_file(manifest.file(entry), View(size, size)) for entry in manifest.split("test")[:8]])
print(json.dumps([backend(), np.asarray(network.predict_on_batch(images)).tolist()]))
"""


def test_weights_that_tensorflow_trained_give_the_same_probabilities_on_jax(finished_run: Run) -> None:
    pytest.importorskip("jax")
    command = [sys.executable, "-c", _ON_JAX, str(finished_run.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stderr
    backend, found = json.loads(done.stdout)
    assert (backend, finished_run.environment().keras_backend) == ("jax", "tensorflow")
    np.testing.assert_allclose(found, probabilities(finished_run, "test")[0][:8], atol=1e-4)


def test_a_batch_that_is_larger_than_the_training_set_counts_the_images_that_there_are(tmp_path: Path) -> None:
    run = train(small_recipe(batch_size=10**9, image_size_px=32), tmp_path / "large")
    images = len(run.manifest().split("train"))
    assert all(epoch.images_per_second < images / (epoch.seconds / 1e3) for epoch in run.history())
