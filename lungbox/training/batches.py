"""From the cache to batches: which image is drawn when, and how it is augmented.

Everything follows from (seed, epoch, position), so a run that is stopped and continued sees what
an undisturbed one would have seen.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import geometry
from lungbox.datasets.cache import Cache
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.radiograph import resize_area
from lungbox.training.augmentation import Augmenter
from lungbox.training.masks import paint, paint_edges
from lungbox.training.recipe import Recipe
from lungbox.training.sections import Data, Stage
from lungbox.training.teacher import Teacher


def draw_weights(dataset: Dataset, settings: Data, stage: Stage) -> NDArray:
    """How often each image is drawn, as probabilities that sum to 1.

    Args:
        dataset: the images.
        settings: the recipe's weights.
        stage: whose weights of data sets go before the recipe's.

    Raises:
        ValueError: no image is left to draw.
    """

    def cell(image: LabelledRadiograph) -> tuple[object, ...]:
        return (image.source, *(getattr(image, name) for name in settings.balance))

    in_cell = Counter(map(cell, dataset.images))
    cells = Counter(source for source, *_ in in_cell)
    sources = stage.source_weights or settings.source_weights
    in_source = Counter(image.source for image in dataset.images)
    weights = np.array(
        [
            sources.get(image.source, 1.0)
            * settings.category_weights.get(image.category, 1.0)
            # A cell's images together weigh as much as any other cell's of the data set.
            * in_source[image.source]
            / (cells[image.source] * in_cell[cell(image)])
            for image in dataset.images
        ]
    )
    if weights.sum() <= 0:
        raise ValueError("every image has a weight of 0")
    return weights / weights.sum()


class Batches(keras.utils.PyDataset):
    """The batches of one epoch: `(images, targets)`, targets by head.

    Images `(B, S, S, 1)` float32 0-255; `mask` `(B, S / k, S / k, 2)` background and opacity;
    `image` `(B, 1)`, 1 where there is any opacity; `edges` `(B, S / k, S / k, 4)`. Where the last
    batch of an epoch is not full, it is filled up with what `sample_weight`, the third of the
    tuple then, counts as nothing: several devices need batches of one size.
    """

    def __init__(
        self,
        cache: Cache,
        recipe: Recipe,
        stage: Stage,
        epoch: int,
        stride: int,
        workers: int = 2,
        heads: Collection[str] = ("mask", "image"),
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self._cache, self._recipe, self._stage = cache, recipe, stage
        self._epoch, self._stride, self._heads = epoch, stride, heads
        self._teacher = teacher
        self._augment = Augmenter(recipe.augmentation, recipe.preparation)
        self._steps = recipe.steps_per_epoch(len(cache))
        if recipe.data.order == "fixed":
            self._order = np.random.default_rng(recipe.seed).permutation(len(cache))
        else:
            weights = draw_weights(cache.dataset, recipe.data, stage)
            random = np.random.default_rng((recipe.seed, epoch))
            self._order = _draw(weights, self._steps * recipe.batch_size, random)

    @property
    def samples(self) -> int:
        """Images in the epoch."""
        return len(self._order)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        size = self._recipe.batch_size
        first = step * size
        rows = self._order[first : first + size]
        pairs = [self._one(first + place, int(row)) for place, row in enumerate(rows)]
        empty = size - len(pairs)
        images, targets = zip(*pairs, *pairs[:1] * empty, strict=True)
        batch = np.stack(images)[..., None].astype(np.float32)
        of_head = {head: np.stack([of[head] for of in targets]) for head in self._heads}
        if len(self._order) % size == 0:
            return batch, of_head
        weight = np.r_[np.ones(len(rows), np.float32), np.zeros(empty, np.float32)]
        return batch, of_head, dict.fromkeys(self._heads, weight)

    def _one(self, position: int, row: int) -> tuple[NDArray, dict[str, NDArray]]:
        labelled = self._cache.dataset.images[row]
        side, data = self._stage.image_size, self._recipe.data
        image = resize_area(self._cache.images(row), side, side)
        mask = paint(labelled.boxes, labelled.size, side, data.shape, data.edges)
        target = float(labelled.target)
        if self._teacher:
            mask, target = self._teacher.teach(row, mask, target, alone=labelled.uncertain)
        boxes = geometry.scale(labelled.boxes, labelled.size, (side, side))
        seeds = np.random.SeedSequence((self._recipe.seed, self._epoch, position))
        image, mask, boxes = self._augment(image, mask, boxes, int(seeds.generate_state(1)[0]))
        return image, self._targets(mask, target, boxes)

    def _targets(
        self, mask: NDArray[np.uint8], target: float, boxes: geometry.Boxes
    ) -> dict[str, NDArray]:
        full, side = mask.shape[0], mask.shape[0] // self._stride
        opacity = resize_area(mask, side, side).astype(np.float32)[..., None] / 255
        found: dict[str, NDArray] = {
            "mask": np.concatenate([1 - opacity, opacity], axis=-1),
            "image": np.array([target], np.float32),
        }
        if "edges" in self._heads:
            found["edges"] = paint_edges(boxes, (full, full), side).astype(np.float32) / 255
        return found


def _draw(weights: NDArray, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` rows, row i about `count * weights[i]` times, in random order.

    Systematic sampling: one random offset and equal steps through the cumulated weights, so that
    no image is drawn more or less often than its share, rounded up or down.
    """
    order = random.permutation(len(weights))
    ticks = (np.arange(count) + random.random()) / count
    rows = order[np.searchsorted(np.cumsum(weights[order])[:-1], ticks, side="right")]
    return random.permutation(rows)
