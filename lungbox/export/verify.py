"""Whether an exported file says what Keras says: the same masks, and the same boxes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, OperatingPoint, regions
from lungbox.datasets.phantom import draw
from lungbox.engines import Engine, Job, ask
from lungbox.export.types import ExportError
from lungbox.folder import gather
from lungbox.paths import shipped_checkpoints
from lungbox.radiograph import prepare, read

# Probabilities, masks' and image scores' alike.
TOLERANCE = 1e-4
# Of a box's edges, in pixels of the radiograph.
PIXEL = 1.0
_DRAWN = 8

Size = tuple[int, int]


def radiographs(job: Job) -> tuple[NDArray[np.uint8], list[Size]]:
    """Radiographs to compare on: those that come with Lungbox, drawn ones where they are not here.

    Returns:
        `(N, S, S)` uint8 as the job's networks read them, and the files' widths and heights.
    """
    folder = shipped_checkpoints().parent / "examples"
    found = gather(folder)[0] if folder.is_dir() else []
    if found:
        pixels = [read(source.path).pixels for source in found]
    else:
        side = 2 * job.image_size
        pixels = [draw(side, i % 3, np.random.default_rng(i)).pixels for i in range(_DRAWN)]
    prepared = [prepare(one, job.image_size, job.preparation) for one in pixels]
    return np.stack(prepared), [(one.shape[1], one.shape[0]) for one in pixels]


def compare(
    expected: Engine,
    exported: Engine,
    images: NDArray[np.uint8],
    sizes: list[Size],
    point: OperatingPoint,
) -> float:
    """Run both on `images` and compare what they say.

    Boxes are compared at the operating point and without its gate, which leaves few.

    Returns:
        The largest difference of a probability.

    Raises:
        ExportError: the masks, the image scores or the boxes differ.
    """
    one, other = ask(expected, images), ask(exported, images)
    largest = 0.0
    for what, first, second in (
        ("masks", one.masks, other.masks),
        ("image scores", one.scores, other.scores),
    ):
        if first.shape != second.shape:
            raise ExportError(
                f"{exported.name} gives {what} of shape {second.shape} where Keras gives "
                f"{first.shape}; nothing is kept"
            )
        difference = float(np.abs(first - second).max())
        # Turned around, so that NaN does not pass.
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{exported.name} gives {what} that differ from Keras's by {difference:.2g}, and "
                f"at most {TOLERANCE:g} is allowed; nothing is kept"
            )
        largest = max(largest, difference)
    for row, size in enumerate(sizes):
        for at in (point, replace(point, gate=0.0)):
            first, _ = regions(one.masks[row], size, float(one.scores[row]), at)
            second, _ = regions(other.masks[row], size, float(other.scores[row]), at)
            if not same(first, second):
                raise ExportError(
                    f"{exported.name} gives {len(second)} boxes that are not Keras's "
                    f"{len(first)} on radiograph {row + 1}; nothing is kept"
                )
    return largest


def same(first: Boxes, second: Boxes) -> bool:
    """Whether two sets of boxes are as many, and each is within a pixel of one of the others;
    their order may differ where confidences are nearly equal."""
    if len(first) != len(second) or not len(first):
        return len(first) == len(second)
    distances = np.abs(first[:, None] - second[None]).max(axis=2)
    return bool((distances.min(axis=0) <= PIXEL).all() and (distances.min(axis=1) <= PIXEL).all())
