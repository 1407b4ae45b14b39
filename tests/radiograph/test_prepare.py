"""Preparation: against Pillow, on phantoms, and on pairs of real radiographs of two sizes."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from lungbox.radiograph import equalise, prepare, read, resize_area

GRAY = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(GRAY)
def test_equalise_is_pillows(pixels):
    expected = np.asarray(ImageOps.equalize(Image.fromarray(pixels)))
    assert np.array_equal(equalise(pixels), expected)


@given(GRAY)
def test_equalise_keeps_the_order_of_gray_levels(pixels):
    levels = np.unique(pixels)
    table = {level: set(equalise(pixels)[pixels == level]) for level in levels}
    assert all(len(results) == 1 for results in table.values())
    results = [results.pop() for results in table.values()]
    assert results == sorted(results)


@given(GRAY, st.integers(1, 50), st.integers(1, 50))
def test_resizing_gives_the_size_and_stays_in_range(pixels, height, width):
    resized = resize_area(pixels, height, width)
    assert resized.shape == (height, width)
    assert pixels.min() <= resized.min() <= resized.max() <= pixels.max()


@pytest.mark.parametrize("shape", [(1024, 1024), (512, 768)])
def test_shrinking_is_pillows_box_filter(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((256, 256), Image.Resampling.BOX))
    # Both average whole pixels; they round halves differently.
    assert np.abs(resize_area(pixels, 256, 256).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((300, 1024), (256, 256)),
        ((257, 300), (256, 256)),
        ((1000, 1001), (256, 256)),
        ((2544, 3056), (256, 256)),
        ((97, 61), (40, 23)),
        ((64, 65), (64, 64)),
        ((3, 7), (2, 5)),
        ((5, 9), (1, 1)),
    ],
)
def test_pixels_that_lie_in_two_areas_count_in_each_by_their_share(shape, size):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    rows, columns = (coverage(old, new) for old, new in zip(shape, size, strict=True))
    exact = rows @ pixels @ columns.T
    # Half a level is the rounding.
    assert np.abs(resize_area(pixels, *size) - exact).max() <= 0.51


@pytest.mark.parametrize(("shape", "size"), [((700, 40), (256, 64)), ((30, 1001), (64, 256))])
def test_the_axis_that_shrinks_is_averaged_exactly_beside_one_that_grows(shape, size):
    """Whatever is alike along the growing axis stays alike, and is the average of areas."""
    old, new = max(shape), max(size)
    line = np.random.default_rng(0).integers(0, 256, old).astype(np.uint8)
    along = shape.index(old)
    pixels = np.broadcast_to(np.expand_dims(line, 1 - along), shape).copy()
    expected = np.expand_dims(coverage(old, new) @ line, 1 - along)
    assert np.abs(resize_area(pixels, *size) - expected).max() <= 0.51


def test_area_averages_are_exact():
    pixels = np.random.default_rng(1).integers(0, 256, (90, 50)).astype(np.uint8)
    blocks = pixels.reshape(30, 3, 25, 2).mean(axis=(1, 3))
    assert np.abs(resize_area(pixels, 30, 25) - blocks).max() <= 0.5 + 1e-6


def test_shrinking_one_axis_and_growing_the_other_does_not_alias():
    stripes = np.tile(np.array([0, 255], np.uint8), (16, 200))
    assert np.ptp(resize_area(stripes, 64, 100)) <= 1


def test_prepare_does_not_care_for_contrast():
    pixels = np.random.default_rng(2).integers(0, 200, (64, 64)).astype(np.uint8)
    darker = (pixels // 2 + 20).astype(np.uint8) * 2
    assert np.abs(prepare(pixels // 2 * 2, 64).astype(int) - prepare(darker, 64)).max() <= 1


@pytest.mark.parametrize(
    ("shape", "side"), [((1024, 1024), 128), ((300, 1001), 128), ((129, 256), 128), ((50, 97), 64)]
)
def test_nearest_takes_the_pixels_the_reference_takes(shape, side):
    """Row i of OpenCV's INTER_NEAREST is the source's row floor(i * H / side), here by hand."""
    pixels = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    rows, columns = ([i * old // side for i in range(side)] for old in shape)
    expected = pixels[rows][:, columns]
    assert np.array_equal(prepare(pixels, side, "nearest"), expected)
    # Pillow takes the pixel at each centre, which is another one.
    centres = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
    assert not np.array_equal(np.asarray(centres), expected)


def coverage(old: int, new: int) -> np.ndarray:
    """`(new, old)`: the share each of `old` pixels has in each of `new` areas of equal length."""
    edges = np.arange(new + 1) * old / new
    left = np.arange(old)
    overlap = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    shares = np.clip(overlap, 0, None) * new / old
    assert np.allclose(shares.sum(axis=1), 1)
    return shares


@pytest.mark.real
def test_full_resolution_and_published_copies_prepare_alike(shared):
    """24 radiographs at 1024 px and what a challenge made of them at 256 px, by other tools."""
    with (shared / "nih1024/images.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 24
    differences = []
    for pair in pairs:
        full = prepare(read(shared / "nih1024" / pair["nih_image"]).pixels, 256)
        copy = prepare(read(shared / f"rsna/images/{pair['patientId']}.jpg").pixels, 256)
        differences.append(np.abs(full.astype(int) - copy).mean())
    assert np.median(differences) < 4
    assert max(differences) < 12
