"""Which providers can really open a session here: each is asked to run a network of one operator."""

import base64
from dataclasses import dataclass

import numpy as np

from cellclf.errors import MissingExtraError, ModelFileError, ProviderUnavailableError
from cellclf.runtime.providers import PROVIDERS, libraries, preload_gpu_libraries
from cellclf.runtime.session import open_session

__all__ = ["PROBE_MODEL", "ProviderState", "probe_providers"]

PROBE_MODEL = base64.b64decode(
    "CAg6bAonCgVpbWFnZRINcHJvYmFiaWxpdGllcyIEQ2FzdCoJCgJ0bxgBoAECEgVwcm9iZVoYCgVpbWFnZRIPCg0IAhIJCgcSBWJhdGNoYiAKDX"
    "Byb2JhYmlsaXRpZXMSDwoNCAESCQoHEgViYXRjaEIECgAQEQ=="
)
"""An ONNX model, opset 17: image uint8 [batch] → Cast → probabilities float32 [batch]."""


@dataclass(frozen=True)
class ProviderState:
    """Whether a provider works here, what it said if not, and which of its libraries were found."""

    name: str
    works: bool
    reason: str
    libraries: dict[str, bool]


def probe_providers() -> list[ProviderState]:
    """Ask each provider of the table to run something, and compare what it gives."""
    preload_gpu_libraries()
    states = []
    for provider in PROVIDERS.values():
        try:
            values = open_session(PROBE_MODEL, device=provider.name, threads=1).run(np.array([0, 7, 255], dtype=np.uint8))
            works, reason = bool((values == [0, 7, 255]).all()), ""
            if not works:
                reason = "opens, but gives wrong numbers"
        except (ProviderUnavailableError, MissingExtraError, ModelFileError) as error:
            works, reason = False, str(error)
        states.append(ProviderState(provider.name, works, reason, libraries(provider)))
    return states
