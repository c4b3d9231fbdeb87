"""What a coarser precision gains in speed on the machine that exports: measured against the fp32 graph of the same network, in turns."""

import time
from statistics import median

import numpy as np

from cellclf.card import Benefit, Card
from cellclf.data.decoding import Pixels
from cellclf.environment import cpu_name
from cellclf.runtime.rate import images_per_second
from cellclf.runtime.session import Session

__all__ = ["LEAST_RATIO", "benefit_of", "no_benefit"]

LEAST_RATIO = 1.1
"""Times fp32's speed below which a precision is no benefit."""

_ROUNDS = 5
_WINDOW_S = 0.2
"""Ten windows of both: 2 s, and more only where a single image takes longer than a window."""


def benefit_of(coarse: Session, fp32: Session, images: Pixels, *, threads: int) -> Benefit:
    """Compare two sessions of one network on images [n, H, W, 3] in alternating windows, batches as large as a window holds."""
    for session in (coarse, fp32):
        session.run(images[:1])  # what is made on first use is made here
    started = time.perf_counter()
    fp32.run(images[:1])
    batch = max(1, min(coarse.target.provider.batch, int(_WINDOW_S / (time.perf_counter() - started))))
    chosen = np.resize(images, (batch, *images.shape[1:]))
    rates = [[images_per_second(session, chosen, seconds=_WINDOW_S) for session in (coarse, fp32)] for _ in range(_ROUNDS)]
    return Benefit(
        ratio=median(found / plain for found, plain in rates),
        images_per_second=median(found for found, _ in rates),
        fp32_images_per_second=median(plain for _, plain in rates),
        batch=batch,
        threads=threads,
        provider=coarse.provider,
        cpu=cpu_name(),
    )


def no_benefit(card: Card) -> tuple[str, ...]:
    """A line where a file's precision is not worth having for its speed on this machine; none where it is, or was not timed."""
    gain = card.benefit
    if gain is None or gain.ratio >= LEAST_RATIO:
        return ()
    return (
        f"{card.precision} brings no benefit on this machine: {gain.images_per_second:.3g} images/s, fp32 {gain.fp32_images_per_second:.3g}, "
        f"{gain.ratio:.2f} times ({gain.provider}, {gain.threads} threads, batch {gain.batch})",
    )
