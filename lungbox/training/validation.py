"""Scoring on a held-out fold during training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.architecture.heads import top_k_mean
from lungbox.boxes import OperatingPoint
from lungbox.boxes.padding import boxes_of_file, mask_of_file
from lungbox.datasets.cache import PreparedImages
from lungbox.datasets.types import Dataset
from lungbox.evaluation.image_labels import mean_auc
from lungbox.evaluation.operating_point import SearchGrid, cross_fit, image_scores, mix_weights
from lungbox.evaluation.predictions import DatasetPredictions, to_uint8
from lungbox.metrics import BoxTable, auc, rsna_score, voc_map
from lungbox.training.batches import Batches
from lungbox.training.model import EvaluationModel, TrainableNetwork, named_as_logged
from lungbox.training.recipe import Recipe
from lungbox.training.sections import Augmentation, Stage

# Coarser than the grid an operating point is chosen from: it is searched again and again.
_GRID = SearchGrid(
    thresholds=(0.3, 0.4, 0.5),
    min_scores=(0.1, 0.2, 0.3, 0.4),
    min_areas=(0.005,),
    shrinks=(0.0625,),
    gates=30,
)
# VinBigData's metric: boxes of low confidence cost nothing, and there is no gate.
_ALL_BOXES = OperatingPoint(min_area=0.0, shrink=0.0, min_score=0.01)


@dataclass(frozen=True)
class Score:
    """The score of a network on the held-out fold.

    Attributes:
        rsna_metric: of lung opacity, cross-fitted; at the challenge's class mix where the images
            have its classes. NaN where the classes are findings, and of a classification network.
        auc: of the image score; of a classification network the mean over its labels.
        metrics: the loss and the heads' metrics, without augmentation, by their names in `log.csv`
            without `val_`.
        map: of several findings, the mean average precision (PASCAL VOC, IoU > 0.4) of all boxes;
            else NaN.
    """

    rsna_metric: float
    auc: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    map: float = nan

    @property
    def logs(self) -> dict[str, float]:
        """All of it by the columns of `log.csv`."""
        of_heads = {f"val_{name}": value for name, value in self.metrics.items()}
        return {"rsna_metric": self.rsna_metric, "map": self.map, "auc": self.auc} | of_heads


class ValidationScorer:
    """Scores a network with its current weights on the held-out fold.

    Args:
        network: the network in training.
        images: the held-out fold, at the network's size or larger.
        recipe: its loss, masks and validation.
        stage: its image size.
    """

    def __init__(
        self, network: TrainableNetwork, images: PreparedImages, recipe: Recipe, stage: Stage
    ) -> None:
        self._dataset, self._labels = images.dataset, recipe.label_set
        self._findings = recipe.data.task == "findings"
        self._padded_to = recipe.image_size if recipe.preparation == "padded" else None
        self._model = EvaluationModel.of(network, recipe.loss, recipe.label_set)
        self._batches = Batches(images, _once_in_order(recipe), stage, network.outputs)

    def score(self) -> Score:
        """The score at this moment."""
        metrics, outputs = self._evaluate()
        if self._labels:
            mean = mean_auc(self._labels, self._dataset, outputs["classes"])
            return Score(nan, mean, metrics)
        predictions = _predictions(self._dataset, outputs)
        truth = np.array([len(image.boxes) > 0 for image in predictions.dataset.images])
        return Score(
            rsna_metric=nan if self._findings else _rsna_metric(predictions),
            map=_mean_average_precision(predictions) if self._findings else nan,
            auc=auc(truth, predictions.scores),
            metrics=metrics,
        )

    def _evaluate(self) -> tuple[dict[str, float], dict[str, NDArray]]:
        """Metrics, and outputs `(N, ...)` in the order of the images, in one pass."""
        collected = _CollectOutputs()
        self._model.evaluate(self._batches, verbose=0, callbacks=[collected])
        logs = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        # Batches are in the recipe's order, the last one padded.
        back = np.argsort(self._batches.rows)
        outputs = {
            name: np.concatenate(parts).reshape(-1, *self._model.output[name].shape[1:])[back]
            for name, parts in collected.outputs.items()
        }
        if self._padded_to is not None:
            _remove_padding(outputs, self._dataset, self._padded_to)
        return named_as_logged(logs, self._model.trained), outputs


class _CollectOutputs(keras.callbacks.Callback):
    """Keeps what an `EvaluationModel` reports of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, list[NDArray]] = {}

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        del batch
        for key, value in (logs or {}).items():
            if key.startswith("output_"):
                name = key.removeprefix("output_")
                # Keras turns the score of a single image into a number.
                self.outputs.setdefault(name, []).append(np.atleast_1d(np.asarray(value)))


def _remove_padding(outputs: dict[str, NDArray], dataset: Dataset, side: int) -> None:
    """Make masks and boxes of images that were padded to a square those of the files."""
    for name, of_file in (("mask", mask_of_file), ("boxes", boxes_of_file)):
        if name in outputs:
            pairs = zip(outputs[name], dataset.images, strict=True)
            outputs[name] = np.stack([of_file(one, image.size, side) for one, image in pairs])


def _predictions(dataset: Dataset, outputs: Mapping[str, NDArray]) -> DatasetPredictions:
    """The predictions of a network with boxes, as those of an ensemble of it alone."""
    return DatasetPredictions(
        dataset,
        to_uint8(outputs["mask"]) if "mask" in outputs else None,
        _image_scores(outputs),
        ((outputs["boxes"], outputs["scores"], 1.0),) if "boxes" in outputs else (),
    )


def _rsna_metric(predictions: DatasetPredictions) -> float:
    parts = image_scores(predictions, cross_fit(predictions, _GRID).points)
    return rsna_score(parts, mix_weights(predictions.dataset))


def _mean_average_precision(predictions: DatasetPredictions) -> float:
    """VOC mean average precision at IoU > 0.4 over the classes that the images have."""
    dataset = predictions.dataset
    numbers = {name: number for number, name in enumerate(dataset.class_names)}
    labels = [np.array([numbers[name] for name in image.labels]) for image in dataset.images]
    truth = BoxTable.of([image.boxes for image in dataset.images], classes=labels)
    found = [predictions.boxes(row, _ALL_BOXES) for row in range(len(dataset))]
    boxes, scores, classes = zip(*found, strict=True)
    return voc_map(truth, BoxTable.of(boxes, scores, classes), len(dataset))


def _image_scores(outputs: Mapping[str, NDArray]) -> NDArray[np.float32]:
    """The image scores `(N,)`; of a network without an image head those it has in an ensemble."""
    if "image" in outputs:
        return outputs["image"][:, 0]
    if "scores" in outputs:
        return outputs["scores"].max(axis=(1, 2))
    return keras.ops.convert_to_numpy(top_k_mean(outputs["mask"], "image"))[:, 0]


def _once_in_order(recipe: Recipe) -> Recipe:
    """The recipe with each image once, not augmented."""
    data: dict[str, Any] = {
        "order": "fixed", "samples_per_epoch": None,
        "source_weights": {}, "category_weights": {}, "balance": (),
    }  # fmt: skip
    changes = {
        "batch_size": recipe.validation.batch_size or recipe.batch_size,
        "data": recipe.data.model_copy(update=data),
        "augmentation": Augmentation(enabled=False),
        "stages": tuple(stage.model_copy(update={"source_weights": {}}) for stage in recipe.stages),
    }
    return recipe.model_copy(update=changes)
