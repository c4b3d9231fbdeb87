import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cellclf.studies.table import STUDIES
from tests.conftest import Completed

Cli = Callable[..., Completed]

TOML = """
name = "tiny"
title = "Tiny"
data = "sample"
factors = ["hidden"]
protocols = ["official"]
common = { epochs = 1, image_size_px = 32, weights = "none", batch_size = 8, patience = 0, augmentation = "none", learning_rate = 1e-3 }
variations = [
  { name = "one", title = "One", backbone = "mobilenet025", choices = { hidden = [4] } },
  { name = "broken", title = "Broken", backbone = "mobilenet025", choices = { hidden = [4, 4], weights = "nowhere.h5" } },
]
"""


def test_every_study_is_listed(cli: Cli) -> None:
    done = cli("study", "list")
    assert done.code == 0
    for study in STUDIES.values():
        assert f"{study.letter}  {study.name}" in done.out


def test_a_study_is_shown_with_its_scale_and_what_was_published(cli: Cli) -> None:
    done = cli("study", "show", "E", "--scale", "images=0.25,lr=10")
    assert done.code == 0
    assert "reduced scale: 25% of the images, learning rates × 10" in done.out
    assert "0:38:35.14" in done.out
    assert "Does the number of hidden layers matter?" in done.out
    plan = json.loads(cli("study", "show", "E", "--json").out)
    assert len(plan["study"]["variations"]) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "F"), "unknown study 'F'"),
        (("run", "B", "--scale", "pixels=3"), "--scale 'pixels=3' is not known"),
        (("run", "B", "--seeds", "0"), "gives no seed"),
        (("run", "B", "--seeds", "two"), "must be a number of seeds"),
        (("run", "B", "--protocol", "fair"), "unknown protocol 'fair'"),
        (("status", "B"), "holds no study; run it first"),
        (("show", "none.toml"), "the study none.toml cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_request_is_one_line(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = cli("study", *arguments)
    assert done.code == 1
    assert done.out == ""
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_users_study_runs_reports_what_failed_and_shows_its_state(cli: Cli, tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    (tmp_path / "tiny.toml").write_text(TOML, encoding="utf-8")
    done = cli("study", "run", "tiny.toml")
    assert done.code == 3, done.err
    assert "failed: official-broken-s0: no weights file 'nowhere.h5'" in done.err
    states = json.loads(cli("study", "status", "tiny.toml", "--json").out)
    assert states == {"official-one-s0": "done", "official-broken-s0": "failed"}
    shown = cli("study", "status", "tiny.toml")
    assert "failed: no weights file" in shown.out
    assert "1 done, 1 failed" in shown.out
    other = cli("study", "run", "tiny.toml", "--scale", "epochs=1,size=48")
    assert (other.code, "at another scale" in other.err) == (1, True)


def test_a_recorded_recipe_is_trained_anew(cli: Cli, tmp_path: Path, sample_folder: Path) -> None:
    assert sample_folder.is_dir()
    options = [
        "--data",
        "sample",
        "--backbone",
        "mobilenet025",
        "--weights",
        "none",
        "--image-size",
        "32",
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--augment",
        "none",
        "--patience",
        "0",
    ]
    assert cli("train", *options, "--name", "first").code == 0
    again = cli("train", "--recipe", "runs/first/recipe.json", "--name", "second")
    assert again.code == 0, again.err
    first, second = (json.loads((tmp_path / "runs" / name / "recipe.json").read_text(encoding="utf-8")) for name in ("first", "second"))
    assert first["recipe"] == second["recipe"]
    refused = cli("train", "--recipe", "runs/first/recipe.json", "--epochs", "3")
    assert (refused.code, "--epochs cannot be given with --recipe" in refused.err) == (1, True)
    broken = cli("train", "--recipe", "-", stdin="{")
    assert (broken.code, "the recipe on stdin cannot be read" in broken.err) == (1, True)
