"""The scale: how a study is made to fit a smaller machine. Inert data; stated on every page made from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cellclf.backbones import BACKBONES
from cellclf.documents import Document
from cellclf.errors import StudyError
from cellclf.training.recipe import Recipe

__all__ = ["SCALE_KEYS", "Scale", "parse_scale", "scaled"]


class Scale(Document):
    """What differs from the full study; every default = the full study.

    images: share of the files of each label and source split. image_size_px, epochs, batch_size: instead of the study's (epochs: at most so many).
    backbones: what runs in the place of a backbone. weights: as --weights takes it. learning_rate_factor: multiplies every learning rate, so that
    fewer steps can go as far; the variations' ratios stay.
    """

    images: Annotated[float, Field(gt=0, le=1)] = 1.0
    image_size_px: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    backbones: dict[str, str] = Field(default_factory=dict)
    weights: str | None = None
    learning_rate_factor: Annotated[float, Field(gt=0)] = 1.0

    @property
    def full(self) -> bool:
        """Whether nothing is scaled."""
        return self == Scale()

    def describe(self) -> str:
        """In words, for every page made from it."""
        if self.full:
            return "full scale"
        parts = [
            f"{self.images:.0%} of the images" if self.images < 1 else "",
            f"{self.image_size_px} px" if self.image_size_px else "",
            f"at most {self.epochs} epochs" if self.epochs else "",
            f"batch {self.batch_size}" if self.batch_size else "",
            ", ".join(f"{BACKBONES[new].title} in the place of {BACKBONES[old].title}" for old, new in self.backbones.items()),
            f"weights {Path(self.weights).name}" if self.weights else "",
            f"learning rates × {self.learning_rate_factor:g}" if self.learning_rate_factor != 1 else "",
        ]
        return "reduced scale: " + ", ".join(part for part in parts if part)

    def option(self) -> str:
        """What `parse_scale` takes for it; a weights file by its name. '' = full scale."""
        given = self.model_dump(exclude_defaults=True)
        texts = {
            "backbones": "+".join(f"{old}:{new}" for old, new in self.backbones.items()),
            "weights": Path(self.weights or "").name,
        }
        return ",".join(f"{name}={texts.get(key.field) or f'{given[key.field]:g}'}" for name, key in SCALE_KEYS.items() if key.field in given)


@dataclass(frozen=True)
class _Key:
    field: str
    meaning: str
    read: Callable[[str], Any]


def _backbones(text: str) -> dict[str, str]:
    pairs = [part.partition(":") for part in text.split("+")]
    if not all(old and new for old, _, new in pairs):
        raise ValueError("give OLD:NEW, several joined by +")
    return {BACKBONES.find(old).name: BACKBONES.find(new).name for old, _, new in pairs}


SCALE_KEYS: dict[str, _Key] = {
    "images": _Key("images", "share of the images, as 0.25", float),
    "size": _Key("image_size_px", "pixels a side", int),
    "epochs": _Key("epochs", "at most so many", int),
    "batch": _Key("batch_size", "images a step", int),
    "backbone": _Key("backbones", "OLD:NEW runs NEW in the place of OLD, several joined by +", _backbones),
    "weights": _Key("weights", "imagenet, none or a file", str),
    "lr": _Key("learning_rate_factor", "multiplies every learning rate", float),
}
"""What `--scale` takes, as KEY=VALUE joined by commas."""


def parse_scale(text: str) -> Scale:
    """A scale from the command line, as images=0.25,size=96,epochs=5,backbone=mobilenet:mobilenet025; raises StudyError, UnknownNameError."""
    fields: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if name not in SCALE_KEYS or not equals:
            raise StudyError(f"--scale {part!r} is not known; give {', '.join(f'{key}=…' for key in SCALE_KEYS)} joined by commas")
        key = SCALE_KEYS[name]
        if key.field in fields:
            raise StudyError(f"--scale gives {name} twice")
        try:
            fields[key.field] = key.read(value)
            Scale.model_validate(fields)
        except ValueError as error:
            raise StudyError(f"--scale {part!r} must be {name}=…: {key.meaning}") from error
    return Scale.model_validate(fields)


def scaled(recipe: Recipe, scale: Scale) -> Recipe:
    """The recipe at that scale; raises CellclfError where a backbone cannot take the image size."""
    backbone = scale.backbones.get(recipe.backbone, recipe.backbone)
    changed = backbone != recipe.backbone
    size = scale.image_size_px or (BACKBONES[backbone].image_size_px if changed else recipe.image_size_px)
    fields = {
        **recipe.model_dump(),
        "backbone": backbone,
        "image_size_px": size,
        "epochs": min(scale.epochs or recipe.epochs, recipe.epochs),
        "batch_size": scale.batch_size or recipe.batch_size,
        "weights": scale.weights or recipe.weights,
        "learning_rate": recipe.learning_rate * scale.learning_rate_factor,
        "data": recipe.data.model_copy(update={"images_fraction": scale.images}),
    }
    return Recipe.model_validate(fields)
