"""Prove that an exported file gives here what it gave where it was made: content digests, golden cases, and batches of several sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellclf.artifact.golden import golden_image
from cellclf.card import Card
from cellclf.errors import InferenceError, VerificationError
from cellclf.runtime.classifier import Classifier
from cellclf.runtime.session import OnNote

__all__ = ["BATCH_SIZES", "Verification", "prove", "verify"]

BATCH_SIZES = (1, 2, 7, 32)


@dataclass(frozen=True)
class Verification:
    """What was found: golden cases replayed, the largest probability difference, and what it may be."""

    path: Path
    fingerprint: str
    provider: str
    cases: int
    max_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]


def verify(path: Path, *, device: str = "auto", on_note: OnNote | None = None) -> Verification:
    """Replay the golden cases alone and in batches of 1, 2, 7 and 32; raises VerificationError, ModelFileError, ProviderUnavailableError."""
    return prove(Classifier(path, device=device, on_note=on_note))


def prove(classifier: Classifier) -> Verification:
    """The same for a file that is open already, on its very session; raises VerificationError."""
    path, card = classifier.path, classifier.card
    if not card.golden:
        raise VerificationError(f"{path} carries no golden cases")
    images = np.stack([golden_image(case.seed, height_px=card.height_px, width_px=card.width_px) for case in card.golden])
    expected = np.array([case.probabilities for case in card.golden], dtype=np.float32)
    largest = 0.0
    for size in BATCH_SIZES:
        rows = np.resize(np.arange(len(images)), -(-len(images) // size) * size).reshape(-1, size)
        for chosen in rows:
            try:
                found = classifier.probabilities(images[chosen])
            except InferenceError as error:
                raise VerificationError(f"{path}: {error}") from error
            largest = max(largest, float(np.abs(found - expected[chosen]).max()))
    allowed = classifier.golden_tolerance
    if largest > allowed:
        raise VerificationError(
            f"{path} gives other probabilities on {classifier.provider} here than where it was made: they differ by up to {largest:.2g}, "
            f"{allowed:.2g} is allowed for {card.precision}{_by_provider(card, allowed)}. Do not use it on this machine with this provider"
        )
    return Verification(path, classifier.fingerprint, classifier.provider, len(card.golden), largest, allowed, BATCH_SIZES)


def _by_provider(card: Card, allowed: float) -> str:
    """Why more is allowed than the file says."""
    return " on a provider of lower precision" if allowed > card.golden_tolerance else ""
