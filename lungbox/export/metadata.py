"""Metadata of exported ensembles: everything that a program without Lungbox needs."""

from dataclasses import asdict
from typing import Any

from lungbox import __version__
from lungbox.boxes import OperatingPoint
from lungbox.constants import BACKGROUND, CLASS_NAMES, RESEARCH_USE
from lungbox.engines import EngineConfig, Member
from lungbox.export.types import INPUT
from lungbox.radiograph.prepare import Preparation

_STEPS: dict[Preparation, str] = {
    "padded": (
        "8-bit gray, bright is dense; resized with its aspect ratio until the longer side is that "
        "of the square, by area averages or linearly, and centred; the pixels at its edges are "
        "repeated up to the square; then its histogram is equalised as PIL.ImageOps.equalize does"
    ),
    "equalised": (
        "8-bit gray, bright is dense; resized to the square without keeping its aspect ratio, by "
        "area averages along a side that shrinks, that first, and linearly along one that grows; "
        "then its histogram is equalised as PIL.ImageOps.equalize does"
    ),
    "nearest": (
        "8-bit gray, bright is dense; resized to the square without keeping its aspect ratio, "
        "by OpenCV's INTER_NEAREST: row i is the source's row floor(i * height / side), columns "
        "alike; the contrast is left as it is"
    ),
}


def describe(config: EngineConfig, point: OperatingPoint, batch_size: int | None) -> dict[str, Any]:
    """The metadata of an exported ensemble, for JSON.

    Args:
        config: the ensemble.
        point: its operating point.
        batch_size: of the exported network; None for any.
    """
    side = config.image_size
    return {
        "name": config.ensemble,
        "lungbox": __version__,
        "use": RESEARCH_USE,
        "input": {
            "name": INPUT,
            "shape": [batch_size, side, side, 1],
            "dtype": "uint8",
            "values": "prepared gray, 0-255; scaling is inside the network",
        },
        "outputs": _outputs(config),
        "labels": [CLASS_NAMES[BACKGROUND], *config.class_names],
        "image_labels": list(config.image_labels),
        "preparation": {
            "name": config.preparation,
            "image_size": side,
            "steps": _STEPS[config.preparation],
        },
        "operating_point": {**asdict(point), "flip": config.flip},
        "views": list(config.views),
        "members": [_member(member) for member in config.members],
    }


def _outputs(config: EngineConfig) -> dict[str, str]:
    """What each output is; see `architecture.ensemble.average`."""
    kinds = [member.weights.kind for member in config.members]
    found = {"image": "(batch, 1) float32, probability that the radiograph shows any of the labels"}
    if "segmentation" in kinds:
        channels = 1 + len(config.class_names)
        found["mask"] = f"(batch, h, w, {channels}) float32, probabilities of the labels"
    for index, kind in enumerate(kinds):
        if kind == "detection":
            found[f"boxes_{index}"] = "(batch, K, 4) float32, x1, y1, x2, y2 in 0-1 of the input"
            found[f"scores_{index}"] = "(batch, K, C) float32, of each label but the first"
    if "classification" in kinds:
        found["classes"] = "(batch, L) float32, probabilities of image_labels"
    return found


def _member(member: Member) -> dict[str, Any]:
    weights = member.weights
    return {
        "weights": member.name,
        "sha256": member.sha256,
        "architecture": weights.architecture,
        "image_size": weights.image_size,
        "share": member.weight,
        "trained_on": weights.trained_on,
        "licence": weights.licence,
    }
