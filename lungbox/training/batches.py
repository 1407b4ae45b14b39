"""Training batches: which image is drawn when, its augmentation and its targets.

Everything follows from (seed, epoch, position), so that a resumed run sees the batches that an
uninterrupted one would have seen.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import geometry
from lungbox.boxes.padding import into_square
from lungbox.common.backend import devices_in_step
from lungbox.datasets.cache import PreparedImages
from lungbox.datasets.findings import FindingLabels
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.radiograph import resize_area
from lungbox.training.augmentation import Augmenter
from lungbox.training.distillation import Teacher
from lungbox.training.heads import Sample, heads_for
from lungbox.training.recipe import Recipe
from lungbox.training.sections import Data, Stage
from lungbox.training.targets import rasterize


def draw_weights(dataset: Dataset, settings: Data, stage: Stage) -> NDArray:
    """Sampling probabilities of the images, which sum to 1.

    Args:
        dataset: the images.
        settings: the recipe's weights.
        stage: its source weights replace the recipe's where it has any.

    Raises:
        ValueError: every image has a weight of 0.
    """

    def cell(image: LabelledRadiograph) -> tuple[object, ...]:
        return (image.source, *(getattr(image, name) for name in settings.balance))

    in_cell = Counter(map(cell, dataset.images))
    cells = Counter(source for source, *_ in in_cell)
    of_patient = Counter((image.source, image.patient) for image in dataset.images)
    most = settings.max_per_patient or len(dataset)
    sources = stage.source_weights or settings.source_weights
    in_source = Counter(image.source for image in dataset.images)
    weights = np.array(
        [
            sources.get(image.source, 1.0)
            * settings.category_weights.get(image.category, 1.0)
            # Each combination of the balanced attributes weighs the same within its data set.
            * in_source[image.source]
            / (cells[image.source] * in_cell[cell(image)])
            * min(1.0, most / of_patient[image.source, image.patient])
            for image in dataset.images
        ]
    )
    if weights.sum() <= 0:
        raise ValueError("every image has a weight of 0")
    return weights / weights.sum()


def known_findings(image: LabelledRadiograph, settings: Data) -> FindingLabels:
    """The image-level labels of an image that a recipe trains."""
    chosen = settings.findings
    return tuple(label for label in image.findings if not chosen or label[0] in chosen)


class Batches(keras.utils.PyDataset):
    """The batches of an epoch: `(images, targets)`, targets by output.

    Images are `(B, S, S, 1)` float32 0-255; each target has the shape `Head.target_shape`.
    Where the last batch of an epoch is not full, it is padded: several devices need batches of one
    size. Then, and where some images have no label for an output, the tuple has a third element,
    `sample_weight` by output: 0 for padding and for images without that label, else 1.

    Args:
        images: prepared images, at the stage's size or larger.
        recipe: how they are drawn, rasterized and augmented.
        stage: its image size and source weights.
        outputs: the shape of each output that is trained, without the batch axis.
        epoch: the epoch, from 0; `epoch` may be set later, before that epoch's first batch.
        teacher: whose predictions are mixed into the targets.
        workers: threads that make batches.
    """

    def __init__(
        self,
        images: PreparedImages,
        recipe: Recipe,
        stage: Stage,
        outputs: Mapping[str, tuple[int, ...]],
        epoch: int = 0,
        teacher: Teacher | None = None,
        workers: int = 2,
    ) -> None:
        # Under a TensorFlow strategy the threads of Keras 3.15 begin an epoch with batches left
        # over from a trial batch or from the epoch before. There it has none, and a batch's images
        # are made in parallel instead.
        shared = devices_in_step() > 1
        super().__init__(
            workers=1 if shared else workers, use_multiprocessing=False, max_queue_size=8
        )
        self._map = ThreadPoolExecutor(workers).map if shared else map
        self._images, self._recipe, self._stage = images, recipe, stage
        self._heads = heads_for(outputs, recipe.label_set)
        most_boxes = max((len(image.boxes) for image in images.dataset.images), default=0)
        self._shapes = {
            name: head.target_shape(outputs[name], most_boxes) for name, head in self._heads.items()
        }
        self._teacher = teacher
        self._augment = Augmenter(recipe.augmentation, recipe.preparation)
        names = images.dataset.class_names
        self._class_numbers = {name: number for number, name in enumerate(names)}
        # The same in every batch of a run, which is compiled for it.
        self._partly_labelled = "findings" in self._heads or (
            teacher is None and any(image.uncertain for image in images.dataset.images)
        )
        self._steps = recipe.steps_per_epoch(len(images))
        self.epoch = epoch

    @property
    def epoch(self) -> int:
        """The epoch, from 0. Setting it draws that epoch's images."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        recipe, count = self._recipe, len(self._images)
        if recipe.data.order == "fixed":
            self.rows = np.random.default_rng(recipe.seed).permutation(count)
        else:
            weights = draw_weights(self._images.dataset, recipe.data, self._stage)
            random = np.random.default_rng((recipe.seed, epoch))
            self.rows = _draw(weights, self._steps * recipe.batch_size, random)

    @property
    def samples(self) -> int:
        """Images in an epoch."""
        return len(self.rows)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        size = self._recipe.batch_size
        first = step * size
        rows = self.rows[first : first + size]
        pairs = list(self._map(self._one, range(first, first + size), rows.tolist()))
        padding = size - len(pairs)
        images, targets, labelled = zip(*pairs, *pairs[:1] * padding, strict=True)
        batch = np.stack(images)[..., None].astype(np.float32)
        by_output = {name: np.stack([each[name] for each in targets]) for name in self._heads}
        if self.samples % size == 0 and not self._partly_labelled:
            return batch, by_output
        real = np.arange(size) < len(rows)
        weights = {
            name: (real & [name in each for each in labelled]).astype(np.float32)
            for name in self._heads
        }
        return batch, by_output, weights

    def _one(self, position: int, row: int) -> tuple[NDArray, dict[str, NDArray], set[str]]:
        """The augmented image at a position of the epoch, its targets, and the outputs whose target
        is known."""
        labelled = self._images.dataset.images[row]
        side, data = self._stage.image_size, self._recipe.data
        image = resize_area(self._images.images(row), side, side)
        boxes, size = labelled.boxes, labelled.size
        if self._recipe.preparation == "padded":
            prepared = self._recipe.image_size
            boxes, size = into_square(boxes, size, prepared), (prepared, prepared)
        mask = rasterize(boxes, size, side, data.shape, data.edges)
        weak = data.weak_targets.get(labelled.category) if labelled.uncertain else None
        target = float(labelled.target) if weak is None else weak
        if self._teacher:
            mask, target = self._teacher.mix_targets(row, mask, target, alone=labelled.uncertain)
        boxes = geometry.scale(boxes, size, (side, side))
        seeds = np.random.SeedSequence((self._recipe.seed, self._epoch, position))
        classes = np.array([self._class_numbers[name] for name in labelled.labels], np.int64)
        image, mask, boxes, classes = self._augment(
            image, mask, boxes, classes, int(seeds.generate_state(1)[0])
        )
        has_mask = not labelled.uncertain or self._teacher is not None
        has_target = has_mask or weak is not None
        labels = self._recipe.label_set
        sample = Sample(
            *(mask, target, boxes, classes, known_findings(labelled, data), has_mask, has_target),
            labels=labels.target(labelled) if labels else (),
        )
        targets = {
            name: head.target(sample, self._shapes[name]) for name, head in self._heads.items()
        }
        return image, targets, {n for n, head in self._heads.items() if head.is_labelled(sample)}


def _draw(weights: NDArray, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Systematic sampling: `count` rows, row i about `count * weights[i]` times, in random order.

    One random offset and equal steps through the cumulative weights, so that each image is drawn
    as often as its weight says, rounded up or down.
    """
    order = random.permutation(len(weights))
    ticks = (np.arange(count) + random.random()) / count
    rows = order[np.searchsorted(np.cumsum(weights[order])[:-1], ticks, side="right")]
    return random.permutation(rows)
