"""From the cache to batches: which image is drawn when, and how it is augmented.

Everything follows from (seed, epoch, position), so a run that is stopped and continued sees what
an undisturbed one would have seen.
"""

from collections import Counter
from collections.abc import Collection

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.datasets.cache import Cache
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.radiograph import resize_area
from lungbox.training.augmentation import Augmenter
from lungbox.training.masks import paint
from lungbox.training.recipe import Data, Recipe, Stage


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
    """The batches of one epoch: `(images, {"mask": masks, "image": targets})`.

    Images `(B, S, S, 1)` float32 0-255, masks `(B, S / k, S / k, 2)` background and opacity,
    targets `(B, 1)`, 1 where there is any opacity. Of these, those a network has `heads` for.
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
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self._cache, self._recipe, self._stage = cache, recipe, stage
        self._epoch, self._stride, self._heads = epoch, stride, heads
        self._augment = Augmenter(recipe.augmentation, recipe.data.preparation)
        self._steps = recipe.steps_per_epoch(len(cache))
        if recipe.data.order == "fixed":
            self._order = np.random.default_rng(recipe.seed).permutation(len(cache))
        else:
            weights = draw_weights(cache.dataset, recipe.data, stage)
            random = np.random.default_rng((recipe.seed, epoch))
            self._order = _draw(weights, self._steps * recipe.batch_size, random)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[NDArray, dict[str, NDArray]]:
        first = step * self._recipe.batch_size
        positions = range(first, min(first + self._recipe.batch_size, len(self._order)))
        images, masks = zip(*(self._one(position) for position in positions), strict=True)
        opacity = np.stack(masks).astype(np.float32)[..., None] / 255
        rows = self._order[list(positions)]
        targets = [[self._cache.dataset.images[row].target] for row in rows]
        of_head = {
            "mask": np.concatenate([1 - opacity, opacity], axis=-1),
            "image": np.asarray(targets, np.float32),
        }
        return np.stack(images).astype(np.float32)[..., None], {
            head: of_head[head] for head in self._heads
        }

    def _one(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        row = self._order[position]
        labelled = self._cache.dataset.images[row]
        side = self._stage.image_size
        image = resize_area(self._cache.images(row), side, side)
        data = self._recipe.data
        mask = paint(labelled.boxes, labelled.size, side, data.shape, data.edges)
        seeds = np.random.SeedSequence((self._recipe.seed, self._epoch, position))
        image, mask = self._augment(image, mask, int(seeds.generate_state(1)[0]))
        return image, resize_area(mask, side // self._stride, side // self._stride)


def _draw(weights: NDArray, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` rows, row i about `count * weights[i]` times, in random order.

    Systematic sampling: one random offset and equal steps through the cumulated weights, so that
    no image is drawn more or less often than its share, rounded up or down.
    """
    order = random.permutation(len(weights))
    ticks = (np.arange(count) + random.random()) / count
    rows = order[np.searchsorted(np.cumsum(weights[order])[:-1], ticks, side="right")]
    return random.permutation(rows)
