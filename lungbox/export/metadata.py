"""What goes with an exported ensemble: everything a program without Lungbox has to know."""

from dataclasses import asdict
from typing import Any

from lungbox import __version__
from lungbox.boxes import OperatingPoint
from lungbox.constants import CLASS_NAMES, RESEARCH_USE
from lungbox.engines import Job, Member
from lungbox.export.types import IMAGE, INPUT, MASK
from lungbox.radiograph.prepare import Preparation

_STEPS: dict[Preparation, str] = {
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


def describe(job: Job, point: OperatingPoint, batch_size: int | None) -> dict[str, Any]:
    """The metadata of an exported ensemble, as JSON has it.

    Args:
        job: the ensemble.
        point: how its masks become boxes.
        batch_size: of the exported network; None where it takes any.
    """
    side = job.image_size
    return {
        "name": job.ensemble,
        "lungbox": __version__,
        "use": RESEARCH_USE,
        "input": {
            "name": INPUT,
            "shape": [batch_size, side, side, 1],
            "dtype": "uint8",
            "values": "prepared gray, 0-255; scaling is inside the network",
        },
        "outputs": {
            MASK: "(batch, h, w, 2) float32, probabilities of each label, in their order",
            IMAGE: "(batch, 1) float32, probability that the radiograph shows any opacity",
        },
        "labels": list(CLASS_NAMES),
        "preparation": {
            "name": job.preparation,
            "image_size": side,
            "steps": _STEPS[job.preparation],
        },
        "operating_point": {**asdict(point), "flip": job.flip},
        "members": [_member(member) for member in job.members],
    }


def _member(member: Member) -> dict[str, Any]:
    weights = member.weights
    return {
        "weights": member.name,
        "sha256": member.sha256,
        "architecture": weights.architecture,
        "image_size": weights.image_size,
        "share": member.share,
        "trained_on": weights.trained_on,
        "licence": weights.licence,
    }
