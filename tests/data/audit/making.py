"""Drawn originals and their augmented copies, for the tests of the audit."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

WIDTH_PX, HEIGHT_PX = 160, 120


def field(seed: int, *, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Image.Image:
    """A drawn smear: pale discs with rims at random places, and one dark cell."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width_px, height_px), tuple(rng.integers(205, 230, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(26):
        x, y, radius = rng.uniform(0, width_px), rng.uniform(0, height_px), rng.uniform(7, 11)
        shade = int(rng.integers(-18, 18))
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(200 + shade, 130 + shade, 125 + shade), outline=(150, 90, 95), width=2)
        inner, dx = radius * rng.uniform(0.3, 0.55), rng.uniform(-2, 2)
        draw.ellipse([x - inner + dx, y - inner, x + inner + dx, y + inner], fill=(222 + shade, 170 + shade, 165 + shade))
    x, y = rng.uniform(50, width_px - 50), rng.uniform(40, height_px - 40)
    for _ in range(int(rng.integers(2, 5))):
        dx, dy, radius = rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(6, 11)
        draw.ellipse([x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius], fill=(90, 40, 140), outline=(60, 20, 110))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def augmented(
    image: Image.Image, *, turn_deg: float = 0, shear: float = 0, shift: tuple[float, float] = (0, 0), mirror: bool = False, brightness: float = 1
) -> Image.Image:
    """A copy of an image under an affine map around its middle, black where there is nothing; shift in pixels."""
    angle = math.radians(turn_deg)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([-1 if mirror else 1, 1])
    middle = np.array([image.width / 2, image.height / 2])
    offset = middle - linear @ (middle + shift)
    data = (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])
    moved = image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return ImageEnhance.Brightness(moved).enhance(brightness) if brightness != 1 else moved


def copies(seed: int, count: int) -> list[Image.Image]:
    """So many copies of the field of that seed."""
    return copies_of(field(seed), count, seed=1000 + seed)


def copies_of(original: Image.Image, count: int, *, seed: int) -> list[Image.Image]:
    """So many copies of one original, the first of them itself, the others turned, mirrored, sheared, shifted and brighter at random."""
    rng = np.random.default_rng(seed)
    made = [original]
    for _ in range(count - 1):
        x, y, turn, shear, brightness = rng.uniform((-12, -12, 0, -0.1, 0.8), (12, 12, 360, 0.1, 1.2)).tolist()
        made.append(augmented(original, turn_deg=turn, shear=shear, shift=(x, y), mirror=bool(rng.integers(2)), brightness=brightness))
    return made


def put_images(folder: Path, images: Sequence[Image.Image], *, name: str = "image") -> list[Path]:
    """Write images as JPEGs: image_000.jpeg …"""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{name}_{number:03d}.jpeg")
        image.save(paths[-1], quality=85)
    return paths
