"""Connected regions of a mask, as scikit-image's `label` and `regionprops` define them.

OpenCV finds them for Lungbox's own rule, for scikit-image takes half a second to import, a third of
what a single radiograph takes from start to end; a property test holds both against each other.
The reference system's rule is decided by scikit-image itself, which its authors used.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes
from lungbox.constants import REFERENCE_MIN_BOX_AREA, REFERENCE_SHRINK, RSNA_SIZE


@dataclass(frozen=True)
class Region:
    """One connected region.

    Attributes:
        left, top, right, bottom: its bounding box in pixels, the last two exclusive.
        image: `(bottom - top, right - left)`, which of the box's pixels belong to it.
    """

    left: int
    top: int
    right: int
    bottom: int
    image: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its bounding box, `x1, y1, x2, y2`."""
        return self.left, self.top, self.right, self.bottom

    @property
    def area_bbox(self) -> int:
        """Pixels of the bounding box."""
        return self.image.size

    @property
    def first_pixel(self) -> tuple[int, int]:
        """Row and column of its first pixel, row by row."""
        return self.top, self.left + int(self.image[0].argmax())

    def crop(self, values: NDArray) -> NDArray:
        """The part of an image inside the bounding box."""
        return values[self.top : self.bottom, self.left : self.right]


def connected_regions(binary: NDArray[np.bool_]) -> list[Region]:
    """The 8-connected regions of a `(h, w)` mask, ordered by their first pixel, row by row.

    >>> [region.box for region in connected_regions(np.eye(3, 4, dtype=bool))]
    [(0, 0, 3, 3)]
    """
    if not binary.any():
        return []
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        binary.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    regions = (_region(labels, number, stats[number]) for number in range(1, len(stats)))
    # OpenCV does not promise an order.
    return sorted(regions, key=lambda region: region.first_pixel)


def _region(labels: NDArray[np.int32], number: int, stats: NDArray[np.int32]) -> Region:
    left, top, width, height = (int(value) for value in stats[:4])
    inside = labels[top : top + height, left : left + width] == number
    return Region(left, top, left + width, top + height, inside)


def mean_probability(region: Region, probability: NDArray[np.floating]) -> float:
    """The mean of a `(h, w)` probability map over a region: its box's confidence, 0-1."""
    # The sum of many probabilities may round to more than 1.
    return min(1.0, max(0.0, float(region.crop(probability)[region.image].mean())))


def reference_boxes(binary: NDArray[np.bool_]) -> tuple[Boxes, NDArray[np.float32]]:
    """The reference system's boxes of a `(h, w)` mask, by its own arithmetic.

    The mask is enlarged to 1024 x 1024 (nearest neighbour); regions whose bounding box has at most
    25,000 pixels are dropped, boxes shrunk by `int(side * 0.05)` on each side, and a box's
    confidence is the share of mask pixels in it.

    Returns:
        `(N, 4)` boxes in pixels of the 1024 x 1024 map and `(N,)` confidences, in the order of
        `regionprops`.
    """
    from skimage.measure import label, regionprops

    rows, columns = (np.arange(RSNA_SIZE) * side // RSNA_SIZE for side in binary.shape)
    enlarged = binary[np.ix_(rows, columns)]
    boxes, scores = [], []
    for region in regionprops(label(enlarged, connectivity=2)):
        if region.area_bbox <= REFERENCE_MIN_BOX_AREA:
            continue
        top, left, bottom, right = region.bbox
        scores.append(enlarged[top:bottom, left:right].mean())
        across = int((right - left) * REFERENCE_SHRINK)
        down = int((bottom - top) * REFERENCE_SHRINK)
        boxes.append((left + across, top + down, right - across, bottom - down))
    return as_boxes(boxes), np.array(scores, np.float32)
