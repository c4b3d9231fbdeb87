"""A finished run → one .onnx file that carries its card; compared with the trained network on real images before it is written."""

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.benefit import benefit_of, no_benefit
from cellclf.artifact.convert import divide_logits, to_onnx
from cellclf.artifact.decisions import Decisions, Wishes, check, choose, figures, notes, stored
from cellclf.artifact.golden import GOLDEN_SEEDS, golden_image
from cellclf.artifact.heatmaps import dense_weights, feature_map_size, with_heatmaps
from cellclf.artifact.precisions import PRECISIONS, PrecisionRow
from cellclf.artifact.quantize import convolutions_in_fp32
from cellclf.artifact.verify import verify
from cellclf.artifact.views import with_views
from cellclf.backbones import BACKBONES
from cellclf.card import CARD_KEY, DIGEST_KEY, Benefit, Card, Estimate, GoldenCase, Parity, Temperature, graph_digest, read_model_file
from cellclf.data.datasets import DATASETS
from cellclf.data.decoding import Pixels
from cellclf.data.manifest import Entry, Split
from cellclf.data.prepare import Prepared, reopen
from cellclf.environment import installed_versions, usable_cores
from cellclf.errors import ModelFileError, ParityError, RunError, WeightsError
from cellclf.evaluation.calibration import apply_temperature
from cellclf.runtime.session import Session, open_session
from cellclf.storage import new_file
from cellclf.training.framework import require_keras
from cellclf.training.network import Network, build_network
from cellclf.training.recipe import Recipe, TrainingPrecision
from cellclf.training.run import Run
from cellclf.training.tta import TTAS, Tta
from cellclf.training.weights import load_strictly

__all__ = ["Exported", "export"]

_COMPARED_IMAGES = 256
_CALIBRATION_IMAGES = 256
_BATCH = 32
_STORED_TOLERANCE: dict[TrainingPrecision, float] = {"float32": 1e-2, "mixed_bfloat16": 0.2, "mixed_float16": 0.05}
"""How far probabilities computed in float32 here may be from those the run stored on its own backend and device (a GPU may
use TF32) in its own precision; weights that are not the run's are further off."""

_NO_WISHES = Wishes()

OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exported:
    """The written file, its card, its size in bytes, and what whoever exported it must know."""

    path: Path
    card: Card
    size_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Compared:
    """Validation images [n, H, W, 3], and what the file must give for them: the trained network's probabilities at the temperature."""

    images: Pixels
    expected: npt.NDArray[np.floating]


@dataclass(frozen=True)
class _Decided:
    """What the file decides by, and its figures a split."""

    temperature: Temperature | None
    decisions: Decisions
    metrics: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class _Source:
    """A run opened for export: its Keras networks, its images, and whoever watches."""

    run: Run
    network: Network
    prepared: Prepared
    on_stage: OnStage

    def images(self, entries: tuple[Entry, ...]) -> Pixels:
        """Pixels [n, H, W, 3] of these entries."""
        return np.asarray(self.prepared.pixels.pixels[self.prepared.pixels.rows(entry.sha256 for entry in entries)])


def export(
    run: Run, target: Path, *, precision: str = "fp32", wishes: Wishes = _NO_WISHES, heatmaps: bool = True, on_stage: OnStage | None = None
) -> Exported:
    """Export a finished run to `target`; raises ParityError, and leaves no file, where the numbers moved more than the precision may.

    fp16 and int8 are calibrated on training images. Parity is measured on validation images. Test figures in the card are those of this very
    file. A coarser precision is timed beside fp32, and a note says where it is no faster here.
    heatmaps: give the file a second output that tells where the network looked (see heatmaps.with_heatmaps).
    A temperature is fitted on the run's stored validation predictions and divides the logits in the graph; threshold and band are chosen on this
    file's validation probabilities. Raises EvaluationError, UnknownNameError, before anything is converted, where a wish cannot be met, and RunError
    where `target` holds something else than an earlier export of this recipe on these data.
    """
    row = PRECISIONS.find(precision)
    if not run.finished:
        raise RunError(f"run {run.name} has not finished; continue it with: cellclf train --resume {run.name}")
    _refuse_another(target, run)
    temperature = check(wishes, run)
    source = _open(run, on_stage or (lambda _name, _done, _total: None))
    compared = _compared(source, temperature)
    if temperature is not None:
        divide_logits(source.network.whole, temperature.value)
    source.on_stage("converting", 0, 1)
    calibration = source.images(_drawn(source.prepared.manifest.split("train"), _CALIBRATION_IMAGES)) if row.calibrated else source.images(())
    tta = TTAS[run.setup().recipe.tta]
    model = to_onnx(source.network.whole)
    plain = model.SerializeToString()
    model = row.convert(model, calibration)
    in_fp32 = convolutions_in_fp32(model) if row.name == "int8" else None
    size = feature_map_size(source.network.whole) if heatmaps else None
    if size is not None:
        model = with_heatmaps(model, dense_weights(source.network.whole), size)
    model = with_views(model, tta)
    source.on_stage("converting", 1, 1)
    content = model.SerializeToString()
    session = open_session(content, device="cpu", threads=usable_cores())
    parity = _parity(compared, session, row)
    decided = _decided(source, session, row, wishes, temperature)
    card = _card(source, session, row, parity, decided, digest=graph_digest(content), calibration=len(calibration) or None)
    benefit = _benefit(source, session, _with_views(plain, tta), compared.images) if row.name != "fp32" else None
    card = card.model_copy(update={"benefit": benefit, "heatmap": size, "convolutions_in_fp32": in_fp32})
    with new_file(target) as temporary:
        temporary.write_bytes(_with_card(model, card))
        verify(temporary, device="cpu")
    return Exported(target, card, target.stat().st_size, (*notes(wishes, run, temperature), *no_benefit(card)))


