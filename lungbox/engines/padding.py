"""Predictions of radiographs that were padded to a square, as predictions of the files."""

from collections.abc import Sequence

import numpy as np

from lungbox.boxes.padding import Size, boxes_of_file, mask_of_file
from lungbox.engines.base import BatchPrediction, EngineConfig


def without_padding(
    predicted: BatchPrediction, sizes: Sequence[Size], config: EngineConfig
) -> BatchPrediction:
    """The prediction of a batch with masks and boxes of the files, as those of the other
    preparations are; itself where the preparation is another.

    Args:
        predicted: N images.
        sizes: N widths and heights of the files.
        config: the ensemble.
    """
    if config.preparation != "padded":
        return predicted
    side = config.image_size
    masks = predicted.masks
    if masks is not None:
        pairs = zip(masks, sizes, strict=True)
        masks = np.stack([mask_of_file(mask, size, side) for mask, size in pairs])
    members = predicted.members
    if members is not None:
        members = np.stack(
            [
                np.stack([mask_of_file(mask, size, side) for mask in of_image])
                for of_image, size in zip(members, sizes, strict=True)
            ]
        )
    detections = tuple(
        (
            np.stack([boxes_of_file(b, size, side) for b, size in zip(boxes, sizes, strict=True)]),
            scores,
            weight,
        )
        for boxes, scores, weight in predicted.detections
    )
    return predicted._replace(masks=masks, members=members, detections=detections)
