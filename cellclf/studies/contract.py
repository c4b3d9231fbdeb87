"""The same-conditions contract: which runs may be compared, and what differs where they may not. Reads run folders only."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellclf.data.prepare import DataRequest
from cellclf.errors import StudyError
from cellclf.training.recipe import OPTIMIZER
from cellclf.training.run import Run

__all__ = [
    "ALL_IMAGES",
    "ComparableSet",
    "Model",
    "comparable_sets",
    "conditions_of",
    "differing",
    "gather_models",
    "images_used",
    "require_comparable",
]

_FOLLOWS = {"backbone": ("weights_sha256", "batch_norm_momentum")}
"""Conditions that cannot stay the same when a factor changes."""
_SHORT = 12
ALL_IMAGES = "all images"
"""What a run at full scale uses of its data."""


@dataclass(frozen=True)
class Model:
    """Runs that differ in their seed alone. conditions: name and value of everything else that a figure depends on."""

    name: str
    runs: tuple[Run, ...]
    conditions: dict[str, str]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(run.setup().recipe.seed for run in self.runs)


@dataclass(frozen=True)
class ComparableSet:
    """Models that agree in everything but the factors; `shared` are the conditions they agree in."""

    models: tuple[Model, ...]
    shared: dict[str, str]


def conditions_of(run: Run) -> dict[str, str]:
    """Everything a run's figures depend on but its seed, by name. A weights file goes by its name and content: where it lies changes nothing."""
    setup, environment = run.setup(), run.environment()
    recipe = setup.recipe.model_dump(mode="json", exclude={"data", "seed", "batch_norm_momentum"})
    packages = ("keras", environment.keras_backend or "", "cellclf")
    return {
        "data": f"{setup.data.name}: {', '.join(setup.data.labels)}",
        "protocol": setup.data.protocol,
        "images": images_used(setup.recipe.data),
        "split (fingerprint)": setup.data.fingerprint[:_SHORT],
        **{name: _text(value) for name, value in recipe.items()},
        "weights": Path(recipe["weights"]).name,
        "optimizer": OPTIMIZER,
        "weights_sha256": (setup.weights_sha256 or "none")[:_SHORT],
        "batch_norm_momentum": _text(setup.batch_norm_momentum),
        "hardware": f"{environment.cpu}, {environment.cores} cores, {', '.join(environment.gpus) or 'no GPU'}; ran on {environment.provider}",
        "software": ", ".join(f"{name} {environment.packages[name]}" for name in packages if name in environment.packages),
    }


def images_used(request: DataRequest) -> str:
    """How much of its data a run uses, its validation and test images included, in words."""
    parts = [] if request.images_fraction == 1 else [f"{100 * request.images_fraction:g} % of the images"]
    parts += [] if request.limit_per_label is None else [f"at most {request.limit_per_label} images of each label and source split"]
    return " and ".join(parts) or ALL_IMAGES


def gather_models(runs: Iterable[Run]) -> tuple[tuple[Model, ...], tuple[str, ...]]:
    """Finished runs as models, and a note on each run that is left out: unfinished, or the same recipe and seed as one that ended later.

    A model is named by its first run's folder.
    """
    notes: list[str] = []
    by_conditions: defaultdict[tuple[tuple[str, str], ...], dict[int, Run]] = defaultdict(dict)
    for run in sorted((run for run in runs if _finished(run, notes)), key=lambda run: (run.folder / "metrics.json").stat().st_mtime_ns):
        seeds = by_conditions[tuple(conditions_of(run).items())]
        seed = run.setup().recipe.seed
        if seed in seeds:
            notes.append(f"{seeds[seed].name} is left out: the same recipe and seed as {run.name}, which ended later")
        seeds[seed] = run
    models = [Model(_first(seeds).name, tuple(seeds[seed] for seed in sorted(seeds)), dict(key)) for key, seeds in by_conditions.items()]
    return tuple(models), tuple(notes)


def comparable_sets(models: Sequence[Model], factors: Sequence[str]) -> tuple[ComparableSet, ...]:
    """Split models into sets that agree in everything but the factors, and in their seeds; largest set first, else in the order given."""
    free = _free(factors)
    sets: defaultdict[tuple[object, ...], list[Model]] = defaultdict(list)
    for model in models:
        sets[(model.seeds, *((name, value) for name, value in model.conditions.items() if name not in free))].append(model)
    ordered = sorted(sets.values(), key=lambda members: -len(members))
    return tuple(
        ComparableSet(tuple(members), {name: value for name, value in members[0].conditions.items() if name not in free} | _seeds(members[0]))
        for members in ordered
    )


def differing(models: Sequence[Model], factors: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Every condition outside the factors in which the models differ: its values, and which models have each."""
    free = _free(factors)
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    conditions = [model.conditions | _seeds(model) for model in models]  # not by name: two models may have one
    for field in dict.fromkeys(name for each in conditions for name in each if name not in free):
        by_value: defaultdict[str, list[str]] = defaultdict(list)
        for model, own in zip(models, conditions, strict=True):
            by_value[own.get(field, "absent")].append(model.name)
        if len(by_value) > 1:
            found[field] = {value: tuple(names) for value, names in by_value.items()}
    return found


def require_comparable(models: Sequence[Model], factors: Sequence[str]) -> None:
    """Raise StudyError naming every field that differs, where models cannot be ranked."""
    found = differing(models, factors)
    if found:
        fields = "; ".join(f"{field}: {' / '.join(values)}" for field, values in found.items())
        raise StudyError(f"these runs cannot be ranked: they differ in more than {', '.join(factors)}: {fields}. --force ranks them all the same")


def _free(factors: Sequence[str]) -> set[str]:
    return {*factors, *(follower for factor in factors for follower in _FOLLOWS.get(factor, ()))}


def _seeds(model: Model) -> dict[str, str]:
    return {"seeds": ", ".join(str(seed) for seed in model.seeds)}


def _first(seeds: dict[int, Run]) -> Run:
    return seeds[min(seeds)]


def _finished(run: Run, notes: list[str]) -> bool:
    if not run.finished:
        notes.append(f"{run.name} is left out: it is not finished")
    return run.finished


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value) or "none"
    return str(value)
