"""How many of a network's first convolutions stay in fp32 in int8 files: the narrow ones, and more while rounding moves the answers too far."""

from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.moments import Convolution, convolutions_of, multiply_adds_of
from cellclf.data.decoding import Pixels

__all__ = ["LARGEST_NOISE", "log_odds_noise", "nodes_in_fp32", "start_in_fp32"]

LARGEST_NOISE = 0.1
"""`log_odds_noise` up to which no further convolution stays in fp32: such a change makes 0.525 to 0.475 of two labels even."""

_NARROW = 32
"""Channels up to which, in or out, a convolution at the start of the network stays in fp32.

A sum over few channels does not average rounding errors out, and all later layers inherit them; nor is int8 faster with so few: of MobileNet
0.25 this keeps nine convolutions, of MobileNet and InceptionV3 three, of Xception two, of ResNet50 and VGG16 the first.
"""

_SHARES = (1 / 8, 1 / 4)
"""Of all convolutions' multiply-adds, what the first may be that stay in fp32, the narrow start included; tried in turn.

Were all multiply-adds alike, a quarter in fp32 would make 1.6, 2 and 2.3 times of int8 that is 2, 3 and 4 times as fast.
"""


def start_in_fp32(model: Any, images: Pixels) -> list[list[str]]:
    """What may stay in fp32, the least first: the outputs of the narrow start's convolutions, then of as many as each of _SHARES lets stay.

    All of them where none is wide: there is nothing to gain.
    """
    convolutions = convolutions_of(model)
    narrow = next((number for number, convolution in enumerate(convolutions) if _channels(convolution) > _NARROW), len(convolutions))
    done = list(accumulate(multiply_adds_of(model, convolutions, images)))
    more = [] if narrow == len(convolutions) else [sum(work <= share * done[-1] for work in done) for share in _SHARES]
    outputs = [convolution.node.output[0] for convolution in convolutions]
    return [outputs[:number] for number in sorted({narrow, *(max(narrow, number) for number in more)})]


def nodes_in_fp32(model: Any, outputs: list[str]) -> list[str]:
    """Names of the convolutions with these outputs, and of all nodes before the first convolution with another."""
    kept = set(outputs)
    others = {convolution.node.output[0] for convolution in convolutions_of(model)} - kept
    names, started = [], False
    for node in model.graph.node:
        started = started or node.output[0] in others
        if not started or node.output[0] in kept:
            names.append(node.name)
    return names


def log_odds_noise(exact: npt.NDArray[np.floating], coarse: npt.NDArray[np.floating]) -> float:
    """Root mean square change of the log odds of an image's two likeliest labels, where those are about equal.

    exact, coarse: probabilities [n, classes] of the same images. It is measured by what it makes of the first label's share of the two, which it
    moves most at even odds and hardly where the network is sure; a label that changes all the same counts in full. An image whose labels stand at
    0.9 to 0.1 counts an eighth of one at even odds; together the images count as one at least, so that a few sure ones are not blown up.
    """
    rows = np.arange(len(exact))
    best, second = np.argsort(-exact, axis=1, kind="stable")[:, :2].T
    before, after = (_share(values[rows, best], values[rows, second]) for values in (exact, coarse))
    even = (4 * before * (1 - before)) ** 2
    return float(np.sqrt(np.sum((4 * (after - before)) ** 2) / max(1.0, float(even.sum()))))


def _share(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """first / (first + second); a half where both are 0."""
    tiny = float(np.finfo(np.float32).tiny)
    return (first.astype(np.float64) + tiny) / (first.astype(np.float64) + second + 2 * tiny)


def _channels(convolution: Convolution) -> int:
    """Of its inputs or its outputs, whichever are fewer."""
    outputs, inputs = convolution.weights.shape[:2]
    return min(int(outputs), int(inputs) * convolution.groups)
