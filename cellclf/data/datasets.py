"""DATASETS: one row = one named data set, and how it is found or fetched. Adding a row is all it takes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellclf.errors import DatasetMissingError, MissingExtraError
from cellclf.storage import cache_folder, new_folder
from cellclf.tables import Table

__all__ = ["DATASETS", "Dataset", "fetch", "find", "locate", "places"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One named data set.

    train_folders, test_folders: folder names (any case) whose class folders make the official train and test sets.
    group_rule: regular expression over the file's path; its groups, joined, name the patient, slide or cell.
    hidden_families: whether files are augmented copies of fewer originals that their names do not tell apart.
    kaggle: the handle under which kagglehub fetches it; draw: a function that draws it into a folder.
    augmentation: the name of the augmentation that suits it (cellclf.training.augmentation.AUGMENTATIONS).
    """

    name: str
    title: str
    labels: tuple[str, ...]
    train_folders: tuple[str, ...]
    test_folders: tuple[str, ...]
    group_rule: str | None
    hidden_families: bool
    augmentation: str
    intended_use: str
    licence: str
    kaggle: str | None = None
    draw: Callable[[Path], None] | None = None


def _draw_sample(folder: Path) -> None:
    from cellclf.data.sample import write_sample

    write_sample(folder)


RESEARCH_ONLY = "Research and education. Not a medical device: not validated for diagnosis, and never to be the only ground for a decision."

DATASETS: Table[Dataset] = Table(
    "data set",
    [
        Dataset(
            name="blood-cells",
            title="Blood cells: four kinds of white cell, augmented from 348 originals (BCCD)",
            labels=("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"),
            train_folders=("TRAIN",),
            test_folders=("TEST",),
            group_rule=None,
            hidden_families=True,
            augmentation="cells",
            intended_use=RESEARCH_ONLY,
            licence="images: MIT (BCCD_Dataset, Shenggan and cosmicad)",
            kaggle="paultimothymooney/blood-cells",
        ),
        Dataset(
            name="chest-xray",
            title="Chest X-rays of children: normal or pneumonia (Kermany et al. 2018)",
            labels=("NORMAL", "PNEUMONIA"),
            train_folders=("train", "val"),
            test_folders=("test",),
            group_rule=r"/(person\d+_(?:bacteria|virus))_[^/]*$|/((?:NORMAL2-)?IM-\d+)-[^/]*$",
            hidden_families=False,
            augmentation="xray",
            intended_use=RESEARCH_ONLY,
            licence="images: CC BY 4.0 (Kermany et al. 2018, Mendeley Data)",
            kaggle="paultimothymooney/chest-xray-pneumonia",
        ),
        Dataset(
            name="sample",
            title="Built-in sample: drawn white cells on drawn smears, 12 slides to train and 4 to test",
            labels=("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"),
            train_folders=("TRAIN",),
            test_folders=("TEST",),
            group_rule=r"/(slide\d+)_[^/]*$",
            hidden_families=False,
            augmentation="cells",
            intended_use="Trying cellclf out. Trained on drawings: it knows nothing of real cells.",
            licence="images: drawn by cellclf, public domain (CC0)",
            draw=_draw_sample,
        ),
    ],
)

_SAMPLE_VERSION = 1
_MOST_NESTED = 4


def places(dataset: Dataset) -> list[Path]:
    """Folders in which a named data set is looked for on this machine, in order."""
    found = []
    if os.environ.get("CELLCLF_DATA"):
        found.append(Path(os.environ["CELLCLF_DATA"]) / dataset.name)
    if dataset.draw:
        found.append(cache_folder() / f"{dataset.name}-v{_SAMPLE_VERSION}")
    if dataset.kaggle:
        versions = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub") / "datasets" / dataset.kaggle / "versions"
        found += sorted(versions.glob("*"), key=lambda path: (len(path.name), path.name), reverse=True)
    return found


def find(dataset: Dataset) -> Path | None:
    """The folder that directly holds the set's train and test folders, or None where it is not on this machine."""
    for place in places(dataset):
        root = _root_in(place, dataset)
        if root:
            return root
    return None


def locate(dataset: Dataset) -> Path:
    """Find a named data set, or draw or fetch it; raises DatasetMissingError naming the ways to provide it."""
    return find(dataset) or fetch(dataset)


def fetch(dataset: Dataset) -> Path:
    """Draw the set into the cache, or download it through kagglehub, and return its root; raises DatasetMissingError."""
    if dataset.draw:
        target = cache_folder() / f"{dataset.name}-v{_SAMPLE_VERSION}"
        with new_folder(target) as temporary:
            dataset.draw(temporary)
        place = target
    else:
        place = _download(dataset)
    root = _root_in(place, dataset)
    if root is None:
        wanted = " and ".join((*dataset.train_folders[:1], *dataset.test_folders[:1]))
        raise DatasetMissingError(f"{place} was fetched but holds no folders {wanted} with {', '.join(dataset.labels)} inside")
    return root


def _download(dataset: Dataset) -> Path:
    try:
        import kagglehub
        from kagglehub import exceptions
    except ImportError as error:
        raise MissingExtraError(f"fetching {dataset.name}", "train") from error
    names = ("BackendError", "CredentialError", "DataCorruptionError", "KaggleEnvironmentError", "NotFoundError", "UnauthenticatedError")
    known = (OSError, ValueError, *(getattr(exceptions, name) for name in names))
    try:
        return Path(kagglehub.dataset_download(str(dataset.kaggle)))
    except known as error:
        place = os.environ.get("CELLCLF_DATA") or "$CELLCLF_DATA"
        raise DatasetMissingError(
            f"data set {dataset.name!r} is not on this machine and could not be fetched ({type(error).__name__}). Three ways to provide it: "
            f"put it at {place}/{dataset.name} and set CELLCLF_DATA; or run `cellclf data fetch {dataset.name}` where kaggle.com can be reached; "
            f"or give its folder: --data DIR"
        ) from error


def _root_in(place: Path, dataset: Dataset) -> Path | None:
    """The nearest folder at or below `place` that holds the set's first train and test folders with all its labels."""
    level = [place] if place.is_dir() else []
    for _ in range(_MOST_NESTED + 1):
        for folder in level:
            if all(_holds(folder, name, dataset.labels) for name in (dataset.train_folders[0], dataset.test_folders[0])):
                return folder
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith((".", "__MACOSX"))]
        if len(level) > 1000:
            return None
    return None


def _holds(folder: Path, name: str, labels: tuple[str, ...]) -> bool:
    return all((folder / name / label).is_dir() for label in labels)
