"""The recipe: every choice behind a run, as inert data. Building one touches no disk, network or framework."""

import hashlib
import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cellclf.backbones import BACKBONES
from cellclf.data.crops import CROPS, View
from cellclf.data.datasets import DATASETS
from cellclf.data.prepare import DataRequest
from cellclf.documents import Document
from cellclf.errors import CellclfError
from cellclf.training.tta import TTAS

__all__ = ["FREEZE_PATTERN", "OPTIMIZER", "Recipe", "Schedule", "TrainingPrecision", "make_recipe"]

Schedule = Literal["constant", "cosine"]
TrainingPrecision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
OPTIMIZER = "Adam"
"""Every run's optimizer, by its name in keras.optimizers, with Keras' own betas and epsilon."""
FREEZE_PATTERN = re.compile(r"none|all|all-but-([1-9]\d*)")

_LATER_CHOICES = ("crop", "tta", "logit_adjustment_strength")
"""Fields that came after the first recorded recipes, whose fingerprints stay."""

PositiveInt = Annotated[int, Field(ge=1)]


class Recipe(Document):
    """What a run is made with.

    crop: the part of each image that the network sees, a row of CROPS. tta: test-time augmentation, a row of TTAS; training is the same with it, and
    so are an epoch's figures. hidden: units of each dense layer between the features and the softmax.
    patience: epochs without a better validation loss before it stops and the best weights are restored; 0 = run all epochs and keep the last.
    freeze: none | all | all-but-N (the backbone's last N layers learn). class_weight: balanced = each label weighs the same in the loss.
    logit_adjustment: images or groups = the loss sees probabilities shifted by the labels' shares of the training images or groups (Menon et al.
    2021), so that a label of few patients or cells is not called too seldom; the network itself is not shifted. logit_adjustment_strength: the
    power of those shares, their tau; 1 = as far as the shares say. batch_norm_momentum: None = chosen so that the moving averages span a quarter
    of an epoch at most (see network.batch_norm_momentum).
    """

    backbone: str
    data: DataRequest
    image_size_px: PositiveInt
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    augmentation: str
    crop: str = "none"
    tta: str = "none"
    hidden: tuple[PositiveInt, ...] = (16,)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    schedule: Schedule = "constant"
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    patience: Annotated[int, Field(ge=0)] = 5
    weights: str = "imagenet"
    freeze: str = "none"
    class_weight: Literal["none", "balanced"] = "none"
    logit_adjustment: Literal["none", "images", "groups"] = "none"
    logit_adjustment_strength: Annotated[float, Field(gt=0, le=4, allow_inf_nan=False)] = 1.0
    precision: TrainingPrecision = "float32"
    deterministic: bool = False
    batch_norm_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        row = BACKBONES.find(self.backbone)
        CROPS.find(self.crop)
        TTAS.find(self.tta)
        if self.image_size_px < row.min_image_size_px:
            raise CellclfError(f"{row.title} needs images of at least {row.min_image_size_px} px; {self.image_size_px} px were asked for")
        if self.logit_adjustment == "none" and self.logit_adjustment_strength != 1:
            raise CellclfError("a logit adjustment's strength needs a logit adjustment: images or groups")
        if not FREEZE_PATTERN.fullmatch(self.freeze):
            raise CellclfError(f"freeze {self.freeze!r} is not known; give none, all, or all-but-N, for example all-but-20")
        return self

    @property
    def view(self) -> View:
        """What the network sees of an image."""
        return View(self.image_size_px, self.image_size_px, self.crop)

    @property
    def features_once(self) -> bool:
        """Whether the backbone's features can be computed once: it is frozen, and every epoch sees the same pixels."""
        return self.freeze == "all" and self.augmentation == "none"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recipe as JSON, without later choices that are left as they were before there was a choice."""
        unchosen = {name for name in _LATER_CHOICES if getattr(self, name) == Recipe.model_fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude=unchosen or None).encode()).hexdigest()


def make_recipe(backbone: str, data: DataRequest, **choices: object) -> Recipe:
    """A recipe with the backbone's and the data set's own defaults where a choice is missing or None.

    choices: fields of Recipe. Defaults from the tables: image_size_px and learning_rate from the backbone; augmentation from the data set,
    or 'none' for a frozen backbone, whose features are then computed once. Raises UnknownNameError, or CellclfError naming the wrong field.
    """
    row = BACKBONES.find(backbone)
    given = {name: value for name, value in choices.items() if value is not None}
    usual = DATASETS[data.data].augmentation if data.data in DATASETS else "light"
    augmentation = "none" if given.get("freeze") == "all" else usual
    defaults: dict[str, object] = {"image_size_px": row.image_size_px, "learning_rate": row.learning_rate, "augmentation": augmentation}
    return _validated({"backbone": backbone, "data": data, **defaults, **given})


def _validated(fields: dict[str, object]) -> Recipe:
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).removesuffix("_px").replace("_", "-") if first["loc"] else "recipe"
        raise CellclfError(f"--{name} {first.get('input')!r}: {first['msg'].lower()}") from error
