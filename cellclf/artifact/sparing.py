"""How many of a network's first convolutions int8 spares: the narrow ones, and more while rounding makes the answers too unsteady."""

from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from cellclf.artifact.moments import Convolution, convolutions_of, multiply_adds_of
from cellclf.data.decoding import Pixels

__all__ = ["STEADY", "log_odds_noise", "nodes_before", "spared"]

STEADY = 0.1
"""`log_odds_noise` up to which no further convolution is spared: a label changes where the two likeliest stand at 0.525 to 0.475 or nearer."""

_NARROW = 32
"""Channels up to which, in or out, a convolution at the start of the network stays in fp32.

A sum over few channels does not average rounding errors out, and all later layers inherit them; nor is int8 faster with so few: of MobileNet
0.25 this keeps nine convolutions, of MobileNet and InceptionV3 three, of Xception two, of ResNet50 and VGG16 the first.
"""

_SHARES = (1 / 8, 1 / 4)
"""Of all convolutions' multiply-adds, what may stay in fp32 beyond the narrow start, tried in turn. Int8 takes a third to a quarter of fp32's time,
so a quarter in fp32 costs half of what int8 gains."""


def spared(model: Any, images: Pixels) -> list[int]:
    """Numbers of first convolutions to leave in fp32, the fewest first: the narrow start, then as many as each of _SHARES lets stay.

    All of them where none is wide: there is nothing to gain.
    """
    convolutions = convolutions_of(model)
    narrow = next((number for number, convolution in enumerate(convolutions) if _channels(convolution) > _NARROW), len(convolutions))
    if narrow == len(convolutions):
        return [narrow]
    done = list(accumulate(multiply_adds_of(model, convolutions, images)))
    more = (sum(work <= share * done[-1] for work in done) for share in _SHARES)
    return sorted({narrow, *(max(narrow, number) for number in more)})


def nodes_before(model: Any, number: int) -> list[str]:
    """Names of the nodes before convolution `number`, counted from 0; all where there are no more. Nodes without a name are given one."""
    first = [convolution.node.output[0] for convolution in convolutions_of(model)][number : number + 1]
    names: list[str] = []
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{place}"
        if node.output[0] in first:
            break
        names.append(node.name)
    return names


def log_odds_noise(exact: npt.NDArray[np.floating], coarse: npt.NDArray[np.floating]) -> float:
    """Root mean square change of the log odds of an image's two likeliest labels, where those are about equal.

    exact, coarse: probabilities [n, classes] of the same images. Images count by sech⁴(log odds / 2), the squared slope of the probability, divided
    by its largest: one whose labels stand at 0.9 to 0.1 counts an eighth. Far from even odds a change, however large, alters no label.
    """
    rows = np.arange(len(exact))
    best, second = np.argsort(-exact, axis=1, kind="stable")[:, :2].T
    before, after = (np.log(np.clip(values, np.finfo(np.float32).tiny, None, dtype=np.float64)) for values in (exact, coarse))
    odds = before[rows, best] - before[rows, second]
    changes = after[rows, best] - after[rows, second] - odds
    return float(np.sqrt(np.average(changes**2, weights=np.cosh(odds / 2) ** -4.0)))


def _channels(convolution: Convolution) -> int:
    """Of its inputs or its outputs, whichever are fewer."""
    outputs, inputs = convolution.weights.shape[:2]
    return min(int(outputs), int(inputs) * convolution.groups)
