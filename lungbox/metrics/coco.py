"""COCO's average precision, computed by faster-coco-eval (the extra `coco`)."""

import contextlib
import io
from typing import Any

import numpy as np

from lungbox.errors import LungboxError
from lungbox.metrics.matching import BoxTable

# COCO's own names: average precision over IoU 0.5 to 0.95, at 0.5, at 0.75, of small, medium and
# large boxes; average recall with at most 1, 10, 100 boxes an image, and of the three sizes.
COCO_FIGURES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)


class CocoMissingError(LungboxError):
    """COCO's metric needs faster-coco-eval, which is not installed."""


def coco_average_precision(truth: BoxTable, predicted: BoxTable, images: int) -> dict[str, float]:
    """COCO's twelve figures, https://cocodataset.org/#detection-eval.

    Args:
        truth: all true boxes, in pixels; sizes are COCO's (small below 32 x 32, large above
            96 x 96).
        predicted: all predictions, same space; at most 100 an image count.
        images: number of images.

    Returns:
        The figures under COCO's names, 0-1; NaN where there is nothing to count.

    Raises:
        CocoMissingError: the extra is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise CocoMissingError(
            "COCO's metric needs faster-coco-eval, which is not installed; "
            "pip install 'lungbox[coco]'"
        ) from None
    if not len(truth):
        return dict.fromkeys(COCO_FIGURES, float("nan"))
    # Both print to standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO(_as_coco(truth, predicted, images))
        evaluation = COCOeval_faster(labelled, labelled.loadRes(_records(predicted)), "bbox")
        evaluation.run()
    values = [float(value) for value in evaluation.stats[: len(COCO_FIGURES)]]
    # -1 where there is nothing to count.
    return {
        name: value if value >= 0 else float("nan")
        for name, value in zip(COCO_FIGURES, values, strict=True)
    }


def _as_coco(truth: BoxTable, predicted: BoxTable, images: int) -> dict[str, Any]:
    annotations = [
        {**record, "id": number, "iscrowd": 0}
        for number, record in enumerate(_records(truth), start=1)
    ]
    classes = np.union1d(truth.classes, predicted.classes)
    return {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": int(number), "name": str(number)} for number in classes],
        "annotations": annotations,
    }


def _records(boxes: BoxTable) -> list[dict[str, Any]]:
    corners = boxes.boxes.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    return [
        {
            "image_id": int(image),
            "category_id": int(number),
            "bbox": [*corner, *side],
            "area": side[0] * side[1],
            "score": score,
        }
        for image, number, corner, side, score in zip(
            boxes.images,
            boxes.classes,
            corners[:, :2].tolist(),
            sides.tolist(),
            boxes.scores.tolist(),
            strict=True,
        )
    ]
