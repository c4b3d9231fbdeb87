"""Run folders without training: real documents, made-up predictions."""

from pathlib import Path

import numpy as np

from cellclf.data.manifest import SPLITS, Entry, Manifest, Split
from cellclf.data.prepare import DataRecord
from cellclf.data.splits import Protocol
from cellclf.environment import Environment
from cellclf.evaluation.metrics import measure
from cellclf.training.recipe import Recipe
from cellclf.training.run import Epoch, LearningTime, Parameters, Run, RunMetrics, Setup, write_history

LABELS = ("A", "B")
GROUPS = {"train": 8, "validation": 12, "test": 16}
PER_GROUP = 3


def small_manifest(root: Path, *, salt: str = "") -> Manifest:
    """Three images a group; the labels alternate by group."""
    entries = [
        Entry(f"{split}/{group}_{image}{salt}.png", f"{split}{group}{image}{salt}", LABELS[group % 2], f"{split}-{group}", split)
        for split in SPLITS
        for group in range(GROUPS[split])
        for image in range(PER_GROUP)
    ]
    return Manifest(root, tuple(entries))


def make_run(
    folder: Path,
    recipe: Recipe,
    *,
    skill: float = 2.0,
    seed: int = 0,
    salt: str = "",
    protocol: Protocol = "official",
    cores: int = 2,
    seconds: float = 60.0,
) -> Run:
    """A finished run folder whose predictions are right the more often, the greater `skill`."""
    folder.mkdir(parents=True)
    run = Run(folder)
    manifest = small_manifest(folder, salt=salt)
    record = DataRecord(
        name="fake",
        root=str(folder),
        request=recipe.data,
        protocol=protocol,
        fingerprint=manifest.fingerprint,
        labels=LABELS,
        counts={split: dict(manifest.counts(split)) for split in SPLITS},
        groups=sum(GROUPS.values()),
        groups_known=True,
        groups_source="given",
        leaks=(),
        notes=(),
        skipped=(),
        augmentation="none",
        intended_use="tests",
        licence="none",
    )
    Setup(recipe=recipe, data=record, weights_sha256=None, batch_norm_momentum=None).write(folder / "recipe.json")
    manifest.write(folder / "manifest.csv")
    Environment(
        python="3", platform="test", cpu="test CPU", cores=cores, memory_gib=1.0, gpus=(), packages={"keras": "3"}, git_commit=None,
        keras_backend="tensorflow", provider="CPU",
    ).write(folder / "environment.json")  # fmt: skip
    history = tuple(
        Epoch(
            epoch=epoch, train_loss=1 / epoch, train_accuracy=0.5, validation_loss=1 / epoch, validation_accuracy=0.5,
            learning_rate=recipe.learning_rate, seconds=1.0, images_per_second=100.0,
        )
        for epoch in range(1, recipe.epochs + 1)
    )  # fmt: skip
    write_history(folder, history)
    asked: tuple[Split, ...] = ("validation", "test")
    probabilities = {split: _predictions(manifest, split, skill, seed) for split in asked}
    run.write_predictions(manifest, probabilities)
    measured = {
        split: measure(values, _truth(manifest, split), LABELS, groups=manifest.group_keys(split), unit="group")
        for split, values in probabilities.items()
    }
    RunMetrics(
        parameters=Parameters(total=10, trainable=8, non_trainable=2),
        epochs_run=recipe.epochs,
        best_epoch=recipe.epochs,
        weights_epoch=recipe.epochs,
        stopped_early=False,
        train_loss=0.1,
        train_accuracy=0.9,
        validation=measured["validation"],
        test=measured["test"],
        learning_time=LearningTime(data_s=1.0, compile_s=2.0, fit_s=seconds - 3.0),
        images_per_second=100.0,
    ).write(folder / "metrics.json")
    return run


def _truth(manifest: Manifest, split: Split) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array([LABELS.index(entry.label) for entry in manifest.split(split)])


def _predictions(manifest: Manifest, split: Split, skill: float, seed: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    truth = _truth(manifest, split)
    logits = np.random.default_rng(seed).normal(size=len(truth)) + skill * (2 * truth - 1)
    second = 1 / (1 + np.exp(-logits))
    return np.stack([1 - second, second], axis=1).astype(np.float32)
