import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellclf.runtime.buckets import BUCKETS, bucket_of, padded, parts


def drawn(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 2, 3, 3), dtype=np.uint8)


@given(count=st.integers(1, BUCKETS[-1]))
def test_a_bucket_holds_the_batch_and_is_less_than_half_empty(count: int) -> None:
    size = bucket_of(count)
    assert size in BUCKETS
    assert size / 2 < count <= size


@pytest.mark.parametrize("count", [0, -1, BUCKETS[-1] + 1])
def test_what_no_bucket_holds_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="bucket"):
        bucket_of(count)


@given(count=st.integers(0, 40), largest=st.integers(1, 20))
def test_parts_are_the_batch_in_order_and_none_is_too_large(count: int, largest: int) -> None:
    images = drawn(count)
    found = list(parts(images, largest))
    assert all(1 <= len(part) <= largest for part in found)
    assert b"".join(part.tobytes() for part in found) == images.tobytes()


@pytest.mark.parametrize(("count", "size"), [(1, 1), (3, 4), (5, 8)])
def test_padding_keeps_the_images_first_and_adds_black_ones(count: int, size: int) -> None:
    images = drawn(count)
    whole = padded(images, size)
    assert whole.shape == (size, 2, 3, 3)
    assert whole.flags.c_contiguous
    np.testing.assert_array_equal(whole[:count], images)
    assert not whole[count:].any()


def test_a_view_becomes_contiguous() -> None:
    images = drawn(4)[::2]
    assert padded(images, 2).flags.c_contiguous
    np.testing.assert_array_equal(padded(images, 2), images)
