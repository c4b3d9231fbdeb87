"""Draws the built-in sample: seeded pictures of four white blood cells on stained smears."""

import cmath
import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

LABELS: tuple[str, ...] = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
SLIDES = {"TRAIN": range(1, 13), "TEST": range(13, 17)}  # their numbers, as patients, disjoint
_SUPERSAMPLE = 2
_FRAME_UM = (46.0, 34.5)  # width and height of the field of view, micrometres

Plane = npt.NDArray[np.float32]  # (H, W), or (H, W, 3) where said
Rgb = tuple[float, float, float]  # share of the light let through, 0 to 1


@dataclass(frozen=True)
class Stain:
    """The look of one slide: colours as the share of light let through (0 to 1), and optics."""

    plasma: Rgb  # the empty background, white balance included
    red_cell: Rgb
    violet: Rgb  # nuclei, platelets and fine granules
    pink: Rgb  # cytoplasm of neutrophils and eosinophils
    sky: Rgb  # cytoplasm of lymphocytes
    grey: Rgb  # cytoplasm of monocytes
    orange: Rgb  # coarse granules
    pallor: float  # depth of the pale centre of red cells, 0 to 1
    crowding: float  # red cells tried per 1000 square micrometres
    blur_um: float  # standard deviation of the optical blur, micrometres
    noise: float  # standard deviation of the sensor noise, grey levels of 255


@dataclass(frozen=True)
class _Kind:
    """How one kind of white cell is drawn; lengths are shares of its radius unless named _um."""

    radius_um: tuple[float, float]
    wobble_um: float  # how far the outline strays from an ellipse
    ground: str  # the Stain field that colours the cytoplasm
    lobes: tuple[int, ...]  # how many lobes the nucleus may have
    sweep: tuple[float, float]  # angle from the first lobe to the last, radians
    orbit: tuple[float, float]  # how far lobes lie from the centre
    size: tuple[float, float]  # radius of a disc with the area of all lobes
    stretch: float  # most a lobe is longer than round
    neck: float  # half width of the bridges, share of a lobe's
    density: float  # of the nucleus, 1 = the slide's violet
    streaks: float = 0.0  # share of streaks in the chromatin
    coarse: float = 0.0  # share of the places for coarse orange granules that hold one
    fine: float = 0.0  # weight of fine violet granules
    bubbles: float = 0.0  # share of the places for vacuoles that hold one


_KINDS = {
    "EOSINOPHIL": _Kind((6.0, 7.4), 0.22, "pink", (2,), (1.9, 2.9), (0.42, 0.52), (0.52, 0.60), 1.35, 0.25, 0.74, coarse=0.97),
    "LYMPHOCYTE": _Kind((4.4, 6.1), 0.14, "sky", (1,), (0.0, 0.1), (0.02, 0.12), (0.74, 0.87), 1.12, 1.0, 0.95),
    "MONOCYTE": _Kind((7.2, 9.0), 0.36, "grey", (7,), (1.5, 3.7), (0.39, 0.45), (0.96, 1.06), 1.1, 1.0, 0.58, streaks=0.9, fine=0.05, bubbles=0.05),
    "NEUTROPHIL": _Kind((5.8, 7.2), 0.22, "pink", (3, 3, 4, 4, 5), (3.1, 4.5), (0.36, 0.56), (0.53, 0.61), 1.3, 0.25, 0.88, fine=0.08),
}


def stain_of_slide(slide: int, *, seed: int) -> Stain:
    """Return the look of slide number `slide` (>= 0) of the sample made from `seed` (>= 0)."""
    rng = np.random.default_rng([seed, slide])
    cool, warm = rng.uniform(-0.025, 0.03), rng.uniform(-0.025, 0.03)
    depth, strength = rng.uniform(0.85, 1.15), rng.uniform(0.8, 1.2)
    balance, green, light = rng.normal(0.0, 0.025), rng.normal(0.0, 0.008), rng.uniform(0.8, 0.92)

    def colour(hue: float, saturation: float, value: float) -> Rgb:
        tint = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation * strength), value)
        return (tint[0] ** depth, tint[1] ** depth, tint[2] ** depth)

    return Stain(
        plasma=(light * (1.01 + balance), light * (1.0 + green), light * (0.985 - balance)),
        red_cell=colour(0.005 + warm, 0.23, 0.89),
        violet=colour(0.735 + cool, 0.64, 0.62),
        pink=colour(0.93 + warm, 0.13, 0.96),
        sky=colour(0.61 + cool, 0.22, 0.95),
        grey=colour(0.64 + cool, 0.15, 0.88),
        orange=colour(0.03 + warm, 0.52, 0.88),
        pallor=rng.uniform(0.4, 0.85),
        crowding=rng.uniform(15.0, 32.0),
        blur_um=rng.uniform(0.12, 0.22),
        noise=rng.uniform(1.2, 2.8),
    )


