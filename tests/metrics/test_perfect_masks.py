"""What the way from a mask to boxes costs on RSNA's real labels, were the masks perfect."""

import numpy as np
import pytest

from lungbox.boxes import OperatingPoint, RawPrediction, decide
from lungbox.constants import REFERENCE_MIN_BOX_AREA, RSNA_SIZE
from lungbox.evaluation.labels import read_labels
from lungbox.metrics import rsna_image_scores, rsna_score
from lungbox.training.targets import rasterize

SIDE = 128
SIZE = (RSNA_SIZE, RSNA_SIZE)


def perfect(boxes, min_area):
    """Boxes painted with their edges rounded to pixels of the mask, and found again."""
    pixel = RSNA_SIZE / SIDE
    opacity = rasterize(np.round(boxes / pixel) * pixel, SIZE, SIDE).astype(np.float32) / 255
    point = OperatingPoint("argmax", min_area=min_area, shrink=0)
    mask = np.stack([1 - opacity, opacity], axis=-1)
    return decide(RawPrediction(1.0, mask), SIZE, point)[:2]


@pytest.mark.real
@pytest.mark.parametrize(
    ("min_area", "expected", "tolerance"),
    [(0, 0.9965, 0.001), (REFERENCE_MIN_BOX_AREA / RSNA_SIZE**2, 0.853, 0.003)],
)
def test_perfect_masks_score(shared, min_area, expected, tolerance):
    truth = read_labels(shared / "rsna/stage_2_train_labels.csv").boxes
    found, scores = zip(*(perfect(boxes, min_area) for boxes in truth), strict=True)
    assert sum(len(boxes) > 0 for boxes in truth) == 914
    assert rsna_score(rsna_image_scores(truth, found, scores)) == pytest.approx(
        expected, abs=tolerance
    )
