"""Mean average precision under any weights of the images, in numpy: PASCAL VOC 2010's, VinBigData's
metric, and COCO's.

Everingham et al., The PASCAL Visual Object Classes Challenge 2010 development kit, section 3.4;
Lin et al., Microsoft COCO, 2014, and https://cocodataset.org/#detection-eval.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import VINBIGDATA_IOU_THRESHOLD
from lungbox.metrics.matching import BoxTable, match_predictions

# COCO's thresholds of IoU, and the recalls at which it takes the precision.
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
_RECALLS = np.linspace(0, 1, 101)
# The predictions of an image and class that count.
_COCO_MOST = 100


@dataclass(frozen=True)
class _Matches(ABC):
    """Predictions matched with true boxes, for average precision under any weights of the images.

    Attributes:
        classes: `(C,)` classes with truth, ascending; others are left out.
        truths: of each class, `(n,)` the image of each true box.
        images: of each class, `(m,)` the image of each prediction, most confident first.
        hit: of each class, whether each prediction is a hit.
    """

    classes: NDArray[np.int64]
    truths: tuple[NDArray[np.int64], ...]
    images: tuple[NDArray[np.int64], ...]
    hit: tuple[NDArray[np.bool_], ...]

    @staticmethod
    @abstractmethod
    def of_class(
        by_image: NDArray[np.float64],
        truths: NDArray[np.int64],
        images: NDArray[np.int64],
        hit: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """`(R,)` average precision of one class; `by_image` is `(N, R)`, weights of the images."""

    def average_precisions(self, weights: NDArray[np.floating]) -> NDArray[np.float64]:
        """The average precision of each class.

        Args:
            weights: `(R, N)` of the images, in R resamples.

        Returns:
            `(R, C)` 0-1; NaN where no image that counts has truth of the class.
        """
        by_image = np.ascontiguousarray(np.asarray(weights, np.float64).T)
        values = np.full((by_image.shape[1], len(self.classes)), np.nan)
        for column, parts in enumerate(zip(self.truths, self.images, self.hit, strict=True)):
            values[:, column] = self.of_class(by_image, *parts)
        return values


class VocMatches(_Matches):
    """For VOC's AP, the area under precision and recall, interpolated at all points: precision at a
    recall is the largest at that recall or above. `hit` is `(m,)` of each class."""

    @classmethod
    def of(
        cls, truth: BoxTable, predicted: BoxTable, threshold: float = VINBIGDATA_IOU_THRESHOLD
    ) -> "VocMatches":
        """Match: a hit has IoU > threshold with the truth it overlaps most, if that is free.

        Args:
            truth: all true boxes.
            predicted: all predictions; ties keep their order.
            threshold: of IoU.
        """
        found = match_predictions(truth, predicted, [threshold], strict=True, only_free=False)[0]
        order = np.argsort(-predicted.scores, kind="stable")
        classes = np.unique(truth.classes)
        chosen = [order[predicted.classes[order] == number] for number in classes]
        return cls(
            classes=classes,
            truths=tuple(truth.images[truth.classes == number] for number in classes),
            images=tuple(predicted.images[rows] for rows in chosen),
            hit=tuple(found[rows] for rows in chosen),
        )

    @staticmethod
    def of_class(
        by_image: NDArray[np.float64],
        truths: NDArray[np.int64],
        images: NDArray[np.int64],
        hit: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        return _area(by_image, truths, images, hit)


class CocoMatches(_Matches):
    """For COCO's AP, the mean over IoU 0.5 to 0.95 and over recalls of 0, 0.01, ..., 1 of the
    largest precision at that recall or above, 0 where it is not reached.

    It equals the AP of `coco.coco_average_precision`, which is COCO's own code, but has values of
    each class and of resampled images. `hit` is `(T, m)` of each class, at each IoU.
    """

    @classmethod
    def of(cls, truth: BoxTable, predicted: BoxTable) -> "CocoMatches":
        """Match: a hit has IoU >= threshold with the truth it overlaps most among the free ones.

        Args:
            truth: all true boxes.
            predicted: all predictions, of which the 100 most confident of each image and class
                count; ties keep their order.
        """
        found = match_predictions(truth, predicted, COCO_IOUS)
        order = np.argsort(-predicted.scores, kind="stable")
        classes = np.unique(truth.classes)
        chosen = [
            _first_of_each_image(order[predicted.classes[order] == number], predicted.images)
            for number in classes
        ]
        return cls(
            classes=classes,
            truths=tuple(truth.images[truth.classes == number] for number in classes),
            images=tuple(predicted.images[rows] for rows in chosen),
            hit=tuple(found[:, rows] for rows in chosen),
        )

    @staticmethod
    def of_class(
        by_image: NDArray[np.float64],
        truths: NDArray[np.int64],
        images: NDArray[np.int64],
        hit: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        return _mean_precision(by_image, truths, images, hit)


def mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(R, C)` average precisions to their `(R,)` mean; a class that is NaN is left out."""
    counted = ~np.isnan(values)
    count = counted.sum(axis=1)
    total = np.where(counted, values, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def voc_map(
    truth: BoxTable,
    predicted: BoxTable,
    images: int,
    threshold: float = VINBIGDATA_IOU_THRESHOLD,
) -> float:
    """Mean average precision over the classes that have truth.

    Args:
        truth: all true boxes.
        predicted: all predictions.
        images: their number.
        threshold: a hit has a larger IoU.

    Returns:
        0-1; NaN where there is no truth at all.
    """
    matches = VocMatches.of(truth, predicted, threshold)
    return float(mean_over_classes(matches.average_precisions(np.ones((1, images))))[0])


def _area(
    by_image: NDArray[np.float64],
    truths: NDArray[np.int64],
    images: NDArray[np.int64],
    hit: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """`(R,)` average precision of one class; `by_image` is `(N, R)`.

    Only hits raise recall, and no precision between two hits is above that at the next one, so
    precision is needed at hits alone.
    """
    seen = np.cumsum(by_image[images], axis=0)[hit]
    gained = by_image[images[hit]]
    precision = np.divide(np.cumsum(gained, axis=0), seen, out=np.zeros_like(seen), where=seen > 0)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    total = by_image[truths].sum(axis=0)
    area = (gained * envelope).sum(axis=0)
    return np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0)


def _first_of_each_image(rows: NDArray[np.int64], images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of rows in descending confidence, the first 100 of each image."""
    by_image = np.argsort(images[rows], kind="stable")
    sorted_images = images[rows][by_image]
    rank = np.arange(len(rows)) - np.searchsorted(sorted_images, sorted_images)
    return rows[np.sort(by_image[rank < _COCO_MOST])]


def _mean_precision(
    by_image: NDArray[np.float64],
    truths: NDArray[np.int64],
    images: NDArray[np.int64],
    hit: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """`(R,)` COCO's average precision of one class; `by_image` is `(N, R)`, `hit` `(T, m)`.

    As in `_area`, precision and recall are needed at hits alone.
    """
    gained_at = by_image[images]
    seen_at = np.cumsum(gained_at, axis=0)
    total = by_image[truths].sum(axis=0)
    sums = np.zeros(by_image.shape[1])
    for hits in hit:
        gained, seen = gained_at[hits], seen_at[hits]
        true = np.cumsum(gained, axis=0)
        precision = np.divide(true, seen, out=np.zeros_like(seen), where=seen > 0)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        # One row more, for recalls that are not reached.
        envelope = np.concatenate([envelope, np.zeros((1, len(total)))])
        recall = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
        for column in range(len(total)):
            first = np.searchsorted(recall[:, column], _RECALLS)
            sums[column] += envelope[first, column].mean()
    return np.where(total > 0, sums / len(hit), np.nan)
