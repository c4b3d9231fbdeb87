"""What every engine gives: a session that runs uint8 images, and how one is opened. Imports the providers table only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.runtime.providers import Target

__all__ = ["Engine", "Session", "Wanted"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How to open: for `sessions` calls at a time of `threads` CPU threads each.

    precision: the file's own, for providers that must be told. options: the provider's, beside those of its row.
    """

    threads: int
    sessions: int = 1
    precision: str = "fp32"
    options: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """A network opened on one target."""

    @property
    def target(self) -> Target:
        """The provider and device that were asked for."""

    @property
    def provider(self) -> str:
        """What really runs, as records name it."""

    def run(self, images: Pixels) -> npt.NDArray[np.float32]:
        """uint8 [batch, H, W, 3] → probabilities float32 [batch, classes]; raises InferenceError. Safe to call from several threads."""


class Engine(Protocol):
    """Opens sessions of one runtime."""

    def __call__(self, content: bytes, target: Target, wanted: Wanted) -> Session:
        """Open the serialized model.

        Raises ProviderUnavailableError where the target cannot be had, MissingExtraError, ModelFileError.
        """
