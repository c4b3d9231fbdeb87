"""The families of the real sets, where they are on this machine: known from how the sets were made, and never seen by what finds them."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from cellclf.data.audit.families import find_families
from cellclf.data.cache import hash_files
from cellclf.data.scan import Found, scan
from tests.conftest import REAL_DATA

pytestmark = pytest.mark.real_data


def files_of(name: str, monkeypatch: pytest.MonkeyPatch, *, every: int = 1) -> tuple[dict[str, list[Found]], dict[str, Path]]:
    """The test files of a real set by content, and a path of each content."""
    if REAL_DATA is None:
        pytest.skip("CELLCLF_DATA is not set")
    if not (Path(REAL_DATA) / name).is_dir():
        pytest.skip(f"{REAL_DATA}/{name} is not there")
    monkeypatch.setenv("CELLCLF_DATA", REAL_DATA)
    source = scan(name)
    files = [file for file in source.files if file.split == "test"][::every]
    by_content: defaultdict[str, list[Found]] = defaultdict(list)
    for file, content in zip(files, hash_files([source.root / file.path for file in files]), strict=True):
        by_content[str(content)].append(file)
    return by_content, {content: source.root / same[0].path for content, same in by_content.items()}


def test_the_test_set_of_the_blood_cells_is_of_71_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    files, file_of = files_of("blood-cells", monkeypatch)
    families = find_families(file_of).members.values()
    labels = [{file.label for content in members for file in files[content]} for members in families]
    assert all(len(of_family) == 1 for of_family in labels)
    assert Counter(of_family.pop() for of_family in labels) == {"EOSINOPHIL": 13, "LYMPHOCYTE": 6, "MONOCYTE": 4, "NEUTROPHIL": 48}
    assert min(map(len, families)) >= 12
    assert max(map(len, families)) <= 160


def test_of_the_chest_xrays_nothing_is_said_of_two_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    files, file_of = files_of("chest-xray", monkeypatch)
    found = find_families(file_of)
    assert len(found.members) >= 0.99 * len(file_of)
    assert all(files[copy.first][0].group == files[copy.second][0].group for copy in found.copies)
