"""Labelled images that an ensemble's weights have not seen: no others may be scored or tuned on."""

from pathlib import Path

from lungbox import datasets
from lungbox.constants import FOLDS
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.errors import LungboxError
from lungbox.weights.manifest import load_manifest


class TrainedOnError(LungboxError):
    """The weights were trained on the images they are to be scored on."""


def unseen_images(ensemble: str, data: Path, fold: int) -> Dataset:
    """The images of a fold; those that are neither positive nor negative are left out.

    Raises:
        TrainedOnError: a member of the ensemble was trained on the fold.
        DatasetError: there are none, or no RSNA images, or these lack their classes.
    """
    manifest = load_manifest()
    for member in manifest.ensemble(ensemble).members:
        if fold in manifest.weights[member].folds:
            unseen = sorted(set(range(FOLDS)) - set(manifest.weights[member].folds))
            raise TrainedOnError(
                f"{member} was trained on fold {fold}; "
                + (f"give one of {', '.join(map(str, unseen))}" if unseen else "and on all others")
            )
    images = datasets.load(data).folds([fold]).where(lambda image: not image.uncertain)
    rsna = images.where(lambda image: image.source == "rsna")
    if not rsna.images:
        raise DatasetError(f"{data}: has no RSNA image in fold {fold}, whose metric this is")
    if not all(image.category for image in rsna.images):
        raise DatasetError(
            f"{data}: RSNA's figures are by class, and stage_2_detailed_class_info.csv, which "
            "gives them, is not there or lacks images"
        )
    return images
