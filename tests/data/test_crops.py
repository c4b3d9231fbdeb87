import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cellclf import Classifier
from cellclf.artifact.export import export
from cellclf.card import read_model_file
from cellclf.data.crops import CROPS, WHOLE, View, view_of
from cellclf.data.decoding import decode, decode_seen
from cellclf.data.sample import draw_cell, stain_of_slide
from cellclf.errors import DecodeError, ModelFileError
from cellclf.runtime.classifier import Prediction
from cellclf.training.recipe import Recipe
from cellclf.training.train import train
from tests.conftest import Completed, small_recipe
from tests.data.making import encoded
from tests.model_files import resigned

PLASMA, RED_CELL, NUCLEUS, PLATELET = (236, 230, 226), (214, 170, 168), (104, 60, 160), (150, 110, 190)
CELL = View(64, 64, "cell")


def smear(*nuclei: tuple[int, int], size: tuple[int, int] = (320, 240), radius: int = 22) -> Image.Image:
    """Red cells, platelets, and white cells' nuclei with those middles (column, row)."""
    image = Image.new("RGB", size, PLASMA)
    draw = ImageDraw.Draw(image)
    draws = np.random.default_rng(0)
    for column, row in draws.integers(0, size, (40, 2)):
        draw.ellipse((column - 14, row - 14, column + 14, row + 14), fill=RED_CELL)
    for column, row in draws.integers(0, size, (6, 2)):
        draw.ellipse((column - 3, row - 3, column + 3, row + 3), fill=PLATELET)
    for column, row in nuclei:
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=NUCLEUS)
    return image


def middle(image: Image.Image, view: View = CELL) -> tuple[float, float]:
    left, top, right, bottom = view.box(image)
    return (left + right) / 2, (top + bottom) / 2


@given(column=st.integers(80, 240), row=st.integers(80, 160))
def test_the_cell_is_in_the_middle_of_what_is_seen(column: int, row: int) -> None:
    assert middle(smear((column, row))) == pytest.approx((column, row), abs=4)


@pytest.mark.parametrize("scale", [0.5, 2, 5])
def test_a_larger_photograph_of_the_same_field_shows_the_same_part(scale: float) -> None:
    image = smear((200, 90))
    scaled = image.resize((round(320 * scale), round(240 * scale)), Image.Resampling.BICUBIC)
    box, larger = CELL.box(image), CELL.box(scaled)
    assert np.array(larger) / scale == pytest.approx(np.array(box), abs=3)


def test_of_two_nuclei_the_larger_is_seen() -> None:
    image = smear((90, 120))
    ImageDraw.Draw(image).ellipse((235, 110, 255, 130), fill=NUCLEUS)
    assert middle(image) == pytest.approx((90, 120), abs=4)


@pytest.mark.parametrize("place", [(0, 0), (319, 0), (0, 239), (319, 239), (160, 2), (3, 120)])
def test_a_cell_at_the_edge_is_seen_from_inside_the_image(place: tuple[int, int]) -> None:
    left, top, right, bottom = CELL.box(smear(place, radius=30))
    assert 0 <= left < right <= 320
    assert 0 <= top < bottom <= 240
    assert right - left == bottom - top == SIDE_PX
    assert left - 12 <= place[0] <= right + 12
    assert top - 12 <= place[1] <= bottom + 12


SIDE_PX = CELL.box(smear((160, 120)))[2] - CELL.box(smear((160, 120)))[0]


def test_what_is_seen_is_cut_from_the_image_as_it_is() -> None:
    image = smear((160, 120))
    left, top, right, bottom = CELL.box(image)
    view = View(bottom - top, right - left, "cell")
    assert np.array_equal(decode(encoded(image, "PNG"), view), np.asarray(image)[top:bottom, left:right])


