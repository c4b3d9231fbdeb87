"""What --data names → a list of labelled image files, not yet split: a named set, a class-per-folder directory, or a CSV."""

import csv
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellclf.data.datasets import DATASETS, Dataset, locate
from cellclf.data.decoding import is_image_name
from cellclf.data.manifest import Split
from cellclf.errors import DataError, UnknownNameError

__all__ = ["Found", "Scan", "check_named", "scan"]

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


_OF_A_DESKTOP = {"Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Found:
    """One labelled file: path relative to the scan's root (POSIX), label, group ('' = unknown), the split its source put it in."""

    path: str
    label: str
    group: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class Scan:
    """What was found, under which root, and the table row where it is a named set; notes: what lies there and is not used."""

    name: str
    root: Path
    files: tuple[Found, ...]
    dataset: Dataset | None = None
    notes: tuple[str, ...] = ()


def scan(data: str, *, group_rule: str | None = None) -> Scan:
    """Find what `data` names: a data set of the table, a folder, or a .csv file; raises DataError.

    group_rule: regular expression over the path; its groups, joined, name what must stay on one side of a split. It wins over the set's own.
    """
    if data in DATASETS:
        dataset = DATASETS[data]
        root = locate(dataset)
        beside = (f"{data} is the named set; the folder of that name here is meant by ./{data}",) if Path(data).is_dir() else ()
        found = Scan(dataset.name, root, _named_files(root, dataset), dataset, beside)
        return _with_groups(found, dataset.group_rule if group_rule is None else group_rule)
    if not data.strip():
        raise DataError("no data set, folder or .csv file is named")
    path = Path(os.path.expanduser(data))  # noqa: PTH111  # Path.expanduser raises where the user is unknown
    if path.is_dir():
        root = _descend(path.resolve())
        files, notes = _folder_files(root)
        return _with_groups(Scan(root.name, root, files, notes=notes), group_rule)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _with_groups(Scan(path.stem, path.resolve().parent, _csv_files(path)), group_rule)
    if path.exists():
        raise DataError(f"{data} is neither a folder nor a .csv file")
    try:
        DATASETS.find(data)
    except UnknownNameError as error:
        raise DataError(f"no folder or .csv file {data!r}, and {error}") from error
    raise AssertionError("unreachable: the name is not in the table")


def check_named(data: str) -> None:
    """Raise DataError where `data` names nothing, without looking inside or fetching."""
    if data not in DATASETS and not Path(os.path.expanduser(data)).exists():  # noqa: PTH111
        scan(data)


def _named_files(root: Path, dataset: Dataset) -> tuple[Found, ...]:
    files: list[Found] = []
    sides: tuple[tuple[tuple[str, ...], Split], ...] = ((dataset.train_folders, "train"), (dataset.test_folders, "test"))
    for folders, split in sides:
        for folder in folders:
            if (root / folder).is_dir():
                files += [replace(found, split=split) for found in _label_folders(root, root / folder)[0] if found.label in dataset.labels]
    return tuple(files)


def _folder_files(root: Path) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """The labelled files, and what lies beside them and is not used."""
    children = {child.name: child for child in sorted(root.iterdir()) if child.is_dir() and not _ignored(child)}
    sides = {name: _SPLIT_NAMES[name.lower()] for name in children if name.lower() in _SPLIT_NAMES}
    if sides:
        others = sorted(set(children) - set(sides))
        if others:
            raise DataError(f"{root} mixes split folders ({', '.join(sides)}) with others ({', '.join(others)}); move the others away")
        sorted_out = [(split, *_label_folders(root, children[name])) for name, split in sides.items()]
        files = [replace(found, split=split) for split, found_there, _ in sorted_out for found in found_there]
        unread = [path for _, _, paths in sorted_out for path in paths]
    else:
        files, unread = _label_folders(root, root)
    if not files:
        raise DataError(f"{root} holds no labelled images: one folder a label is expected, with images inside")
    return tuple(files), _unused(root, [root, *(children[name] for name in sides)], unread)


def _label_folders(root: Path, folder: Path) -> tuple[list[Found], list[Path]]:
    """The images of each label's folder, and the files there that are of another kind."""
    files, unread = [], []
    for label_folder in sorted(child for child in folder.iterdir() if child.is_dir() and not _ignored(child)):
        inside = [path for path in sorted(label_folder.rglob("*")) if not _hidden_below(label_folder, path)]
        if linked := [path for path in inside if path.is_symlink() and path.is_dir()]:
            raise DataError(f"{linked[0]} is a link to a folder, which is not followed; put the folder there, or name its files in a .csv")
        images = [path for path in inside if is_image_name(path) and (path.is_file() or path.is_symlink())]
        if not images:
            raise DataError(f"label folder {label_folder} holds no images")
        files += [Found(path.relative_to(root).as_posix(), label_folder.name) for path in images]
        unread += [path for path in inside if not is_image_name(path) and path.name not in _OF_A_DESKTOP and path.is_file()]
    return files, unread


def _unused(root: Path, folders: list[Path], unread: list[Path]) -> tuple[str, ...]:
    """What stands in a folder of labelled images and is none of them: images outside label folders, and files of other kinds inside."""
    loose = [path for folder in folders for path in sorted(folder.iterdir()) if is_image_name(path) and path.is_file()]
    told = (("lie outside the label folders", loose), ("in label folders are of a kind that is not read", unread))
    return tuple(f"{len(paths)} files {where} and are not used, for example {paths[0].relative_to(root)}" for where, paths in told if paths)


def _hidden_below(folder: Path, path: Path) -> bool:
    return any(_ignored(Path(part)) for part in path.relative_to(folder).parts)


def _csv_files(path: Path) -> tuple[Found, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{path} has the column {twice[0]} more than once")
            missing = {"path", "label"} - set(names)
            if missing:
                raise DataError(f"{path} has no column {' or '.join(sorted(missing))}; path and label are needed, group and split are optional")
            files = tuple(_csv_row(row, path, number) for number, row in enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    _check_csv(files, path)
    return files


def _csv_row(row: dict[str | None, Any], path: Path, number: int) -> Found:
    if None in row:  # where DictReader puts what has no column
        raise DataError(f"{path}, line {number}: more fields than columns; a field that holds a comma needs quotes")
    name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not name or not label:
        raise DataError(f"{path}, line {number}: path and label must not be empty")
    written = (row.get("split") or "").strip()
    if written and written.lower() not in _SPLIT_NAMES:
        raise DataError(f"{path}, line {number}: unknown split {written!r}; train, validation and test are known")
    return Found(Path(name).as_posix(), label, (row.get("group") or "").strip(), _SPLIT_NAMES[written.lower()] if written else None)


def _check_csv(files: tuple[Found, ...], path: Path) -> None:
    if not files:
        raise DataError(f"{path} has no rows")
    seen: set[str] = set()
    for found in files:
        if found.path in seen:
            raise DataError(f"{path} names {found.path} twice")
        seen.add(found.path)
    for column, given in (("group", [bool(found.group) for found in files]), ("split", [bool(found.split) for found in files])):
        if any(given) and not all(given):
            raise DataError(f"{path}: column {column} is empty in {given.count(False)} of {len(given)} rows; fill all of it or none")


def _with_groups(found: Scan, rule: str | None) -> Scan:
    if rule is None:
        return found
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise DataError(f"group rule {rule!r} is no regular expression: {error}") from error
    files = tuple(replace(file, group=_group("/" + file.path, pattern)) for file in found.files)
    missed = [file.path for file in files if not file.group]
    if missed:
        raise DataError(f"group rule {rule!r} finds no group in {len(missed)} of {len(files)} paths, for example {missed[0]}")
    return replace(found, files=files)


def _group(path: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(path)
    if match is None:
        return ""
    return "/".join(part for part in match.groups() if part) if match.groups() else match.group(0)


def _descend(folder: Path) -> Path:
    """Step into lone sub-folders, as unpacked archives have them."""
    while True:
        children = [child for child in folder.iterdir() if not _ignored(child)]
        if len(children) != 1 or not children[0].is_dir():
            return folder
        grandchildren = [child for child in children[0].iterdir() if child.is_dir() and not _ignored(child)]
        if not grandchildren:
            return folder
        folder = children[0]


def _ignored(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX"))
