"""What a study is: variations of one recipe on one data set, the figures that were published, and the questions it asks. Inert data."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from cellclf.backbones import BACKBONES
from cellclf.data.prepare import DataRequest
from cellclf.data.splits import Protocol
from cellclf.documents import Document
from cellclf.errors import StudyError
from cellclf.training.recipe import Recipe, make_recipe

__all__ = ["NAME_PATTERN", "Published", "Question", "Study", "Variation", "read_study"]

NAME_PATTERN = r"[a-z0-9][a-z0-9.-]{0,60}"
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
_CLOCK = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)")


class Published(Document):
    """The figures of one row as they were published; losses in nats, accuracies from 0 to 1, learning_time as h:mm:ss.ss; None = not given."""

    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    learning_time: str | None = Field(default=None, pattern=f"^{_CLOCK.pattern}$")
    parameters: int | None = None
    note: str = ""

    @property
    def learning_time_s(self) -> float | None:
        """The learning time in seconds."""
        match = _CLOCK.fullmatch(self.learning_time or "")
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


class Variation(Document):
    """One row of a study: a backbone and what differs from the study's common choices.

    choices: fields of Recipe but backbone, data and seed, for example {"hidden": (8, 8), "learning_rate": 1e-5}.
    """

    name: Name
    title: str
    backbone: str
    choices: dict[str, Any] = Field(default_factory=dict)
    published: Published | None = None


class Question(Document):
    """Does `factor` (a field of Recipe) matter? Asked of the variations that differ from the first one named in nothing else."""

    text: str
    factor: str
    variations: tuple[str, ...] = Field(min_length=2)


class Study(Document):
    """Variations that are compared, and how.

    letter: how the published studies are called here, '' for a user's own. data: as --data takes it. protocols: split protocols to run, the published
    one first. factors: the fields of Recipe that are under study; all else must agree before anything is ranked. common: choices of every variation.
    notes: what the source does not say or says wrongly, and what is assumed here.
    """

    name: Name
    title: str
    data: str
    variations: tuple[Variation, ...] = Field(min_length=1)
    factors: tuple[str, ...] = Field(min_length=1)
    letter: str = ""
    protocols: tuple[Protocol, ...] = ()
    common: dict[str, Any] = Field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [variation.name for variation in self.variations]
        _refuse(sorted({name for name in names if names.count(name) > 1}), "two variations are named {}")
        _refuse([factor for factor in self.factors if factor not in Recipe.model_fields], "{} is no field of a recipe, so it cannot be a factor")
        asked = [name for question in self.questions for name in question.variations]
        _refuse([name for name in asked if name not in names], "a question names {}, which is no variation of the study")
        _refuse([q.factor for q in self.questions if q.factor not in self.factors], "a question asks about {}, which is not among the factors")
        for variation in self.variations:
            BACKBONES.find(variation.backbone)
            self.recipe(variation, protocol=None, seed=0)
        return self

    def variation(self, name: str) -> Variation:
        """The variation of that name; raises StudyError naming all."""
        for variation in self.variations:
            if variation.name == name:
                return variation
        raise StudyError(f"study {self.name} has no variation {name!r}; it has {', '.join(each.name for each in self.variations)}")

    def recipe(self, variation: Variation, *, protocol: Protocol | None, seed: int) -> Recipe:
        """The recipe of one run at full scale."""
        choices = {**self.common, **variation.choices}
        fixed = sorted({"backbone", "data", "seed"} & set(choices))
        _refuse(fixed, "{} cannot stand among a variation's choices")
        return make_recipe(variation.backbone, DataRequest(data=self.data, protocol=protocol), seed=seed, **choices)


def read_study(path: Path) -> Study:
    """A user's own study from a TOML file whose keys are the fields of Study; raises StudyError with the first wrong field."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"the study {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "study"
        raise StudyError(f"the study {path}: {field}: {first['msg']}") from error


def _refuse(names: list[str], text: str) -> None:
    if names:
        raise ValueError(text.format(", ".join(names)))
