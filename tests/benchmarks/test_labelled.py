import numpy as np
import pytest

from benchmarks.conftest import MODEL
from benchmarks.labelled import measured_accuracy, official_test
from cellclf.card import read_model_file
from cellclf.data.datasets import DATASETS, locate

CARD = read_model_file(MODEL).card.model_copy(update={"data": "sample"})


def test_the_test_images_come_with_the_slides_they_were_taken_of_and_some_are_drawn_by_name() -> None:
    root = locate(DATASETS["sample"])
    images = official_test(CARD, limit=None)
    assert {path.relative_to(root).parts[0] for path in images.files} == {"TEST"}
    assert len(set(images.groups)) == 4
    assert [CARD.labels[number] for number in images.truth] == [path.parent.name for path in images.files]
    few = official_test(CARD, limit=5)
    assert few.files == images.files[:5]


def test_what_a_file_answers_has_an_interval_over_groups_and_a_difference_to_fp32() -> None:
    """Every third image is called wrongly; the fp32 file calls all rightly."""
    locate(DATASETS["sample"])
    images = official_test(CARD, limit=None)
    right = np.eye(len(CARD.labels), dtype=np.float32)[images.truth]
    wrong = right.copy()
    wrong[::3] = np.roll(wrong[::3], 1, axis=1)
    found = measured_accuracy(CARD, images, wrong, right)
    share = 1 - len(wrong[::3]) / len(wrong)
    assert (found.accuracy, found.same_labels_as_fp32, found.difference_to_fp32_points) == pytest.approx((share, share, 100 * (share - 1)))
    assert (found.images, found.groups) == (len(images.files), 4)
    assert found.balanced.low is not None and found.balanced.high is not None
    assert found.balanced.low <= found.balanced_accuracy <= found.balanced.high
    assert measured_accuracy(CARD, images, wrong, None).difference_to_fp32_points is None
