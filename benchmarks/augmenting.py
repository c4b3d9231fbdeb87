"""Augmented copies of an image with known parameters, for measuring the audit: an affine map around the middle, a fill, brightness, JPEG."""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance

Fill = Literal["black", "white", "grey", "edge", "reflect"]


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Ranges from which copies are drawn, all symmetric and uniform.

    turn_deg: rotation. shift: part of each side. shear, brightness, zoom: around 0, 1 and 1. fill: 'black', 'white', 'grey', 'edge' or
    'reflect', what stands where there is no picture. quality: of the JPEG.
    """

    name: str
    turn_deg: float = 25.0
    shift: float = 0.1
    shear: float = 0.1
    flips: bool = True
    brightness: float = 0.0
    zoom: float = 0.0
    fill: Fill = "black"
    quality: int = 75


AS_PUBLISHED = Difficulty(name="as the published set: turns to 25°, shifts to 10 %, shear to 0.1, flips")

DIFFICULTIES = (
    AS_PUBLISHED,
    Difficulty(name="flips only", turn_deg=0, shift=0, shear=0),
    Difficulty(name="any turn", turn_deg=180),
    Difficulty(name="shifts to 25 %", shift=0.25),
    Difficulty(name="shear to 0.3", shear=0.3),
    Difficulty(name="brightness 0.7 to 1.3", brightness=0.3),
    Difficulty(name="brightness 0.5 to 1.5", brightness=0.5),
    Difficulty(name="white fill", fill="white"),
    Difficulty(name="grey fill", fill="grey"),
    Difficulty(name="edge repeated", fill="edge"),
    Difficulty(name="picture reflected", fill="reflect"),
    Difficulty(name="JPEG quality 30", quality=30),
    Difficulty(name="zoom 0.9 to 1.1", zoom=0.1),
    Difficulty(name="zoom 0.8 to 1.25", zoom=0.22),
    Difficulty(name="all at once: any turn, shifts to 20 %, shear to 0.2, brightness 0.7 to 1.3", turn_deg=180, shift=0.2, shear=0.2, brightness=0.3),
)

_TONES = {"black": 0, "grey": 128, "white": 255}


def augmented(image: Image.Image, difficulty: Difficulty, rng: np.random.Generator) -> bytes:
    """One copy as the bytes of a JPEG."""
    width, height = image.size
    turn, shear = math.radians(rng.uniform(-1, 1) * difficulty.turn_deg), rng.uniform(-1, 1) * difficulty.shear
    signs = rng.choice([-1, 1], 2) if difficulty.flips else np.ones(2)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag(signs) / (1 + rng.uniform(-1, 1) * difficulty.zoom)
    middle = np.array([width / 2, height / 2])
    offset = middle - linear @ (middle + rng.uniform(-1, 1, 2) * difficulty.shift * image.size)
    moved = _moved(image, linear, offset, difficulty.fill)
    if difficulty.brightness:
        moved = ImageEnhance.Brightness(moved).enhance(1 + rng.uniform(-1, 1) * difficulty.brightness)
    stream = io.BytesIO()
    moved.save(stream, "JPEG", quality=difficulty.quality)
    return stream.getvalue()


def _moved(image: Image.Image, linear: np.ndarray, offset: np.ndarray, fill: Fill) -> Image.Image:
    if fill in ("edge", "reflect"):
        width, height = image.size
        around = np.pad(np.asarray(image), ((height, height), (width, width), (0, 0)), mode=fill)
        return _transformed(Image.fromarray(around), image.size, linear, offset + np.array([width, height]), 0)
    return _transformed(image, image.size, linear, offset, _TONES[fill])


def _transformed(image: Image.Image, size: tuple[int, int], linear: np.ndarray, offset: np.ndarray, tone: int) -> Image.Image:
    data = (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])
    return image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=(tone,) * 3)
