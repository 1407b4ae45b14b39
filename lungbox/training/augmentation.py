"""Augmentation of training radiographs, with albumentations."""

import os
import random
import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes
from lungbox.radiograph import equalise
from lungbox.radiograph.prepare import Preparation
from lungbox.training.sections import Augmentation

# Read when albumentations is imported, which would otherwise check for updates over the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A


class Augmenter:
    """Augments image, mask and boxes together; the same seed gives the same result, on any thread.

    Args:
        settings: the recipe's section.
        preparation: of the radiographs; their histogram is equalised again where it was before.

    Example:
        >>> augment = Augmenter(Augmentation())
        >>> image, mask = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
        >>> image, mask, boxes = augment(image, mask, as_boxes([(3, 4, 20, 30)]), seed=1)
        >>> image.shape, boxes.shape
        ((64, 64), (1, 4))
    """

    def __init__(self, settings: Augmentation, preparation: Preparation = "equalised") -> None:
        self._settings, self._preparation = settings, preparation
        # A composition has the state of its last call, so each thread has its own.
        self._local = threading.local()

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], boxes: Boxes, seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Boxes]:
        """Augment an image with its labels.

        Args:
            image: `(S, S)` prepared radiograph.
            mask: `(S, S)` 0-255.
            boxes: `(N, 4)` in pixels of both.
            seed: decides the augmentation.

        Returns:
            The same three. A rotated box becomes its bounding box, clipped to the image; a box
            outside the image is dropped.
        """
        if not self._settings.enabled:
            return image, mask, boxes
        if not hasattr(self._local, "compose"):
            self._local.compose = _compose(self._settings, self._preparation)
        self._local.compose.set_random_seed(seed)
        result = self._local.compose(image=image[..., None], mask=mask, bboxes=boxes)
        return result["image"][..., 0], result["mask"], as_boxes(result["bboxes"])


class _Equalise(A.ImageOnlyTransform):
    """The last step of `radiograph.prepare`, repeated after the histogram has changed."""

    def apply(self, img: NDArray[np.uint8], **_: Any) -> NDArray[np.uint8]:
        return equalise(img[..., 0])[..., None]


class _EraseCorner(A.ImageOnlyTransform):
    """Fills one corner, where side markers and the word PORTABLE are, with one gray level.

    They tell the hospital and whether the patient could stand, and both correlate with the label;
    the lungs do not extend there.
    """

    def get_params(self) -> dict[str, Any]:
        chance: random.Random = self.py_random
        return {
            "right": chance.random() < 0.5,
            "bottom": chance.random() < 0.3,
            "width": chance.uniform(0.08, 0.3),
            "height": chance.uniform(0.08, 0.25),
            "gray": chance.randrange(256),
        }

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        side = img.shape[0]
        width, height = round(params["width"] * side), round(params["height"] * side)
        rows = slice(side - height, side) if params["bottom"] else slice(0, height)
        columns = slice(side - width, side) if params["right"] else slice(0, width)
        erased = img.copy()
        erased[rows, columns] = params["gray"]
        return erased


def _compose(settings: Augmentation, preparation: Preparation) -> A.Compose:
    turn, shift, zoom = settings.rotate, settings.shift, settings.scale
    low, high = settings.gamma
    return A.Compose(
        [
            A.HorizontalFlip(p=settings.flip),
            A.Affine(
                rotate=(-turn, turn),
                scale=zoom,
                translate_percent=(-shift, shift),
                shear=(-settings.shear, settings.shear),
                # Not black: in equalisation a black margin takes gray levels from the lungs.
                border_mode=cv2.BORDER_REPLICATE,
                p=0.9,
            ),
            _EraseCorner(p=settings.erase_corner),
            # Both before equalisation, after which only gamma's rounding remains, as in a file
            # with a poor window; local contrast survives.
            A.RandomGamma(gamma_limit=(100 * low, 100 * high), p=0.5),
            A.CLAHE(clip_limit=(1, 3), p=settings.clahe),
            _Equalise(p=1 if preparation == "equalised" else 0),
            A.GaussianBlur(blur_limit=(3, 5), p=settings.blur),
            A.GaussNoise(std_range=(0.005, 0.02), p=settings.noise),
            A.ImageCompression(quality_range=(40, 95), p=settings.jpeg),
        ],
        bbox_params=A.BboxParams(format="pascal_voc", clip=True, filter_invalid_bboxes=True),
    )
