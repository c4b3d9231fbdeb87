"""AUGMENTATIONS: one row = one way to vary training images inside the network. Pixels stay in 0–255."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from cellclf.tables import Table
from cellclf.training.variation import Variation, variation_layer

__all__ = ["AUGMENTATIONS", "Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """name; what it does in words; and what varies, None for nothing."""

    name: str
    description: str
    variation: Variation | None

    def layers(self, keras: Any) -> list[Any]:
        """Its layers, seeded by the training loop; takes the `keras` module."""
        return [] if self.variation is None else [variation_layer(keras, self.variation)]


_CELLS = Variation(mirrored=True, flipped=True, turn=0.5)
_CELLS_STRONG = dataclasses.replace(_CELLS, zoom=(-0.2, 0.2), contrast=0.25, brightness=0.12)
_XRAY = Variation(mirrored=True, shift=0.08, zoom=(-0.15, 0.15), fill="nearest", contrast=0.2)

AUGMENTATIONS: Table[Augmentation] = Table(
    "augmentation",
    [
        Augmentation("none", "every epoch sees the same pixels", None),
        Augmentation("light", "horizontal flips, shifts of up to 8 %", Variation(mirrored=True, shift=0.08, fill="nearest")),
        Augmentation("cells", "flips on both axes, any rotation (a smear has no upright)", _CELLS),
        Augmentation("cells-strong", "as cells, zoom of up to 20 %, contrast of up to 25 %, brightness of up to 12 %", _CELLS_STRONG),
        Augmentation(
            "cells-stain",
            "as cells-strong, hue of up to 4 % of the circle, saturation of up to 30 % (stains differ)",
            dataclasses.replace(_CELLS_STRONG, saturation=0.15, hue=0.04),
        ),
        Augmentation("xray", "horizontal flips, shifts of up to 8 %, zoom of up to 15 %, contrast of up to 20 %", _XRAY),
        Augmentation(
            "xray-strong",
            "horizontal flips, turns of up to 11°, shifts of up to 10 %, zoom of up to 25 %, contrast of up to 40 %, brightness of up to 20 %",
            Variation(mirrored=True, turn=0.03, shift=0.1, zoom=(-0.25, 0.15), fill="nearest", contrast=0.4, brightness=0.2),
        ),
    ],
)
