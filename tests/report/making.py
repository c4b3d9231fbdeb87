"""Studies and runs without training: real documents, made-up predictions, and one small picture an image where asked for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cellclf.data.manifest import SPLITS, Entry, Leak, Manifest, Split
from cellclf.data.prepare import DataRecord
from cellclf.data.splits import Protocol
from cellclf.environment import Environment
from cellclf.evaluation.metrics import measure
from cellclf.studies.plan import StudyFolder, StudyPlan, start_study
from cellclf.studies.scale import Scale
from cellclf.studies.study import Study
from cellclf.training.recipe import Recipe
from cellclf.training.run import Epoch, LearningTime, Parameters, Run, RunMetrics, Setup, write_history

RANDOM_LEAKS = (Leak(split="validation", reason="made-up leak"), Leak(split="test", reason="made-up leak"))
_ASKED: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Data:
    """A made-up data set: groups of images with one label each."""

    name: str = "made-up"
    labels: tuple[str, ...] = ("ROUND", "SQUARE")
    groups: int = 12
    per_group: int = 3
    groups_known: bool = True
    pictures: bool = False

    def manifest(self, root: Path, protocol: Protocol) -> Manifest:
        """As many groups in each split; other files under each protocol."""
        return Manifest(
            root,
            tuple(
                self._entry(root, protocol, split, group, image)
                for split in SPLITS
                for group in range(self.groups)
                for image in range(self.per_group)
            ),
        )

    def _entry(self, root: Path, protocol: Protocol, split: Split, group: int, image: int) -> Entry:
        name = f"{split}/{protocol}-{group}-{image}.png"
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        if self.pictures:
            path = root / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.frombytes("RGB", (2, 5), hashlib.sha256(name.encode()).digest()[:30]).resize((40, 30)).save(path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return Entry(name, sha256, self.labels[group % len(self.labels)], f"{split}-{group}" if self.groups_known else "", split)


def make_run(
    folder: Path,
    recipe: Recipe,
    *,
    data: Data = Data(),
    protocol: Protocol = "official",
    leaks: tuple[Leak, ...] = (),
    skill: float = 2.0,
    seconds: float = 60.0,
    cores: int = 2,
    draw: int | None = None,
    always: int | None = None,
) -> Run:
    """A finished run folder whose predictions are right the more often, the greater `skill`. draw: seed of its answers; None = the recipe's.

    always: the class that every image is called.
    """
    folder.mkdir(parents=True)
    run = Run(folder)
    manifest = data.manifest(folder.parent / "images", protocol)
    record = DataRecord(
        name=data.name,
        root=str(manifest.root),
        request=recipe.data,
        protocol=protocol,
        fingerprint=manifest.fingerprint,
        labels=manifest.labels,
        counts={split: dict(manifest.counts(split)) for split in SPLITS},
        groups=3 * data.groups,
        groups_known=data.groups_known,
        groups_source="given" if data.groups_known else "unknown",
        leaks=leaks,
        notes=(),
        skipped=(),
        augmentation="none",
        intended_use="tests",
        licence="none",
    )
    Setup(recipe=recipe, data=record, weights_sha256=None, batch_norm_momentum=None).write(folder / "recipe.json")
    manifest.write(folder / "manifest.csv")
    Environment(
        python="3", platform="test", cpu="test CPU", cores=cores, memory_gib=1.0, gpus=(), packages={"keras": "3"}, git_commit="abc123",
        keras_backend="tensorflow", provider="CPU",
    ).write(folder / "environment.json")  # fmt: skip
    rates = np.linspace(0.5, 0.5 + skill / 8, recipe.epochs)
    write_history(
        folder,
        tuple(
            Epoch(
                epoch=epoch, train_loss=1.2 / epoch, train_accuracy=float(rate) - 0.05, validation_loss=1 / epoch, validation_accuracy=float(rate),
                learning_rate=recipe.learning_rate, seconds=1.0, images_per_second=100.0,
            )
            for epoch, rate in enumerate(rates, start=1)
        ),
    )  # fmt: skip
    seed = recipe.seed if draw is None else draw
    probabilities = {split: answers(manifest, split, skill=skill, seed=seed) for split in _ASKED}
    if always is not None:
        probabilities = {
            split: np.full_like(values, 0.1) + 0.8 * np.eye(values.shape[1], dtype=np.float32)[always] for split, values in probabilities.items()
        }
    run.write_predictions(manifest, probabilities)
    measured = {
        split: measure(
            values, truth_of(manifest, split), manifest.labels, groups=manifest.group_keys(split), unit="group" if data.groups_known else "file"
        )
        for split, values in probabilities.items()
    }
    RunMetrics(
        parameters=Parameters(total=1000, trainable=800, non_trainable=200),
        epochs_run=recipe.epochs,
        best_epoch=recipe.epochs,
        weights_epoch=recipe.epochs,
        stopped_early=False,
        train_loss=0.1,
        train_accuracy=0.9,
        validation=measured["validation"],
        test=measured["test"],
        learning_time=LearningTime(data_s=1.0, compile_s=2.0, fit_s=seconds - 3.0 + recipe.seed),
        images_per_second=100.0,
    ).write(folder / "metrics.json")
    return run


def make_study(
    folder: Path,
    study: Study,
    *,
    skills: Mapping[str, float] | None = None,
    protocols: tuple[Protocol, ...] = ("random", "official"),
    seeds: tuple[int, ...] = (0,),
    scale: Scale | None = None,
    data: Data = Data(),
) -> StudyFolder:
    """A study's folder with every run done. skills: by variation, 2 where it is not named; a leaking protocol doubles them."""
    started = start_study(StudyPlan(study=study, scale=scale or Scale(epochs=3), protocols=protocols, seeds=seeds), folder)
    for number, planned in enumerate(started.planned()):
        leaking = planned.protocol == "random"
        make_run(
            planned.run.folder,
            planned.recipe,
            data=data,
            protocol=planned.protocol,
            leaks=RANDOM_LEAKS if leaking else (),
            skill=(skills or {}).get(planned.variation.name, 2.0) * (2 if leaking else 1),
            seconds=60.0 + 5 * len(planned.recipe.hidden),
            draw=number,
        )
    return started


def truth_of(manifest: Manifest, split: Split) -> npt.NDArray[np.intp]:
    """Class numbers [images]."""
    return np.array([manifest.labels.index(entry.label) for entry in manifest.split(split)])


def answers(manifest: Manifest, split: Split, *, skill: float, seed: int) -> npt.NDArray[np.float32]:
    """Probabilities [images, classes]: noise, and `skill` for the truth."""
    truth, classes = truth_of(manifest, split), len(manifest.labels)
    logits = np.random.default_rng(seed).normal(size=(len(truth), classes)) + skill * np.eye(classes)[truth]
    powers = np.exp(logits)
    probabilities: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
