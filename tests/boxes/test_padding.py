"""Radiographs that are padded to a square: boxes and masks of the file, and of the square."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes.geometry import as_boxes
from lungbox.boxes.padding import boxes_of_file, into_square, mask_of_file, place_in_square
from lungbox.radiograph import equalise, prepare, resize_area

edges = st.integers(40, 3000)


@given(edges, edges, st.sampled_from([64, 128, 256]))
def test_the_file_is_centred_with_its_aspect_ratio(width, height, side):
    left, top, inner_width, inner_height = place_in_square((width, height), side)
    assert max(inner_width, inner_height) == side
    assert abs(inner_width / side - width / max(width, height)) <= 0.5 / side + 1e-9
    assert abs(inner_height / side - height / max(width, height)) <= 0.5 / side + 1e-9
    for start, length in ((left, inner_width), (top, inner_height)):
        assert start >= 0
        assert 0 <= side - start - length - start <= 1


@given(edges, edges)
def test_boxes_there_and_back(width, height):
    corners = np.array([(0, 0, width, height), (3, 7, width / 2, height / 3)], np.float32)
    square = into_square(corners, (width, height), 256)
    left, top, inner_width, inner_height = place_in_square((width, height), 256)
    assert square[0] == pytest.approx((left, top, left + inner_width, top + inner_height), abs=1e-3)
    back = boxes_of_file(square / 256, (width, height), 256) * (width, height, width, height)
    assert back == pytest.approx(corners, abs=0.01 + max(width, height) * 1e-5)


def test_boxes_in_the_margin_are_clipped():
    found = boxes_of_file(np.array([[0, 0, 0.3, 0.5], [0, 0, 0.05, 1]], np.float32), (100, 200), 64)
    assert found[0] == pytest.approx((0, 0, 0.1, 0.5), abs=1e-6)
    assert found[1, 0] == found[1, 2] == 0


@pytest.mark.parametrize("size", [(100, 200), (300, 210), (80, 80)])
def test_the_mask_of_the_file_is_the_squashed_one(size):
    """Of an ellipse that was drawn in the file, resized either way."""
    width, height = size
    drawn = np.zeros((height, width), np.uint8)
    cv2.ellipse(drawn, (width // 3, height // 2), (width // 5, height // 4), 20, 0, 360, 255, -1)
    left, top, inner_width, inner_height = place_in_square(size, 128)
    square = np.zeros((128, 128), np.uint8)
    square[top : top + inner_height, left : left + inner_width] = resize_area(
        drawn, inner_height, inner_width
    )
    opacity = resize_area(square, 64, 64).astype(np.float32) / 255
    found = mask_of_file(np.stack([1 - opacity, opacity], axis=-1), size, 128)
    expected = resize_area(drawn, 64, 64).astype(np.float32) / 255
    assert found.shape == (64, 64, 2)
    assert np.abs(found[..., 1] - expected).mean() < 0.01
    assert found.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    moments = [cv2.moments(one) for one in (found[..., 1], expected)]
    for name in ("m10", "m01"):
        first, second = (one[name] / one["m00"] for one in moments)
        assert first == pytest.approx(second, abs=0.15)


def test_a_square_file_is_as_it_was():
    mask = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    assert mask_of_file(mask, (500, 500), 64) == pytest.approx(mask, abs=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90)).astype(np.uint8)
    assert np.array_equal(prepare(pixels, 32, "padded"), prepare(pixels, 32))


def test_the_margin_repeats_the_edge():
    pixels = np.tile(np.arange(40, 140, dtype=np.uint8), (200, 1))
    found = prepare(pixels, 64, "padded")
    resized = resize_area(pixels, 64, 32)
    expected = np.pad(resized, ((0, 0), (16, 16)), mode="edge")
    assert np.array_equal(found, equalise(expected))
    assert as_boxes([]).shape == into_square(as_boxes([]), (100, 200), 64).shape
