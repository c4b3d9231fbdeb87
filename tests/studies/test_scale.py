import pytest

from cellclf.errors import CellclfError
from cellclf.studies.scale import SCALE_KEYS, Scale, parse_scale, scaled
from cellclf.studies.table import find_study


def test_nothing_is_the_full_scale_and_changes_nothing() -> None:
    study = find_study("A")
    recipe = study.recipe(study.variations[1], protocol="random", seed=0)
    assert parse_scale("").full
    assert parse_scale("").describe() == "full scale"
    assert scaled(recipe, Scale()) == recipe


def test_every_key_is_read_applied_and_told() -> None:
    scale = parse_scale("images=0.25, size=96,epochs=5,batch=16,backbone=inceptionv3:mobilenet025+xception:mobilenetv2,weights=none,lr=20")
    assert len(scale.model_dump(exclude_defaults=True)) == len(SCALE_KEYS)
    study = find_study("A")
    recipe = scaled(study.recipe(study.variations[1], protocol="random", seed=4), scale)
    assert (recipe.backbone, recipe.image_size_px, recipe.epochs, recipe.batch_size, recipe.weights, recipe.seed) == (
        "mobilenet025",
        96,
        5,
        16,
        "none",
        4,
    )
    assert recipe.learning_rate == pytest.approx(20 * 5e-5)
    assert recipe.data.images_fraction == 0.25
    for part in ("25% of the images", "96 px", "at most 5 epochs", "batch 16", "MobileNet 0.25 in the place of InceptionV3", "weights none", "× 20"):
        assert part in scale.describe()


def test_a_replaced_backbone_brings_its_own_image_size_and_others_keep_theirs() -> None:
    study, scale = find_study("A"), parse_scale("backbone=xception:mobilenet025")
    sizes = {v.name: scaled(study.recipe(v, protocol=None, seed=0), scale).image_size_px for v in study.variations}
    assert sizes == {"mobilenet": 224, "inceptionv3": 299, "xception": 224, "resnet50": 224}


def test_a_scale_never_lengthens_a_study() -> None:
    study = find_study("C")
    assert scaled(study.recipe(study.variations[0], protocol=None, seed=0), parse_scale("epochs=99")).epochs == 30


@pytest.mark.parametrize(
    "text",
    [
        "image=1",
        "images",
        "images=0",
        "images=1.5",
        "images=x",
        "size=0",
        "epochs=-1",
        "lr=0",
        "backbone=mobilenet",
        "epochs=2,epochs=3",
        "backbone=a:b",
    ],
)
def test_a_wrong_scale_is_refused(text: str) -> None:
    with pytest.raises(CellclfError, match=r"--scale|unknown backbone"):
        parse_scale(text)


def test_a_size_that_a_backbone_cannot_take_is_refused() -> None:
    study = find_study("A")
    with pytest.raises(CellclfError, match="InceptionV3 needs images of at least 75 px"):
        scaled(study.recipe(study.variations[1], protocol=None, seed=0), parse_scale("size=64"))


@pytest.mark.parametrize(
    "text", ["", "images=0.25,size=96,epochs=5,batch=16,backbone=inceptionv3:mobilenet025+xception:mobilenetv2,weights=none,lr=20"]
)
def test_the_option_of_a_scale_gives_it_again(text: str) -> None:
    assert parse_scale(text).option() == text


def test_a_weights_file_is_told_by_its_name_not_by_where_it_lies() -> None:
    scale = parse_scale("weights=/somewhere/private/mobilenet.h5")
    assert scale.describe() == "reduced scale: weights mobilenet.h5"
    assert scale.option() == "weights=mobilenet.h5"
