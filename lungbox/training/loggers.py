"""Epoch metrics, and the callbacks that log them: `log.csv`, TensorBoard, Weights & Biases."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import keras
from tensorboardX import SummaryWriter

from lungbox.common.files import atomic_write
from lungbox.errors import LungboxError
from lungbox.training.heads import HEADS

LOG = "log.csv"
EVENTS = "tensorboard"
_METRICS = tuple(name for head in HEADS.values() for name in head.metrics)
COLUMNS = (
    "loss",
    *(f"{name}_loss" for name in HEADS),
    *_METRICS,
    "val_loss",
    *(f"val_{name}" for name in _METRICS),
    "rsna_metric",
    "map",
    "auc",
    "learning_rate",
    "images_per_second",
    "seconds",
)


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of a finished epoch.

    Those named `val_`, the RSNA metric, mean average precision and AUC are of the held-out fold, by
    the moving average of the weights where the recipe has one; the others are means over the
    training batches.

    Attributes:
        epoch: its number, from 1.
        known: the metrics that were computed, by their columns in `log.csv`. Each column is also
            an attribute, NaN where it was not computed.

    Example:
        >>> epoch = EpochMetrics(3, {"loss": 0.5})
        >>> epoch.loss, epoch.rsna_metric
        (0.5, nan)
    """

    epoch: int
    known: Mapping[str, float]

    @classmethod
    def of(cls, epoch: int, values: Mapping[str, Any]) -> "EpochMetrics":
        """The values that are columns of `log.csv` and not NaN."""
        found = {name: float(values[name]) for name in COLUMNS if name in values}
        return cls(epoch, {name: value for name, value in found.items() if not isnan(value)})

    def __getattr__(self, name: str) -> float:
        if name not in COLUMNS:
            raise AttributeError(name)
        return self.known.get(name, nan)


class EpochLogger(keras.callbacks.Callback):
    """Base of callbacks that log each epoch of a run, over all `fit` calls of its stages."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.add(EpochMetrics.of(epoch + 1, logs or {}))

    def add(self, epoch: EpochMetrics) -> None:
        """Log a finished epoch."""
        raise NotImplementedError

    def close(self) -> None:
        """Called when the run has ended or was interrupted; `on_train_end` ends a stage only."""


class CsvLog(EpochLogger):
    """`log.csv`, a row for each epoch.

    Not `keras.callbacks.CSVLogger`: its columns are those of the first epoch, which may have no
    validation metrics, and it appends to the rows of epochs that are trained again.

    Args:
        run: the run's folder.
        done: the number of epochs whose training state was saved; later rows are dropped.
    """

    def __init__(self, run: Path, done: int) -> None:
        super().__init__()
        self._path = run / LOG
        self.epochs = [epoch for epoch in read_log(run) if epoch.epoch <= done]
        if self._path.is_file():
            self._write()

    def add(self, epoch: EpochMetrics) -> None:
        """See `EpochLogger.add`."""
        self.epochs.append(epoch)
        self._write()

    def _write(self) -> None:
        with atomic_write(self._path) as file:
            writer = csv.DictWriter(file, ("epoch", *COLUMNS), restval=nan, lineterminator="\n")
            writer.writeheader()
            writer.writerows({"epoch": epoch.epoch, **epoch.known} for epoch in self.epochs)


class TensorBoard(EpochLogger):
    """Events under `tensorboard/`; on resume, those of epochs that are trained again are purged.

    Not `keras.callbacks.TensorBoard`, which needs TensorFlow on every backend and cannot purge.

    Args:
        run: the run's folder.
        done: the number of finished epochs.
    """

    def __init__(self, run: Path, done: int) -> None:
        super().__init__()
        resumed = (run / EVENTS).is_dir()
        self._writer = SummaryWriter(str(run / EVENTS), purge_step=done + 1 if resumed else None)

    def add(self, epoch: EpochMetrics) -> None:
        """See `EpochLogger.add`."""
        for name, value in epoch.known.items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """See `EpochLogger.close`."""
        self._writer.close()


class WeightsAndBiases(EpochLogger):
    """A run on Weights & Biases, resumed under the same identifier.

    Args:
        project: the project's name.
        name: the run's name and identifier.
        settings: shown with the run.
    """

    def __init__(self, project: str, name: str, settings: dict) -> None:
        super().__init__()
        import wandb

        self._run = wandb.init(project=project, id=name, name=name, config=settings, resume="allow")

    def add(self, epoch: EpochMetrics) -> None:
        """See `EpochLogger.add`."""
        self._run.log(dict(epoch.known), step=epoch.epoch)

    def close(self) -> None:
        """See `EpochLogger.close`."""
        self._run.finish()


def read_log(run: Path) -> list[EpochMetrics]:
    """The epochs of a run's `log.csv`; none where there is no such file.

    Raises:
        LungboxError: it is not a run's log.
    """
    path = run / LOG
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            EpochMetrics.of(
                int(row["epoch"]), {name: float(row.get(name) or "nan") for name in COLUMNS}
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LungboxError(
            f"{path}: is not a run's log ({error}); remove it, or give another --run"
        ) from error


def held_out_score(epoch: EpochMetrics) -> float | None:
    """What epochs are compared by: the RSNA metric, of several findings the mean average precision,
    or the AUC where a network has no boxes; None where the epoch was not scored."""
    scores = (epoch.known.get(name) for name in ("rsna_metric", "map", "auc"))
    return next((score for score in scores if score is not None), None)


def best_epoch(epochs: Sequence[EpochMetrics]) -> int:
    """The number of the epoch with the highest score, the earliest of equal ones; 0 for none.

    Example:
        >>> best_epoch([EpochMetrics(n, {"rsna_metric": v}) for n, v in [(1, 0.2), (2, 0.3), (3, 0.3)]])
        2
    """  # noqa: E501
    scored = [(score, epoch) for epoch in epochs if (score := held_out_score(epoch)) is not None]
    return max(scored, key=lambda pair: pair[0])[1].epoch if scored else 0
