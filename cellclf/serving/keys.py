"""API keys: read from a file or the environment, compared in constant time over all of them. Keeps their digests only."""

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cellclf.errors import ServingError

__all__ = ["KEYS_VARIABLE", "Keys", "read_keys"]

KEYS_VARIABLE = "CELLCLF_API_KEYS"
"""Environment variable of keys without names, separated by commas or line ends."""

_SHORTEST = 16


class Keys:
    """Keys by the names that logs call them by; without any, everybody may come."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, key: bytes) -> str | None:
        """The name of a key; None where it is none. All keys are compared, whichever fits, so that the time tells nothing."""
        given, found = _digest(key), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


def read_keys(path: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """Keys of a file, one a line as `key` or `name key`, # begins a comment; and of $CELLCLF_API_KEYS. Raises ServingError."""
    lines: list[str] = []
    if path is not None:
        try:
            lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ServingError(f"keys file {path} cannot be read: {error}") from error
        if not any(lines):
            raise ServingError(f"keys file {path} holds no key; write one a line, as `name key`")
    given = [key.strip() for key in re.split(r"[,\r\n]", environment.get(KEYS_VARIABLE, ""))]
    if any(len(key.split()) > 1 for key in given):
        raise ServingError(f"a key of ${KEYS_VARIABLE} holds white space: separate keys by commas; `name key` is for --api-keys-file")
    return Keys(_named(line for line in [*lines, *given] if line))


def _named(lines: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        *names, key = line.split()
        name = names[0] if names else f"key{number}"
        if len(names) > 1 or len(key) < _SHORTEST or name in found:
            raise ServingError(f"API key {number} cannot be used: give `key` or `name key`, at least {_SHORTEST} characters, each name once")
        found[name] = key
    return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
