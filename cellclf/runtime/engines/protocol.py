"""What every engine gives: a session that runs uint8 images, and how one is opened. Imports the providers table only."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from cellclf.data.decoding import Pixels
from cellclf.runtime.providers import Target

__all__ = ["Engine", "Session"]


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

    def __call__(self, content: bytes, target: Target, *, threads: int, sessions: int) -> Session:
        """Open the serialized model for `sessions` calls at a time of `threads` CPU threads each.

        Raises ProviderUnavailableError where the target cannot be had, MissingExtraError, ModelFileError.
        """
