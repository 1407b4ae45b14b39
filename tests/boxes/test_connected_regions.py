"""Regions are scikit-image's: the same, in the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label, regionprops

from lungbox.boxes import OperatingPoint, RawPrediction, find_candidates
from lungbox.boxes.regions import connected_regions

shapes = array_shapes(min_dims=2, max_dims=2, max_side=24)


@given(arrays(bool, shapes, elements=st.booleans()))
def test_boxes_pixels_and_order(binary):
    theirs = regionprops(label(binary, connectivity=2))
    ours = connected_regions(binary)
    assert [(r.top, r.left, r.bottom, r.right) for r in ours] == [r.bbox for r in theirs]
    assert [r.area_bbox for r in ours] == [r.area_bbox for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize("seed", range(20))
def test_confidences_of_smooth_masks(seed):
    random = np.random.default_rng(seed)
    opacity = random.random((64, 64), np.float32).cumsum(0).cumsum(1) % 1
    mask = np.stack([1 - opacity, opacity], axis=-1)
    found = find_candidates(RawPrediction(1.0, mask), OperatingPoint(threshold=0.6))
    theirs = regionprops(label(opacity >= 0.6, connectivity=2), intensity_image=opacity)
    assert len(theirs) > 10
    assert found.scores == pytest.approx([r.intensity_mean for r in theirs])
    assert found.areas == pytest.approx([r.area_bbox / 64**2 for r in theirs])


def test_nothing_painted():
    assert connected_regions(np.zeros((5, 7), bool)) == []
    assert connected_regions(np.zeros((5, 0), bool)) == []
