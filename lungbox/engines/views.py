"""Test-time augmentation: several views of each radiograph are predicted and averaged."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.engines.base import BatchPrediction, Engine
from lungbox.radiograph import equalise
from lungbox.radiograph.prepare import EQUALISING, Preparation
from lungbox.weights.views import View, all_views


def predict_with_tta(engine: Engine, images: NDArray[np.uint8]) -> BatchPrediction:
    """Predict a batch, and again in each view of the config's `flip` and `views`.

    Image scores and classes are averaged, and so are masks, mapped back; where a magnified view
    does not show a pixel, it has no part in that pixel's mean. Boxes of each view, mapped back, are
    voters of the fusion, each view with its share of the weight.

    Args:
        engine: a started engine.
        images: `(N, S, S)` uint8 prepared, N at most the batch size.
    """
    config = engine.config
    views = all_views(config.flip, config.views)
    if len(views) == 1:
        return engine.predict(images)
    found = [engine.predict(show(images, view, config.preparation)) for view in views]
    return BatchPrediction(
        masks=_mean_of_maps([one.masks for one in found], views),
        scores=_mean([one.scores for one in found]),
        members=_mean_of_maps([one.members for one in found], views),
        detections=tuple(
            (_boxes_back(boxes, view), scores, weight / len(views))
            for one, view in zip(found, views, strict=True)
            for boxes, scores, weight in one.detections
        ),
        classes=_mean_if_any([one.classes for one in found]),
        mask_weight=found[0].mask_weight,
    )


def show(
    images: NDArray[np.uint8], view: View, preparation: Preparation = "equalised"
) -> NDArray[np.uint8]:
    """A view of prepared radiographs `(N, S, S)` uint8.

    As in training's augmentation, the histogram is equalised again after the zoom where the
    preparation does so, and gray levels are inverted after that.
    """
    if view.flip:
        images = images[:, :, ::-1]
    if view.zoom != 1:
        images = _zoomed(images, view.zoom)
        if preparation in EQUALISING:
            images = np.stack([equalise(image) for image in images])
    if view.invert:
        images = 255 - images
    return np.ascontiguousarray(images)


def _zoomed(maps: NDArray, factor: float) -> NDArray:
    """`(N, h, w)` maps, magnified about their centre and linear between pixels; edges repeat."""
    _, height, width = maps.shape
    x, y = ((side - 1) / 2 * (1 - factor) for side in (width, height))
    matrix = np.array([[factor, 0, x], [0, factor, y]])
    size = (width, height)
    return np.stack(
        [cv2.warpAffine(one, matrix, size, borderMode=cv2.BORDER_REPLICATE) for one in maps]
    )


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(np.mean(np.stack(values), axis=0), np.float32)


def _mean_if_any(values: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _mean_of_maps(
    maps: Sequence[NDArray[np.float32] | None], views: Sequence[View]
) -> NDArray[np.float32] | None:
    """The mean of `(..., h, w, C)` maps of several views, mapped back."""
    parts, seen = [], []
    for one, view in zip(maps, views, strict=True):
        if one is None:
            return None
        back = one[..., ::-1, :] if view.flip else one
        seen.append(_seen(one.shape[-3], one.shape[-2], view.zoom))
        parts.append(seen[-1] * (_map_back(back, view.zoom) if view.zoom != 1 else back))
    return np.sum(parts, axis=0, dtype=np.float32) * (np.float32(1) / np.sum(seen, axis=0))


def _map_back(maps: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    """`(..., h, w, C)` maps of a zoomed view as maps of the radiograph."""
    planes = np.moveaxis(maps, -1, -3)
    back = _zoomed(planes.reshape(-1, *planes.shape[-2:]), 1 / zoom).reshape(planes.shape)
    return np.moveaxis(back, -3, -1)


def _seen(height: int, width: int, zoom: float) -> NDArray[np.float32]:
    """`(h, w, 1)`: 1 for the pixels of a map whose centres a view shows, else 0: all of them unless
    it is magnified."""
    rows, columns = (
        np.abs(np.arange(side) + 0.5 - side / 2) <= side / 2 / zoom for side in (height, width)
    )
    return (rows[:, None] & columns)[..., None].astype(np.float32)


def _boxes_back(boxes: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """`(..., 4)` boxes in 0-1 of a view as boxes of the radiograph, clipped to it."""
    if view.zoom != 1:
        boxes = np.clip(0.5 + (boxes - 0.5) / np.float32(view.zoom), 0, 1)
    if view.flip:
        x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
        boxes = np.stack([1 - x2, y1, 1 - x1, y2], axis=-1)
    return boxes