def _with_views(content: bytes, tta: Tta) -> bytes:
    import onnx

    return bytes(with_views(onnx.load_from_string(content), tta).SerializeToString())


def _benefit(source: _Source, session: Session, fp32: bytes, images: Pixels) -> Benefit:
    """The speed of a coarser session beside that of the same network's fp32 graph."""
    source.on_stage("timing", 0, 1)
    threads = usable_cores()
    found = benefit_of(session, open_session(fp32, device="cpu", threads=threads), images, threads=threads)
    source.on_stage("timing", 1, 1)
    return found


def _open(run: Run, on_stage: OnStage) -> _Source:
    setup = run.setup()
    keras = require_keras("tensorflow")
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    prepared = reopen(run.manifest(), setup.data, view=setup.recipe.view, on_progress=on_stage)
    network = build_network(setup.recipe, classes=len(setup.data.labels), weights=None, steps_per_epoch=1)
    try:
        load_strictly(network.whole, run.weights)
    except WeightsError as error:
        raise RunError(f"{run.weights} does not fit the run's recipe: {error}") from error
    return _Source(run, network, prepared, on_stage)


def _drawn(entries: tuple[Entry, ...], count: int) -> tuple[Entry, ...]:
    """At most `count` entries, drawn by content, so that every label comes in its share."""
    return tuple(sorted(entries, key=lambda entry: hashlib.sha256(entry.sha256.encode()).digest())[:count])


def _run_session(session: Session, images: Pixels) -> npt.NDArray[np.float32]:
    return np.concatenate([session.run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)])


def _compared(source: _Source, temperature: Temperature | None) -> _Compared:
    """What the trained network, as the run left it, gives for some validation images."""
    entries = _drawn(source.prepared.manifest.split("validation"), _COMPARED_IMAGES)
    images = source.images(entries)
    expected = np.concatenate([np.asarray(source.network.answers.predict_on_batch(images[at : at + _BATCH])) for at in range(0, len(images), _BATCH)])
    _check_against_run(source, entries, expected)
    return _Compared(images, expected if temperature is None else apply_temperature(expected, temperature.value))


def _parity(compared: _Compared, session: Session, row: PrecisionRow) -> Parity:
    images, expected = compared.images, compared.expected
    found = _run_session(session, images)
    difference = np.abs(found - expected)
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > row.tolerance.close_call
    flipped = found.argmax(axis=1) != expected.argmax(axis=1)
    parity = Parity(
        images=len(images),
        split="validation",
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        flipped=int(flipped.sum()),
    )
    allowed = row.tolerance
    clear_flips = float((flipped & clear).mean())
    if parity.max_difference > allowed.max_difference or parity.mean_difference > allowed.mean_difference or clear_flips > allowed.flipped:
        raise ParityError(
            f"the {row.name} file does not give the trained network's numbers on {parity.images} validation images: probabilities differ by up to "
            f"{parity.max_difference:.2g} (allowed {allowed.max_difference:.2g}), on average {parity.mean_difference:.2g} "
            f"(allowed {allowed.mean_difference:.2g}), {clear_flips:.1%} clear labels flipped (allowed {allowed.flipped:.1%}); it was not written"
        )
    return parity