def _absorb(colour: Rgb) -> Plane:
    """Return the optical density, shape (3,), of a colour given as light let through."""
    return -np.log(np.asarray(colour, np.float32))


def _inside(distance: Plane, edge: float = 0.22) -> Plane:
    """Turn a signed distance (negative inside) into coverage 0 to 1, smooth over +-`edge`."""
    step: Plane = np.clip(0.5 - distance / (2.0 * edge), 0.0, 1.0)
    return step * step * (3.0 - 2.0 * step)


@dataclass(frozen=True)
class _Patch:
    """A piece of the smear: `x` and `y`, shape (H, W), in micrometres from what is drawn there."""

    x: Plane
    y: Plane
    scale: float  # supersampled pixels per micrometre
    rng: np.random.Generator

    def cloud(self, grain_um: float) -> Plane:
        """Return smooth noise of about unit spread, shape (H, W)."""
        (height, width), px = self.x.shape, max(1.0, grain_um * self.scale)
        grid = (int(height / px) + 3, int(width / px) + 3)
        grains = Image.fromarray(self.rng.standard_normal(grid, dtype=np.float32))
        box = (1.0, 1.0, 1.0 + width / px, 1.0 + height / px)
        smooth = grains.resize((width, height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(smooth, dtype=np.float32) * np.float32(1.3)

    def moved(self, x: float | Plane, y: float | Plane) -> "_Patch":
        """Return the same pixels as seen from (x, y)."""
        return replace(self, x=self.x - np.float32(x), y=self.y - np.float32(y))

    def ellipse(self, half: tuple[float, float], angle: float) -> Plane:
        """Return the signed distance (about) to an ellipse at the origin, long axis at `angle`."""
        cos, sin = math.cos(angle), math.sin(angle)
        along, across = self.x * cos + self.y * sin, self.y * cos - self.x * sin
        reach: Plane = np.hypot(along / half[0], across / half[1])
        return (reach - 1.0) * min(half)

    def granules(self, pitch: float, share: float = 1.0) -> Plane:
        """Return round bumps, 0 to 1, at a `share` of the points of a grid of `pitch` um."""
        x, y = self.x / pitch, self.y / pitch
        column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
        table, bumps = self.rng.random((4, 32, 32), dtype=np.float32), np.zeros_like(x)
        table[2] = np.where(self.rng.random((32, 32)) < share, 0.38 + 0.24 * table[2], -1.0)
        for step in range(9 if share else 0):
            i, j = column + (step % 3 - 1), row + (step // 3 - 1)
            slip_x, slip_y, size, strength = table[:, j % 32, i % 32]
            away: Plane = np.hypot(i + slip_x - x, j + slip_y - y, dtype=np.float32)
            bumps = np.maximum(bumps, (0.5 + 0.5 * strength) * _inside(away - size, 0.3))
        return bumps


def _nucleus(patch: _Patch, kind: _Kind, radius: float) -> Plane:
    """Return the signed distance to the nucleus, a chain of bridged lobes around the centre."""
    rng, count = patch.rng, int(patch.rng.choice(kind.lobes))
    angles = rng.uniform(0.0, 2 * math.pi) + np.linspace(0.0, rng.uniform(*kind.sweep), count)
    orbits, size = radius * rng.uniform(*kind.orbit, count), radius * rng.uniform(*kind.size)
    spots = np.stack([orbits * np.cos(angles), orbits * np.sin(angles)], axis=1)
    chain, size = np.full_like(patch.x, 99.0), size / count**0.5
    for number, spot in enumerate(spots):
        stretch = rng.uniform(1.0, kind.stretch)
        half = (size * stretch, size * rng.uniform(0.9, 1.1) / stretch**0.4)
        turn = angles[number] + math.pi / 2 + rng.normal(0.0, 0.35)
        chain = np.minimum(chain, patch.moved(*spot).ellipse(half, turn))
        if number:
            (dx, dy), middle = spot - spots[number - 1], (spot + spots[number - 1]) / 2
            half = (0.6 * math.hypot(dx, dy), size * kind.neck * rng.uniform(0.8, 1.1))
            link = patch.moved(*middle).ellipse(half, math.atan2(dy, dx))
            chain = np.minimum(chain, link)
    return chain


def _chromatin(patch: _Patch, streaks: float) -> Plane:
    """Return the texture of a nucleus, about -2 to 2: clumps, and a share of `streaks`."""
    clumps = patch.cloud(0.9) + 0.6 * patch.cloud(0.45)
    across = cmath.rect(4.2, patch.rng.uniform(0.0, math.pi))  # a streak every 1.5 um
    waves: Plane = np.sin(patch.x * across.real + patch.y * across.imag + 2.6 * patch.cloud(1.8))
    return (1.0 - 0.5 * streaks) * clumps + streaks * waves


def _white_cell(patch: _Patch, kind: _Kind, radius: float, stain: Stain) -> tuple[Plane, Plane]:
    """Return one white cell's coverage, shape (H, W), and optical density, shape (H, W, 3)."""
    rng, squash = patch.rng, patch.rng.uniform(0.9, 1.0)
    outline = patch.ellipse((radius, radius * squash), rng.uniform(0.0, math.pi))
    outline = outline + kind.wobble_um * patch.cloud(3.2)
    swayed = patch.moved(*(0.035 * radius * patch.cloud(3.0) for _ in range(2)))
    core = _inside(_nucleus(swayed, kind, radius * squash)) * _inside(outline + 0.3)
    rim = 1.0 + 0.12 * patch.cloud(1.3) + 0.35 * _inside(np.abs(outline + 0.2), 0.45)
    coarse = 0.25 * kind.coarse + 0.8 * patch.granules(rng.uniform(0.75, 0.95), kind.coarse)[..., None]
    body = _absorb(getattr(stain, kind.ground)) * rim[..., None] + _absorb(stain.orange) * coarse
    fine = kind.fine * np.clip(patch.cloud(0.3) + 0.3, 0.0, 2.0)
    deep = kind.density * (1.0 + 0.17 * _chromatin(patch, kind.streaks))
    body = body * (1.0 - 0.6 * core)[..., None]
    dense: Plane = body + _absorb(stain.violet) * (fine + (deep - fine) * core)[..., None]
    clear: Plane = rng.normal(1.0, 0.07) * (1.0 - 0.75 * patch.granules(1.2, kind.bubbles))
    return _inside(outline), dense * clear[..., None]


def _red_cell(patch: _Patch, radius: float, pallor: float) -> Plane:
    """Return the thickness of one red cell, shape (H, W): 1 near the rim, less at the centre."""
    rng = patch.rng
    half = (radius * rng.uniform(1.0, 1.14), radius * rng.uniform(0.84, 1.0))
    edge = patch.ellipse(half, rng.uniform(0.0, math.pi)) + 0.18 * patch.cloud(3.5)
    centre = patch.moved(rng.normal(0.0, 0.25), rng.normal(0.0, 0.25))
    width = radius * rng.uniform(0.36, 0.58)
    hollow: Plane = np.exp(-(((centre.x**2 + centre.y**2) / width**2) ** 1.6))
    depth = min(0.92, max(0.0, pallor + rng.normal(0.0, 0.17)))
    thick: Plane = _inside(edge) * (0.88 + 0.24 * _inside(np.abs(edge + 0.5), 0.9)) * (1.0 - depth * hollow)
    return thick * rng.normal(1.0, 0.1)


@dataclass(frozen=True)
class _Smear:
    """The field of view as optical density, shape (H, W, 3), on the supersampled grid."""

    density: Plane
    stain: Stain
    rng: np.random.Generator
    scale: float  # supersampled pixels per micrometre

    def window(self, x: float, y: float, reach: float) -> tuple[Plane, _Patch]:
        """Return the density within `reach` um of (x, y), as a view, and the patch it is."""
        high, wide, _ = (side / self.scale for side in self.density.shape)
        left, right = (round(min(max(x + d, 0), wide) * self.scale) for d in (-reach, reach))
        top, bottom = (round(min(max(y + d, 0), high) * self.scale) for d in (-reach, reach))
        columns = (np.arange(left, right) + 0.5) / self.scale - x
        rows = (np.arange(top, bottom) + 0.5) / self.scale - y
        across, down = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        return self.density[top:bottom, left:right], _Patch(across, down, self.scale, self.rng)

    def scatter(self, wide: float, high: float, avoid: tuple[float, float, float]) -> None:
        """Strew red cells over `wide` x `high` um, beside a white one (x, y, r), and platelets."""
        rng, placed, near = self.rng, [avoid[:2]], self.rng.uniform(3.6, 7.0)
        for _ in range(rng.poisson(self.stain.crowding * (wide + 6) * (high + 6) / 1000)):
            x, y, radius = rng.uniform(-3.0, wide + 3.0), rng.uniform(-3.0, high + 3.0), rng.normal(3.7, 0.22)
            gaps = [math.hypot(x - a, y - b) for a, b in placed]
            if gaps[0] > avoid[2] + 0.75 * radius and min(gaps) > near:
                placed.append((x, y))
                view, patch = self.window(x, y, radius * 1.35)
                thick = _red_cell(patch, radius, self.stain.pallor)
                view += thick[..., None] * _absorb(self.stain.red_cell)
        for _ in range(rng.poisson(1.5)):
            view, patch = self.window(rng.uniform(0, wide), rng.uniform(0, high), 3.0)
            radius = rng.uniform(0.9, 1.5)
            blob = patch.ellipse((radius, radius * rng.uniform(0.7, 1.0)), rng.uniform(0, math.pi))
            thick = _inside(blob + 0.12 * patch.cloud(1.2), 0.6) * (0.32 + 0.07 * patch.cloud(0.6))
            view += thick[..., None] * _absorb(self.stain.violet)

    def photograph(self) -> Image.Image:
        """Return the field through lamp, lens and sensor, RGB, at the final size."""
        rng, (height, width, _) = self.rng, self.density.shape
        x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
        (tilt_x, tilt_y), fall = rng.normal(0.0, 0.025, 2), rng.uniform(0.0, 0.07)
        lamp = (255.0 + 255.0 * (tilt_x * x + tilt_y * y - fall * (x * x + y * y)))[..., None]
        light = np.exp(-self.density) * (lamp * np.asarray(self.stain.plasma)).astype(np.float32)
        scene = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
        blur = self.stain.blur_um * rng.uniform(0.8, 1.35) * self.scale
        small = scene.filter(ImageFilter.GaussianBlur(blur)).reduce(_SUPERSAMPLE)
        crisp = np.asarray(small.filter(ImageFilter.UnsharpMask(2, percent=45, threshold=0)))
        grey, tints = rng.standard_normal(crisp.shape[:2]), rng.standard_normal(crisp.shape)
        noisy = crisp + self.stain.noise * (0.8 * grey[..., None] + 0.6 * tints)
        return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))


def draw_cell(label: str, *, stain: Stain, rng: np.random.Generator, width_px: int = 160, height_px: int = 120) -> Image.Image:
    """Return one RGB picture, `width_px` x `height_px`, of a white cell of kind `label`."""
    width, height = width_px * _SUPERSAMPLE, height_px * _SUPERSAMPLE
    scale = max(width / _FRAME_UM[0], height / _FRAME_UM[1])
    smear = _Smear(np.zeros((height, width, 3), np.float32), stain, rng, scale)
    wide, high, radius = width / scale, height / scale, rng.uniform(*_KINDS[label].radius_um)
    x, y = wide * rng.uniform(0.36, 0.64), high * rng.uniform(0.36, 0.64)
    smear.scatter(wide, high, (x, y, radius))
    view, patch = smear.window(x, y, radius * 1.12 + 1.5)
    body, dense = _white_cell(patch, _KINDS[label], radius, stain)
    view += body[..., None] * (dense - view)
    return smear.photograph()


def write_sample(
    folder: Path,
    *,
    train_per_label: int = 64,
    test_per_label: int = 24,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
) -> None:
    """Write the sample as `folder`/TRAIN|TEST/LABEL/slideSS_NNNN.jpeg, the same for one `seed`.

    TRAIN and TEST share no slide. `on_image(done, total)` is called after every picture.
    """
    counts = {"TRAIN": train_per_label, "TEST": test_per_label}
    jobs = [
        (folder / split / label, slides[number % len(slides)], index, number)
        for split, slides in SLIDES.items()
        for index, label in enumerate(LABELS)
        for number in range(counts[split])
    ]
    for done, (target, slide, index, number) in enumerate(jobs, start=1):
        rng = np.random.default_rng([seed, slide, index, number])
        picture = draw_cell(LABELS[index], stain=stain_of_slide(slide, seed=seed), rng=rng)
        target.mkdir(parents=True, exist_ok=True)
        picture.save(target / f"slide{slide:02d}_{number:04d}.jpeg", quality=92, subsampling=0)
        if on_image is not None:
            on_image(done, len(jobs))
