"""The course of a run as a picture, `history.png` in its folder."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lungbox.files import replacing
from lungbox.training.tracking import Epoch

HISTORY = "history.png"
# Each beside the same of the held-out fold, as the reference system draws its runs.
_PANELS = {
    "loss": "Loss",
    "accuracy": "Pixel accuracy",
    "reference_mean_iou": "Mean IoU (the reference's)",
    "f1": "F1 of opacity pixels",
}


class HistoryPlot:
    """Draws loss, accuracy, mean IoU and F1 over the epochs anew after each of them.

    Args:
        run: the run's folder.
        epochs: those that have finished, which another tracker keeps up.
    """

    def __init__(self, run: Path, epochs: Sequence[Epoch]) -> None:
        self._path, self._epochs = run / HISTORY, epochs

    def add(self, epoch: Epoch) -> None:
        """See `Tracker.add`."""
        del epoch  # it is among those kept already
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.subplots(2, 2).ravel()
        for panel, (name, title) in zip(axes, _PANELS.items(), strict=True):
            _draw(panel, self._epochs, name, title)
        with replacing(self._path, "wb") as file:
            figure.savefig(file, format="png", dpi=120)

    def close(self) -> None:
        """See `Tracker.close`."""


def _draw(axes: Axes, epochs: Sequence[Epoch], name: str, title: str) -> None:
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
