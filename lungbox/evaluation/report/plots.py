"""Curves as SVG data URIs for a page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from lungbox.evaluation.groups import Group
from lungbox.evaluation.sweep import Sweep
from lungbox.metrics.bootstrap import Estimate
from lungbox.metrics.classification import Reliability, RocCurve
from lungbox.metrics.curves import FROC_RATES, DetectionCurve, froc

# Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7ea",
    "axes.edgecolor": "#8a929a",
    "axes.axisbelow": True,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "lines.linewidth": 1.6,
    # Outlines rather than letters: the page looks the same on every computer.
    "svg.fonttype": "path",
    "svg.hashsalt": "lungbox",
}
# Sizes of pictures, in inches.
SQUARE, LOW, WIDE_GRID = (4.8, 3.6), (4.8, 3.0), (7.6, 3.2)
_NAMES = {
    "gate": "gate (image score before calibration)",
    "threshold": "threshold (mask)",
    "min_area": "least area (share of the image)",
    "shrink": "shrink (share, each side)",
}


def picture(plot: Callable[..., None], *arguments: Any, size: tuple[float, float] = SQUARE) -> str:
    """Draw with one of the functions below; returns a data URI.

    Args:
        plot: draws on the axes it is given first.
        arguments: its others.
        size: in inches.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        plot(canvas.subplots(), *arguments)
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def roc(axes: Axes, curves: Mapping[str, RocCurve], gate: float) -> None:
    """ROC curves of the image score, each with the point of the gate."""
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(curve.false_positive_rate, curve.sensitivity, color=colour, label=name)
        at = max(0, int(np.searchsorted(-curve.thresholds, -gate, side="right")) - 1)
        axes.plot(curve.false_positive_rate[at], curve.sensitivity[at], "o", color=colour)
    axes.plot([0, 1], [0, 1], color="#8a929a", linestyle=":", linewidth=1)
    _label(axes, "1 - specificity", "sensitivity")
    axes.legend(loc="lower right")


def precision_recall(axes: Axes, curves: Mapping[str, DetectionCurve]) -> None:
    """Precision against recall of boxes, at every confidence."""
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(curve.recall, curve.precision, color=colour, label=name)
    _label(axes, "recall of boxes", "precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper right")


def free_response(axes: Axes, curves: Mapping[str, DetectionCurve]) -> None:
    """FROC: sensitivity against false positives an image, at LUNA16's rates."""
    rates = np.geomspace(FROC_RATES[0] / 8, FROC_RATES[-1], 200).tolist()
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(rates, froc(curve, rates), color=colour, label=name)
        axes.plot(FROC_RATES, froc(curve), ".", color=colour)
    axes.set_xscale("log", base=2)
    ticks = [rates[0], *FROC_RATES]
    axes.set_xticks(ticks, [f"1/{round(1 / t)}" if t < 1 else f"{t:g}" for t in ticks])
    _label(axes, "false positives an image", "sensitivity (boxes)")
    axes.set(ylim=(0, 1.02))
    axes.legend(loc="upper left")


def calibration(axes: Axes, found: Mapping[str, Reliability]) -> None:
    """Share of positives against image score, and below it a histogram of the scores."""
    axes.plot([0, 1], [0, 1], color="#8a929a", linestyle=":", linewidth=1)
    most = max(bins.counts.max() for bins in found.values())
    for index, (colour, (name, bins)) in enumerate(zip(COLOURS, found.items(), strict=False)):
        axes.plot(bins.confidence, bins.observed, "o-", color=colour, label=name)
        edges = np.linspace(0, 1, len(bins.counts) + 1)
        width = 0.8 / len(bins.counts) / len(found)
        left = edges[:-1] + 0.1 / len(bins.counts) + index * width
        axes.bar(left, 0.2 * bins.counts / most, width, color=colour, alpha=0.3, align="edge")
    _label(axes, "image score", "share with opacity")
    axes.legend(loc="upper left")


def sweep(axes: Axes, curve: Sweep, chosen: float) -> None:
    """The metric against one value, with 95 % intervals and the chosen value."""
    for colour, name, estimates in (
        (COLOURS[1], "as the fold is", curve.raw),
        (COLOURS[0], "challenge's mix", curve.mix),
    ):
        values, low, high = _with_bounds(estimates)
        axes.fill_between(curve.values, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(curve.values, values, color=colour, label=name)
    axes.axvline(chosen, color="#30363c", linestyle="--", linewidth=1, label="chosen")
    _label(axes, _NAMES[curve.key], "RSNA metric")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def forest_size(groups: Sequence[Group]) -> tuple[float, float]:
    """The size `forest` needs."""
    return 8.6, 0.7 + 0.22 * sum(group.positives > 0 for group in groups)


def forest(axes: Axes, groups: Sequence[Group]) -> None:
    """The metric of every group that has one, with its interval."""
    shown = [group for group in groups if group.positives]
    for row, group in enumerate(shown):
        figure = group.metric
        axes.plot([figure.low, figure.high], [row, row], color=COLOURS[0])
        axes.plot(figure.value, row, "s", color=COLOURS[0], markersize=4)
    names = [f"{group.by}: {group.name} ({group.positives} of {group.images})" for group in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    _label(axes, "RSNA metric, raw (95 % interval)", "")
    axes.set_xlim(left=0)


def training(axes: Axes, columns: Mapping[str, Sequence[float]]) -> None:
    """Every loss of a run against its epochs."""
    losses = {name: of for name, of in columns.items() if name.endswith("loss")}
    for colour, (name, values) in zip(COLOURS, losses.items(), strict=False):
        if not np.all(np.isnan(values)):
            label = name.replace("_", " ")
            axes.plot(columns["epoch"], values, color=colour, label=label)
    _label(axes, "epoch", "loss")
    axes.legend(loc="best")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _with_bounds(estimates: Sequence[Estimate]) -> tuple[NDArray, NDArray, NDArray]:
    low, high = np.transpose([estimate.interval for estimate in estimates])
    return np.array([estimate.value for estimate in estimates]), low, high