@pytest.mark.parametrize("crop", CROPS)
def test_the_part_that_is_told_is_the_part_that_is_decoded(crop: str) -> None:
    content = encoded(smear((230, 60)), "PNG")
    view = View(32, 32, crop)
    left, top, right, bottom = decode_seen(content, view)[1]
    with Image.open(io.BytesIO(content)) as image:
        part = image.crop((round(left * 320), round(top * 240), round(right * 320), round(bottom * 240)))
        expected = np.asarray(part.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    apart = np.abs(decode(content, view).astype(int) - expected)
    assert apart[1:-1, 1:-1].max() <= 1  # at the edge the resampling filter reaches beyond the part
    assert apart.max() < 16
    assert (decode_seen(content, view)[1] == WHOLE) == (crop == "none")


@pytest.mark.parametrize("exif", [1, 3, 6, 8])
def test_a_turned_photograph_is_upright_before_the_cell_is_looked_for(exif: int) -> None:
    upright = smear((230, 60))
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[exif]
    stored = upright if turn is None else upright.transpose(turn)
    tag = Image.Exif()
    tag[0x0112] = exif
    assert np.array_equal(decode(encoded(stored, "PNG", exif=tag), CELL), decode(encoded(upright, "PNG"), CELL))


@pytest.mark.parametrize("image", [smear(), Image.new("L", (320, 240), 90), Image.new("RGB", (320, 240), (90, 90, 90)), Image.new("RGB", (1, 1))])
def test_where_no_nucleus_is_there_is_no_answer(image: Image.Image) -> None:
    with pytest.raises(DecodeError, match="no stained nucleus in it"):
        decode(encoded(image, "PNG"), CELL)


@pytest.mark.parametrize("size", [(2000, 100), (100, 2000)])
def test_a_strip_is_no_field(size: tuple[int, int]) -> None:
    with pytest.raises(DecodeError, match=f"{size[0]} × {size[1]} is no field of a microscope"):
        decode(encoded(Image.new("RGB", size, NUCLEUS), "PNG"), CELL)


@given(pixels=st.binary(min_size=3 * 12, max_size=3 * 12), width=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_small_and_wild_images_have_a_part_inside_or_none(pixels: bytes, width: int) -> None:
    image = Image.frombytes("RGB", (width, 12 // width), pixels)
    try:
        left, top, right, bottom = CELL.box(image)
    except DecodeError:
        return
    assert 0 <= left < right <= image.width
    assert 0 <= top < bottom <= image.height


@pytest.mark.parametrize("label", ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"])
def test_the_drawn_cells_are_found(label: str) -> None:
    for seed in range(12):
        image = draw_cell(label, stain=stain_of_slide(seed, seed=0), rng=np.random.default_rng(seed))
        left, top, right, bottom = CELL.box(image)
        part = np.asarray(image).astype(int)[top:bottom, left:right]
        purple = (part[..., 2] - part[..., 1] > 40).mean()
        whole = np.asarray(image).astype(int)
        assert purple * part.shape[0] * part.shape[1] > 0.5 * (whole[..., 2] - whole[..., 1] > 40).sum()


def test_a_file_whose_crop_is_not_known_is_refused(model_file: Path, tmp_path: Path) -> None:
    unknown = resigned(model_file, tmp_path / "new.onnx", card={"resize": "cell-2-lanczos"})
    with pytest.raises(ModelFileError, match="wants images resized by 'cell-2-lanczos', which this version cannot do"):
        Classifier(unknown)


def test_a_recipe_of_the_whole_image_has_the_fingerprint_it_had_before_there_were_crops() -> None:
    shipped = read_model_file(Path(__file__).resolve().parents[2] / "exported" / "blood-cells-mobilenet025.onnx").card
    assert "crop" not in shipped.recipe
    recipe = Recipe.model_validate(shipped.recipe)
    assert recipe.fingerprint == shipped.recipe_fingerprint
    assert recipe.model_copy(update={"crop": "cell"}).fingerprint != shipped.recipe_fingerprint


def test_a_network_of_cells_is_trained_measured_and_asked_on_the_same_pixels(
    sample_folder: Path, tmp_path: Path, cli: Callable[..., Completed]
) -> None:
    run = train(small_recipe(crop="cell", epochs=1), tmp_path / "runs" / "cells")
    file = export(run, tmp_path / "cells.onnx").path
    assert view_of(read_model_file(file).card) == View(48, 48, "cell")
    assert "cell-46-bilinear-antialias" in cli("show", file).out

    said = run.predictions("test")
    records = list(Classifier(file).predict_many([sample_folder / path for path in said]))
    assert len(records) == len(said) > 0
    for record, expected in zip(records, said.values(), strict=True):
        assert isinstance(record, Prediction)
        assert list(record.probabilities.values()) == pytest.approx(expected, abs=1e-4)

    evaluated = cli("evaluate", file, "--json")
    assert evaluated.code == 0, evaluated.err
    assert f'"value": {run.metrics().test.accuracy.value}' in evaluated.out

    Image.new("L", (64, 64), 90).save(tmp_path / "xray.png")
    refused = cli("predict", tmp_path / "xray.png", "--model", file, "--json")
    assert refused.code == 3
    assert "no stained nucleus in it" in refused.out


def test_the_heat_map_lies_where_the_network_looked(model_file: Path, tmp_path: Path, cli: Callable[..., Completed]) -> None:
    cells = resigned(model_file, tmp_path / "cells.onnx", card={"resize": CROPS["cell"].resize})
    image = smear((230, 60))
    image.save(tmp_path / "smear.png")
    assert cli("predict", "smear.png", "--model", cells, "--explain", "seen.png").code == 0
    painted = np.asarray(Image.open(tmp_path / "seen.png")).astype(int)
    left, top, right, bottom = CELL.box(image)
    outside = np.ones(painted.shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    assert np.array_equal(painted[outside], np.asarray(image)[outside] // 2)
    assert painted[~outside][:, 0].mean() > 1.5 * (np.asarray(image)[~outside][:, 0] // 2).mean()


def test_data_that_have_no_cell_are_refused_with_the_reason(cli: Callable[..., Completed], tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "grey" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (32, 32), 30 * number).save(tmp_path / "grey" / label / f"{number}.png")
    for verb in (("train", "--weights", "none", "--data"), ("data", "show")):
        done = cli(*verb, "grey", "--crop", "cell")
        assert done.code == 1
        assert "no stained nucleus in it" in done.err
        assert "Traceback" not in done.err
    assert cli("train", "--data", "grey", "--crop", "cel").err.startswith("cellclf: unknown crop 'cel'")


def test_no_label_is_lost_unseen(cli: Callable[..., Completed], tmp_path: Path) -> None:
    for number in range(8):
        for label, image in (
            ("cell", smear((80 + 10 * number, 90))),
            ("other", smear((200, 80 + 5 * number))),
            ("grey", Image.new("L", (32, 32), number)),
        ):
            (tmp_path / "mixed" / label).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "mixed" / label / f"{number}.png")
    options = ("--crop", "cell", "--on-bad-image", "skip", "--weights", "none", "--image-size", "32", "--epochs", "1", "--backbone", "mobilenet025")
    lost = cli("train", "--data", "mixed", *options)
    assert lost.code == 1
    assert "no image of grey can be used, so no network can learn it" in lost.err

    smear((160, 100)).save(tmp_path / "mixed" / "cell" / "more.png")
    for label in ("cell", "other"):
        shutil.copytree(tmp_path / "mixed" / label, tmp_path / "two" / label)
    Image.new("L", (32, 32), 7).save(tmp_path / "two" / "other" / "grey.png")
    trained = cli("train", "--data", "two", *options, "--name", "two")
    assert trained.code == 0, trained.err
    assert "1 images were left out (recipe.json names them), the first: other/grey.png: no stained nucleus in it" in " ".join(trained.out.split())


@pytest.mark.parametrize("crop", [name for name in CROPS if name != "none"])
def test_the_reason_names_the_crop_that_was_asked_for(crop: str) -> None:
    with pytest.raises(DecodeError, match=rf"\(crop '{crop}'\)"):
        decode(encoded(Image.new("L", (64, 64), 90), "PNG"), View(32, 32, crop))


def test_looking_for_the_cell_takes_no_more_memory_than_decoding(tmp_path: Path) -> None:
    smear((3000, 2000), size=(8000, 6000), radius=500).save(tmp_path / "large.jpeg")
    code = f"""
import re
from pathlib import Path
from cellclf.data.crops import View
from cellclf.data.decoding import BYTES_A_PIXEL, decode_file
highest = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = highest()
decode_file(Path({str(tmp_path / "large.jpeg")!r}), View(64, 64, "cell"))
print((highest() - before) / (8000 * 6000) < BYTES_A_PIXEL)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
