from pathlib import Path

import pytest

from cellclf.data.prepare import DataRequest
from cellclf.errors import StudyError
from cellclf.studies.contract import comparable_sets, differing, gather_models, require_comparable
from cellclf.training.recipe import Recipe, make_recipe
from tests.studies.making import make_run


def recipe(backbone: str = "mobilenet025", **choices: object) -> Recipe:
    return make_recipe(backbone, DataRequest(data="sample"), **{"epochs": 2, "image_size_px": 96, "learning_rate": 1e-3, **choices})


def test_runs_that_differ_in_their_seed_alone_are_one_model(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"r{seed}", recipe(seed=seed)) for seed in (2, 0, 1)]
    (model,), notes = gather_models(runs)
    assert model.seeds == (0, 1, 2)
    assert model.name == "r0"
    assert notes == ()


def test_models_that_differ_in_the_factor_alone_are_comparable(tmp_path: Path) -> None:
    models, _ = gather_models([make_run(tmp_path / name, recipe(name)) for name in ("mobilenet", "resnet50", "vgg16")])
    (only,) = comparable_sets(models, ["backbone"])
    assert [model.name for model in only.models] == ["mobilenet", "resnet50", "vgg16"]
    assert only.shared["learning_rate"] == "0.001"
    assert "backbone" not in only.shared
    require_comparable(models, ["backbone"])


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("learning_rate", {"learning_rate": 1e-4}),
        ("epochs", {"epochs": 3}),
        ("patience", {"patience": 1}),
        ("schedule", {"schedule": "cosine"}),
        ("image_size_px", {"image_size_px": 128}),
        ("batch_size", {"batch_size": 8}),
        ("precision", {"precision": "mixed_bfloat16"}),
        ("hidden", {"hidden": (8,)}),
        ("dropout", {"dropout": 0.1}),
        ("weights", {"weights": "none"}),
        ("freeze", {"freeze": "all"}),
        ("augmentation", {"augmentation": "light"}),
        ("class_weight", {"class_weight": "balanced"}),
    ],
)
def test_a_recipe_that_differs_elsewhere_is_not_comparable_and_the_field_is_named(tmp_path: Path, field: str, changed: dict[str, object]) -> None:
    models, _ = gather_models([make_run(tmp_path / "a", recipe("mobilenet")), make_run(tmp_path / "b", recipe("vgg16", **changed))])
    assert len(comparable_sets(models, ["backbone"])) == 2
    assert field in differing(models, ["backbone"])
    with pytest.raises(StudyError, match=rf"cannot be ranked.*{field}.*--force"):
        require_comparable(models, ["backbone"])


@pytest.mark.parametrize(
    ("field", "changed"),
    [("split (fingerprint)", {"salt": "x"}), ("protocol", {"protocol": "random"}), ("hardware", {"cores": 64})],
)
def test_runs_of_other_data_or_machines_are_not_comparable(tmp_path: Path, field: str, changed: dict[str, object]) -> None:
    models, _ = gather_models([make_run(tmp_path / "a", recipe("mobilenet")), make_run(tmp_path / "b", recipe("vgg16"), **changed)])  # type: ignore[arg-type]
    assert list(differing(models, ["backbone"])) == [field]


def test_models_of_other_seeds_are_not_comparable(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"a{seed}", recipe("mobilenet", seed=seed)) for seed in (0, 1)] + [make_run(tmp_path / "b", recipe("vgg16"))]
    models, _ = gather_models(runs)
    assert differing(models, ["backbone"]) == {"seeds": {"0, 1": ("a0",), "0": ("b",)}}


def test_the_largest_comparable_set_comes_first(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "odd", recipe("xception", epochs=9))] + [make_run(tmp_path / name, recipe(name)) for name in ("mobilenet", "vgg16")]
    sets = comparable_sets(gather_models(runs)[0], ["backbone"])
    assert [[model.name for model in each.models] for each in sets] == [["mobilenet", "vgg16"], ["odd"]]


def test_unfinished_and_repeated_runs_are_left_out_and_named(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "first", recipe()), make_run(tmp_path / "second", recipe())
    half = make_run(tmp_path / "half", recipe(seed=5))
    (half.folder / "metrics.json").unlink()
    (model,), notes = gather_models([first, second, half])
    assert model.runs == (second,)
    assert sorted(notes) == [
        "first is left out: the same recipe and seed as second, which ended later",
        "half is left out: it is not finished",
    ]


def test_weights_of_one_name_in_two_places_are_the_same_condition(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, recipe(weights=f"/{name}/mobilenet.h5", seed=seed)) for seed, name in enumerate(("here", "there"))]
    (model,), _ = gather_models(runs)
    assert model.conditions["weights"] == "mobilenet.h5"
