"""What a run leaves for those who watch it: a CSV and TensorBoard's events, always."""

import csv
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path
from typing import Protocol

from tensorboardX import SummaryWriter

from lungbox.errors import LungboxError
from lungbox.files import replacing

LOG = "log.csv"
EVENTS = "tensorboard"


# Of masks, see `metrics.mask_metrics`.
MASK_METRICS = ("accuracy", "mean_iou", "reference_mean_iou", "f1")


@dataclass(frozen=True)
class Epoch:
    """What one finished epoch showed; NaN where there is no such head, or nothing was scored.

    `val_` is of the held-out fold, by the moving average where the recipe has one; the others are
    running means over the epoch's training batches.
    """

    epoch: int
    loss: float
    mask_loss: float
    image_loss: float
    edges_loss: float = nan
    accuracy: float = nan
    mean_iou: float = nan
    reference_mean_iou: float = nan
    f1: float = nan
    val_loss: float = nan
    val_accuracy: float = nan
    val_mean_iou: float = nan
    val_reference_mean_iou: float = nan
    val_f1: float = nan
    rsna_metric: float = nan
    auc: float = nan
    learning_rate: float = nan
    images_per_second: float = nan
    seconds: float = nan

    @property
    def known(self) -> dict[str, float]:
        """Every figure that is there, but for the epoch's number."""
        figures = {name: value for name, value in asdict(self).items() if name != "epoch"}
        return {name: value for name, value in figures.items() if not isnan(value)}


class Tracker(Protocol):
    """Is told of every epoch."""

    def add(self, epoch: Epoch) -> None:
        """An epoch has finished."""
        ...

    def close(self) -> None:
        """The run has ended, or was stopped."""
        ...


class CsvLog:
    """`log.csv`: a row an epoch."""

    def __init__(self, run: Path, done: int) -> None:
        self._path = run / LOG
        self.epochs = [epoch for epoch in read_log(run) if epoch.epoch <= done]
        if self._path.is_file():
            # Without rows of epochs whose state was not saved any more: they are trained again.
            self._write()

    def add(self, epoch: Epoch) -> None:
        """See `Tracker.add`."""
        self.epochs.append(epoch)
        self._write()

    def close(self) -> None:
        """See `Tracker.close`."""

    def _write(self) -> None:
        with replacing(self._path) as file:
            writer = csv.DictWriter(file, list(asdict(Epoch(0, 0, 0, 0))), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(epoch) for epoch in self.epochs)


class TensorBoard:
    """Events under `tensorboard/`; on resume, those of epochs that are trained again are purged."""

    def __init__(self, run: Path, done: int) -> None:
        begun = (run / EVENTS).is_dir()
        self._writer = SummaryWriter(str(run / EVENTS), purge_step=done + 1 if begun else None)

    def add(self, epoch: Epoch) -> None:
        """See `Tracker.add`."""
        for name, value in epoch.known.items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()


class WeightsAndBiases:
    """A run on Weights & Biases, resumed under the same identity."""

    def __init__(self, project: str, name: str, settings: dict) -> None:
        try:
            import wandb
        except ImportError:
            raise LungboxError(
                "--wandb needs Weights & Biases: pip install 'lungbox[wandb]'"
            ) from None
        self._run = wandb.init(project=project, id=name, name=name, config=settings, resume="allow")

    def add(self, epoch: Epoch) -> None:
        """See `Tracker.add`."""
        self._run.log(epoch.known, step=epoch.epoch)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()


def read_log(run: Path) -> list[Epoch]:
    """The epochs of a run's `log.csv`; a cell that is missing is NaN."""
    path = run / LOG
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = list(asdict(Epoch(0, 0, 0, 0)))
    try:
        return [
            Epoch(int(row["epoch"]), **{name: float(row.get(name) or "nan") for name in names[1:]})
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LungboxError(
            f"{path}: is not a run's log ({error}); remove it, or give another --run"
        ) from error
