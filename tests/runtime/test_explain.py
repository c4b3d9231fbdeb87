from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellclf import Classifier
from cellclf.card import ModelFile, read_model_file
from cellclf.errors import ModelFileError
from cellclf.runtime.explain import Explainer, overlay, write_overlay


def test_a_file_tells_where_it_looked(model_file: Path) -> None:
    classifier = Classifier(model_file)
    card = classifier.card
    assert card.heatmap is not None
    images = np.random.default_rng(0).integers(0, 256, (2, card.height_px, card.width_px, 3), dtype=np.uint8)
    maps = classifier.explainer().maps(images)

    assert maps.shape == (2, len(card.labels), *card.heatmap)
    assert np.isfinite(maps).all()
    assert maps.min() >= 0


def test_a_file_without_maps_says_how_to_get_them(model_file: Path) -> None:
    file = read_model_file(model_file)
    without = ModelFile(file.path, file.content, file.card.model_copy(update={"heatmap": None}))
    with pytest.raises(ModelFileError, match="cellclf export --heatmaps"):
        Explainer(without)


def test_the_overlay_is_strongest_where_the_map_is() -> None:
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    heat = np.zeros((4, 6), dtype=np.float32)
    heat[3, 5] = 7.0
    painted = overlay(image, heat)

    assert painted.shape == image.shape
    assert np.array_equal(painted[:20, :30], image[:20, :30])
    changed = np.abs(painted.astype(int) - image).sum(axis=-1)
    assert np.unravel_index(changed.argmax(), changed.shape) >= (30, 50)
    red, green, blue = painted[-1, -1]
    assert red > green
    assert red > blue


def test_a_map_of_nothing_leaves_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    write_overlay(tmp_path / "seen.png", image, np.zeros((2, 2), dtype=np.float32))

    assert np.array_equal(np.asarray(Image.open(tmp_path / "seen.png")), image)
