"""Images for the command line to read."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def test_images(sample_folder: Path) -> list[Path]:
    return sorted((sample_folder / "TEST").rglob("*.jpeg"))


@pytest.fixture
def own_folder(test_images: list[Path], tmp_path: Path) -> Path:
    """Somebody's own folder: eight of the images under other names, a folder a label, no test set, groups unknown."""
    folder = tmp_path / "mine"
    for number, path in enumerate(test_images[::2]):
        target = folder / path.parent.name / f"photo{number}.jpeg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder
