"""Tiny real image files for the tests of the data half."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: object = 0, *, width_px: int = 12, height_px: int = 8) -> Image.Image:
    """RGB noise, the same for one seed."""
    number = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8])
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def put(path: Path, seed: object = None) -> Path:
    """Write one PNG with content of its own (of its path, unless a seed is given)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(path if seed is None else seed), "PNG"))
    return path


def put_tree(root: Path, counts: Mapping[str, int]) -> Path:
    """Write so many PNGs into each folder under root: {"TRAIN/A": 3}. Names are 00.png, 01.png …"""
    for folder, count in counts.items():
        for number in range(count):
            put(root / folder / f"{number:02d}.png")
    return root


def put_csv(path: Path, *lines: str) -> Path:
    """Write a .csv file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
