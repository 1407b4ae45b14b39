"""Augmentation of training radiographs, with albumentations."""

import os
import random
import threading
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes
from lungbox.radiograph import equalise
from lungbox.radiograph.prepare import EQUALISING, Preparation
from lungbox.training.sections import Augmentation

# Read when albumentations is imported, which would otherwise check for updates over the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.bbox_utils import denormalize_bboxes, normalize_bboxes


class Augmented(NamedTuple):
    """An augmented image with its labels, see `Augmenter.__call__`."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    boxes: Boxes
    labels: NDArray[np.int64]


class Augmenter:
    """Augments image, mask and boxes together; the same seed gives the same result, on any thread.

    Args:
        settings: the recipe's section.
        preparation: of the radiographs; their histogram is equalised again where it was before.

    Example:
        >>> augment = Augmenter(Augmentation())
        >>> image, mask = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
        >>> boxes, labels = as_boxes([(3, 4, 20, 30)]), np.array([7])
        >>> image, mask, boxes, labels = augment(image, mask, boxes, labels, seed=1)
        >>> image.shape, boxes.shape, labels.tolist()
        ((64, 64), (1, 4), [7])
    """

    def __init__(self, settings: Augmentation, preparation: Preparation = "equalised") -> None:
        self._settings, self._preparation = settings, preparation
        # A composition has the state of its last call, so each thread has its own.
        self._local = threading.local()

    def __call__(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        boxes: Boxes,
        labels: NDArray[np.int64],
        seed: int,
    ) -> Augmented:
        """Augment an image with its labels.

        Args:
            image: `(S, S)` prepared radiograph.
            mask: `(S, S)` 0-255.
            boxes: `(N, 4)` in pixels of both.
            labels: `(N,)` the class of each box.
            seed: decides the augmentation.

        Returns:
            The same four. A rotated box becomes its bounding box, or that of the points
            `augmentation.box_rotation` names, clipped to the image; a box outside the image is
            dropped with its label.
        """
        if not self._settings.enabled:
            return Augmented(image, mask, boxes, labels)
        if not hasattr(self._local, "compose"):
            self._local.compose = _compose(self._settings, self._preparation)
        _seed(self._local.compose, seed)
        result = self._local.compose(image=image[..., None], mask=mask, bboxes=boxes, labels=labels)
        return Augmented(
            image=result["image"][..., 0],
            mask=result["mask"],
            boxes=as_boxes(result["bboxes"]),
            labels=np.asarray(result["labels"], np.int64).reshape(-1),
        )


def _seed(compose: A.Compose, seed: int) -> None:
    """Give each transform random numbers of its own.

    `Compose.set_random_seed` gives all of them the same (albumentations 2.0): a transform that is
    applied to 40 % of the images would be applied to those alone that one of 50 % is applied to.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(compose.transforms))
    for transform, own in zip(compose.transforms, seeds.tolist(), strict=True):
        transform.set_random_seed(own)


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


class _ThirdPointsAffine(A.Affine):
    """Moves a box by the points at 1/3 and 2/3 of each of its sides, of which it becomes the
    bounding box.

    As the challenge's second place did (Gabruseva, Poplavskiy and Kalinin, CVPR Workshops 2020,
    arXiv:2005.13899): an opacity does not fill the corners of its box, so that the bounding box of
    the rotated corners is too large.
    """

    def apply_to_bboxes(
        self,
        bboxes: NDArray[np.floating],
        bbox_matrix: NDArray[np.floating],
        output_shape: tuple[int, int],
        **params: Any,
    ) -> NDArray[np.floating]:
        moved = denormalize_bboxes(bboxes, params["shape"][:2]).astype(np.float64)
        moved[:, :4] = _around_third_points(moved[:, :4], bbox_matrix)
        return normalize_bboxes(moved, output_shape)


def _around_third_points(
    boxes: NDArray[np.float64], matrix: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`(N, 4)` bounding boxes of the points at 1/3 and 2/3 of each side of `boxes` `(N, 4)`, moved
    by the `(3, 3)` affine `matrix`."""
    on_side = (1 / 3, 2 / 3)
    along = np.array([(a, b) for a in on_side for b in (0, 1)])
    shares = np.concatenate([along, along[:, ::-1]])
    points = boxes[:, None, :2] + shares * (boxes[:, None, 2:] - boxes[:, None, :2])
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


class _Rotate90(A.RandomRotate90):
    """Rotates by 90, 180 or 270 degrees."""

    def get_params(self) -> dict[str, int]:
        return {"factor": self.py_random.randint(1, 3)}


def _affine(settings: Augmentation) -> A.Affine:
    turn, shift = settings.rotate, settings.shift
    kind = _ThirdPointsAffine if settings.box_rotation == "third_points" else A.Affine
    return kind(
        rotate=(-turn, turn),
        scale=settings.scale,
        translate_percent=(-shift, shift),
        shear=(-settings.shear, settings.shear),
        # Not black: in equalisation a black margin takes gray levels from the lungs.
        border_mode=cv2.BORDER_REPLICATE,
        p=0.9,
    )


def _compose(settings: Augmentation, preparation: Preparation) -> A.Compose:
    low, high = settings.gamma
    boxes = A.BboxParams(
        format="pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True
    )
    return A.Compose(
        [
            A.HorizontalFlip(p=settings.flip),
            _Rotate90(p=settings.rotate90),
            _affine(settings),
            _EraseCorner(p=settings.erase_corner),
            # Both before equalisation, after which only gamma's rounding remains, as in a file
            # with a poor window; local contrast survives.
            A.RandomGamma(gamma_limit=(100 * low, 100 * high), p=0.5),
            A.CLAHE(clip_limit=(1, 3), p=settings.clahe),
            _Equalise(p=1 if preparation in EQUALISING else 0),
            A.InvertImg(p=settings.invert),
            A.GaussianBlur(blur_limit=(3, 5), p=settings.blur),
            A.GaussNoise(std_range=(0.005, 0.02), p=settings.noise),
            A.ImageCompression(quality_range=(40, 95), p=settings.jpeg),
        ],
        bbox_params=boxes,
    )
