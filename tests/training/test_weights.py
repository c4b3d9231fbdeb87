from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellclf.backbones import BACKBONES
from cellclf.errors import WeightsError
from cellclf.storage import sha256_of_file
from cellclf.training.framework import require_keras
from cellclf.training.network import build_network
from cellclf.training.weights import load_backbone_weights, places, resolve_weights
from tests.conftest import REAL_WEIGHTS, small_recipe

ROW = BACKBONES["mobilenet025"]


def backbone(**arguments: Any) -> Any:
    return require_keras().applications.MobileNet(include_top=False, weights=None, input_shape=(48, 48, 3), pooling="avg", **arguments)


def test_imagenet_weights_that_cannot_be_had_are_an_error_that_names_the_choices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(type(ROW), "weights_filename", "missing.h5")
    unreachable = BACKBONES["resnet50"].__class__(**{**vars(ROW), "weights_url": "http://127.0.0.1:9/missing.h5"})
    with pytest.raises(WeightsError) as caught:
        resolve_weights(unreachable, "imagenet")
    for part in ("missing.h5", "--weights FILE", "--weights none", "CELLCLF_WEIGHTS", str(tmp_path)):
        assert part in str(caught.value)
    assert not list(tmp_path.rglob("*missing*"))


def test_weights_are_looked_for_in_the_users_folder_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLCLF_WEIGHTS", str(tmp_path))
    file = tmp_path / ROW.weights_filename
    file.write_bytes(b"x")
    assert places(ROW)[0] == file
    assert resolve_weights(ROW, "imagenet") == file


def test_none_means_a_random_start_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert resolve_weights(ROW, "none") is None
    with pytest.raises(WeightsError, match="no weights file"):
        resolve_weights(ROW, str(tmp_path / "absent.h5"))


def test_saved_backbone_weights_load_and_their_hash_is_returned(tmp_path: Path) -> None:
    source, target = backbone(alpha=0.25), backbone(alpha=0.25)
    path = tmp_path / "mine.weights.h5"
    source.save_weights(path)
    assert load_backbone_weights(target, ROW, path) == sha256_of_file(path)
    for ours, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.weights.h5"
    backbone(alpha=0.5).save_weights(path)
    with pytest.raises(WeightsError, match=r"does not fit MobileNet 0\.25"):
        load_backbone_weights(backbone(alpha=0.25), ROW, path)


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file at all"])
def test_a_file_that_holds_no_weights_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="does not fit"):
        load_backbone_weights(backbone(alpha=0.25), ROW, path)


@pytest.mark.real_data
@pytest.mark.skipif(REAL_WEIGHTS is None, reason="CELLCLF_WEIGHTS is not set: the ImageNet weights are not part of the project")
def test_the_published_imagenet_weights_load() -> None:
    path = Path(str(REAL_WEIGHTS)) / ROW.weights_filename
    built = build_network(small_recipe(), classes=2, weights=path, steps_per_epoch=10)
    assert built.weights_sha256 == sha256_of_file(path)