def _check_against_run(source: _Source, entries: tuple[Entry, ...], found: npt.NDArray[np.float32]) -> None:
    """The network just loaded must give what the run stored when it ended; raises RunError where its weights or images are not the run's own."""
    stored = source.run.predictions("validation")
    missing = [entry.path for entry in entries if entry.path not in stored]
    largest = 1.0 if missing else float(np.abs(found - np.array([stored[entry.path] for entry in entries])).max())
    allowed = _STORED_TOLERANCE[source.run.setup().recipe.precision]
    if largest > allowed:
        raise RunError(
            f"run {source.run.name}: its weights do not give its stored predictions (they differ by up to {largest:.2g}, {allowed:g} is allowed); "
            "a file of the run was changed"
        )


def _decided(source: _Source, session: Session, row: PrecisionRow, wishes: Wishes, temperature: Temperature | None) -> _Decided:
    """Threshold and band chosen on validation, then both splits measured with them.

    An fp32 file's probabilities are the run's stored ones (parity says so); those of a coarser file are its own.
    """
    splits: tuple[Split, ...] = ("validation", "test")
    if row.name == "fp32":
        predicted = [stored(source.run, split).softened(temperature) for split in splits]
    else:
        predicted = [replace(stored(source.run, split), probabilities=_probabilities(source, session, split)) for split in splits]
    decisions = choose(wishes, predicted[0])
    unit = source.run.metrics().test.interval_unit
    return _Decided(temperature, decisions, {of.split: figures(of, decisions, unit=unit) for of in predicted})


def _card(source: _Source, session: Session, row: PrecisionRow, parity: Parity, decided: _Decided, *, digest: str, calibration: int | None) -> Card:
    setup, metrics = source.run.setup(), source.run.metrics()
    recipe, data = setup.recipe, setup.data
    backbone = BACKBONES.find(recipe.backbone)
    size = recipe.image_size_px
    goldens = np.stack([golden_image(seed, height_px=size, width_px=size) for seed in GOLDEN_SEEDS])
    return Card(
        name=source.run.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        labels=data.labels,
        height_px=size,
        width_px=size,
        resize=recipe.view.resize,
        scaling=f"in the graph ({backbone.scaling})",
        precision=row.name,
        backbone=recipe.backbone,
        parameters=metrics.parameters.total,
        data=data.name,
        data_fingerprint=data.fingerprint,
        recipe_fingerprint=recipe.fingerprint,
        recipe=_without_paths(recipe, data.name),
        protocol=data.protocol,
        leaks=tuple(str(leak) for leak in data.leaks),
        metrics=decided.metrics,
        interval_unit=metrics.test.interval_unit,
        temperature=decided.temperature,
        operating_point=decided.decisions.operating_point,
        abstain=decided.decisions.abstain,
        intended_use=data.intended_use,
        licence=data.licence,
        parity=parity,
        golden=tuple(
            GoldenCase(seed=seed, probabilities=tuple(float(value) for value in values))
            for seed, values in zip(GOLDEN_SEEDS, _run_session(session, goldens), strict=True)
        ),
        golden_tolerance=row.tolerance.golden,
        calibration_images=calibration,
        versions=installed_versions(),
        graph_sha256=digest,
    )


def _refuse_another(target: Path, run: Run) -> None:
    """Raise RunError where a file stands at `target` that is no earlier export of the run's recipe and data."""
    if not target.exists():
        return
    try:
        card = read_model_file(target).card
    except ModelFileError as error:
        raise RunError(f"{target} exists and is no exported file; give another --output, or remove it") from error
    setup = run.setup()
    if (card.recipe_fingerprint, card.data_fingerprint) != (setup.recipe.fingerprint, setup.data.fingerprint):
        raise RunError(f"{target} holds {card.name} of another recipe or other data; give another --output, or remove it")


def _without_paths(recipe: Recipe, data: str) -> dict[str, Any]:
    """The recipe as plain data, with names in place of the exporting machine's folders; a folder of a named set's name is no such set."""
    name = f"./{data}" if data in DATASETS and recipe.data.data not in DATASETS else data
    request = recipe.data.model_copy(update={"data": name})
    return recipe.model_copy(update={"data": request, "weights": Path(recipe.weights).name}).model_dump(mode="json")


def _probabilities(source: _Source, session: Session, split: Split) -> npt.NDArray[np.float32]:
    """What this very file gives for a whole split, [images, classes]."""
    entries = source.prepared.manifest.split(split)
    parts = []
    for start in range(0, len(entries), _BATCH):
        parts.append(session.run(source.images(entries[start : start + _BATCH])))
        source.on_stage(f"measuring {split}", min(start + _BATCH, len(entries)), len(entries))
    return np.concatenate(parts)


def _with_card(model: Any, card: Card) -> bytes:
    """The serialized model with the card as metadata; the weights are not touched, which the digest in the card proves on reading."""
    text = card.model_dump_json()
    for key, value in ((CARD_KEY, text), (DIGEST_KEY, hashlib.sha256(text.encode()).hexdigest())):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())
