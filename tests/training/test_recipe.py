import hashlib
import json

import pytest

from cellclf.backbones import BACKBONES
from cellclf.data.datasets import DATASETS
from cellclf.data.prepare import DataRequest
from cellclf.errors import CellclfError, UnknownNameError
from cellclf.training.augmentation import AUGMENTATIONS
from cellclf.training.recipe import Recipe, make_recipe

DATA = DataRequest(data="blood-cells")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbones_row_gives_the_defaults(name: str) -> None:
    recipe = make_recipe(name, DATA)
    assert recipe.learning_rate == BACKBONES[name].learning_rate
    assert recipe.image_size_px == BACKBONES[name].image_size_px


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_sets_row_gives_the_augmentation(name: str) -> None:
    recipe = make_recipe("mobilenet", DataRequest(data=name))
    assert recipe.augmentation == DATASETS[name].augmentation
    assert recipe.augmentation in AUGMENTATIONS


def test_features_are_computed_once_only_for_a_frozen_backbone_on_unvaried_images() -> None:
    assert make_recipe("mobilenet", DATA, freeze="all").features_once
    assert not make_recipe("mobilenet", DATA, freeze="all", augmentation="cells").features_once
    assert not make_recipe("mobilenet", DATA, freeze="all-but-10", augmentation="none").features_once


@pytest.mark.parametrize(
    ("choices", "part"),
    [
        ({"learning_rate": 0.0}, "learning-rate"),
        ({"dropout": 1.0}, "dropout"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": -1}, "batch-size"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"schedule": "linear"}, "schedule"),
        ({"precision": "fp8"}, "precision"),
        ({"class_weight": "some"}, "class-weight"),
        ({"freeze": "half"}, "all-but-N"),
        ({"freeze": "all-but-0"}, "all-but-N"),
        ({"image_size_px": 16}, "at least 32 px"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_choice_is_one_line_that_names_it(choices: dict[str, object], part: str) -> None:
    with pytest.raises(CellclfError) as caught:
        make_recipe("mobilenet", DATA, **choices)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_backbone_is_answered_with_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean resnet50"):
        make_recipe("resnet", DATA)


def test_the_fingerprint_changes_with_every_field() -> None:
    base = make_recipe("mobilenet", DATA)
    choices: dict[str, object] = {"seed": 1, "epochs": 31, "hidden": (8,), "dropout": 0.1, "freeze": "all", "weights": "none"}
    choices |= {"crop": "cell", "tta": "turns", "logit_adjustment_strength": 2.0}
    changed = [base.model_copy(update={name: value}) for name, value in choices.items()]
    assert len({recipe.fingerprint for recipe in (base, *changed)}) == len(changed) + 1
    assert Recipe.model_validate_json(base.model_dump_json()).fingerprint == base.fingerprint


def test_a_recipe_of_before_there_were_crops_and_views_keeps_its_fingerprint() -> None:
    base = make_recipe("mobilenet", DATA)
    before = base.model_dump(mode="json")
    for name in ("crop", "tta", "logit_adjustment_strength"):
        del before[name]
    text = base.model_dump_json(exclude={"crop", "tta", "logit_adjustment_strength"})
    assert json.loads(text) == before
    assert base.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert Recipe.model_validate(before).fingerprint == base.fingerprint


def test_a_strength_without_an_adjustment_is_refused() -> None:
    with pytest.raises(CellclfError, match="strength needs a logit adjustment: images or groups"):
        make_recipe("mobilenet", DATA, logit_adjustment_strength=1.5)
    assert make_recipe("mobilenet", DATA, logit_adjustment="groups", logit_adjustment_strength=1.5).logit_adjustment_strength == 1.5
