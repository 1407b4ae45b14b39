"""`history.png` in a run's folder: its metrics over the epochs."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lungbox.common.files import atomic_write
from lungbox.training.loggers import EpochLogger, EpochMetrics

HISTORY = "history.png"
# Each with the held-out fold's, as the reference system plots its runs.
_PANELS = {
    "loss": "Loss",
    "accuracy": "Pixel accuracy",
    "reference_mean_iou": "Mean IoU (the reference's)",
    "f1": "F1 of opacity pixels",
}


class HistoryPlot(EpochLogger):
    """Plots loss, accuracy, mean IoU and F1 over the epochs, again after each epoch.

    Args:
        run: the run's folder.
        epochs: the finished epochs, a list that another callback (`CsvLog`) appends to first.
    """

    def __init__(self, run: Path, epochs: Sequence[EpochMetrics]) -> None:
        super().__init__()
        self._path, self._epochs = run / HISTORY, epochs

    def add(self, epoch: EpochMetrics) -> None:
        """See `EpochLogger.add`."""
        del epoch  # already in the list
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.subplots(2, 2).ravel()
        for panel, (name, title) in zip(axes, _PANELS.items(), strict=True):
            _draw(panel, self._epochs, name, title)
        with atomic_write(self._path, "wb") as file:
            figure.savefig(file, format="png", dpi=120)


def _draw(axes: Axes, epochs: Sequence[EpochMetrics], name: str, title: str) -> None:
    for key, label in ((name, "training"), (f"val_{name}", "held-out fold")):
        points = [(epoch.epoch, getattr(epoch, key)) for epoch in epochs]
        known = [point for point in points if not isnan(point[1])]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=label)
    axes.set_title(title)
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
