"""The ways to compute a network that a provider's options choose from. Needs no jax."""

from collections.abc import Mapping
from dataclasses import dataclass

from cellclf.errors import ModelFileError

__all__ = ["Ways"]

_KNOWN = {"pointwise": ("conv", "dot"), "strided": ("grouped", "shifted"), "graph": ("usual", "whole")}


@dataclass(frozen=True)
class Ways:
    """How a network is computed; the numbers differ by rounding only.

    pointwise: 1 × 1 convolutions as convolutions or as matrix products. strided: depthwise convolutions with a stride as grouped convolutions, or as
    the sum of the shifted images. graph: what is replayed as a CUDA graph, XLA's usual choice or the convolutions too.
    """

    pointwise: str = "conv"
    strided: str = "grouped"
    graph: str = "usual"

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Ways":
        """From a provider's options; raises ModelFileError for a way that there is not."""
        ways = cls(**{name: options[name] for name in _KNOWN if name in options})
        for name, known in _KNOWN.items():
            if getattr(ways, name) not in known:
                raise ModelFileError(f"there is no way {name}={getattr(ways, name)}: {', '.join(known)}")
        return ways
