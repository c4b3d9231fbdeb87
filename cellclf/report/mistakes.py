"""The most confident mistakes of a model, and their pictures where the images are still on this machine."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cellclf.data.decoding import decode_thumbnail
from cellclf.errors import DecodeError
from cellclf.report.comparing import Candidate, same_images
from cellclf.report.figures import Mistake

__all__ = ["MISTAKES", "confident_mistakes", "thumbnail", "thumbnails"]

MISTAKES = 12
_THUMBNAIL_PX = 144


def confident_mistakes(candidate: Candidate, others: Sequence[Candidate], *, most: int = MISTAKES) -> tuple[Mistake, ...]:
    """The test images called wrongly with the highest probability (mean over seeds), at most one of a known group; others: models to count beside."""
    test, labels = candidate.answered("test"), candidate.runs[0].setup.data.labels
    mean = candidate.probabilities("test").mean(axis=0)
    called = mean.argmax(axis=1)
    judges = [candidate, *(other for other in others if other is not candidate and same_images(other, candidate))]
    wrong = sum((judge.probabilities("test").mean(axis=0).argmax(axis=1) != test.truth).astype(int) for judge in judges)
    found: list[Mistake] = []
    seen: set[str] = set()
    for place in np.argsort(-mean.max(axis=1), kind="stable"):
        if called[place] == test.truth[place] or test.groups[place] in seen or len(found) == most:
            continue
        entry = test.entries[place]
        seen.add(test.groups[place])
        found.append(
            Mistake(
                path=Path(entry.path).name if Path(entry.path).is_absolute() else entry.path,
                sha256=entry.sha256,
                label=entry.label,
                called=labels[called[place]],
                probability=float(mean[place, called[place]]),
                models_wrong=int(np.asarray(wrong)[place]),
                models=len(judges),
            )
        )
    return tuple(found)


def thumbnails(mistakes: Sequence[Mistake], files: Mapping[str, Path]) -> dict[str, str]:
    """A small picture of each mistake as a data: address, by content hash; without those whose file is gone or was changed. files: by hash."""
    pictures = {mistake.sha256: thumbnail(files[mistake.sha256], mistake.sha256) for mistake in mistakes if mistake.sha256 in files}
    return {sha256: picture for sha256, picture in pictures.items() if picture}


def thumbnail(path: Path, sha256: str) -> str:
    """The image as a small JPEG in a data: address; '' where the file is gone, was changed or cannot be read."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            return ""
        pixels = decode_thumbnail(content, longest_px=_THUMBNAIL_PX)
    except (OSError, DecodeError):
        return ""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
