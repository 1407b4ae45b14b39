"""Labelled images that an ensemble's weights have not seen: no others may be scored or tuned on."""

from pathlib import Path

from lungbox import datasets
from lungbox.constants import FOLDS
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.errors import LungboxError
from lungbox.weights.manifest import load_manifest


class TrainedOnError(LungboxError):
    """The weights have seen the images they are to be scored on, or nobody knows."""


def unseen_images(ensemble: str, data: Path, fold: int) -> Dataset:
    """The images of a fold; those that are neither positive nor negative are left out.

    Raises:
        TrainedOnError: a member of the ensemble was trained on the fold, or chosen by it.
        DatasetError: there are none, or no RSNA images, or these lack their classes.
    """
    if not 0 <= fold < FOLDS:
        raise DatasetError(f"fold {fold}: folds are numbered 0 to {FOLDS - 1}")
    manifest = load_manifest()
    for member in manifest.ensemble(ensemble).members:
        _check_unseen(member, manifest.seen_by(member), fold)
    images = datasets.load(data).folds([fold]).where(lambda image: not image.uncertain)
    rsna = images.of_source("rsna")
    if not rsna.images:
        raise DatasetError(f"{data}: has no RSNA image in fold {fold}, whose metric this is")
    if not all(image.category for image in rsna.images):
        raise DatasetError(
            f"{data}: RSNA's figures are by class, and stage_2_detailed_class_info.csv, which "
            "gives them, is not there or lacks images"
        )
    return images


def _check_unseen(member: str, seen: frozenset[int] | None, fold: int) -> None:
    if seen is None:
        raise TrainedOnError(
            f"it is not known which folds {member} was trained on, so no figure would mean "
            "anything; enter it anew with `weights add ... --replace --folds 1,2,3,4`"
        )
    if fold in seen:
        unseen = [str(other) for other in range(FOLDS) if other not in seen]
        raise TrainedOnError(
            f"{member} was trained on fold {fold}, or chosen by its score there; "
            + (f"give one of {', '.join(unseen)}" if unseen else "and has seen all others")
        )
