"""Families that were found once and are kept in the cache, by the contents they were found in."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cellclf.data.audit.families import FAMILIES_VERSION, find_families
from cellclf.data.cache import OnProgress
from cellclf.documents import Document
from cellclf.storage import cache_folder

__all__ = ["family_name", "recovered_families"]


class _Kept(Document):
    """The group's name by content hash."""

    version: int
    group_of: dict[str, str]


def family_name(content: str) -> str:
    """The name of the family or group whose smallest content hash this is."""
    return f"family-{content[:16]}"


def recovered_families(file_of: Mapping[str, Path], *, on_progress: OnProgress | None = None) -> dict[str, str]:
    """The name of each content's group of families, found in the pixels by `find_families` or read from the cache."""
    contents = sorted(file_of)
    key = hashlib.sha256("\n".join((f"families {FAMILIES_VERSION}", *contents)).encode()).hexdigest()
    path = cache_folder() / "families" / f"{key[:40]}.json"
    if not path.exists():
        found = find_families(file_of, on_progress=on_progress)
        named = {content: family_name(group) for content, group in found.group_of.items()}
        _Kept(version=FAMILIES_VERSION, group_of=named).write(path)
    return _Kept.read(path).group_of
