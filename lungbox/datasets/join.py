"""Labels and files brought together, the same way for every layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.boxes import geometry
from lungbox.datasets import audit
from lungbox.datasets.audit import BoxLabel
from lungbox.datasets.headers import read_headers
from lungbox.datasets.types import Dataset, DatasetError, LabelIssue, LabelledRadiograph
from lungbox.radiograph import HeaderMetadata


@dataclass(frozen=True)
class Label:
    """What a layout's tables say of one image. What is blank is taken from the file's header.

    Attributes:
        identity: names the image.
        where: the table, and the line where there is one.
        boxes: as they were written down.
        positive: whether it is said to show something, be there a box or not.
        space: width and height of the image its boxes are drawn on; None for the file itself.
        study: images that share one are of one patient.
        category, patient, fold, view, sex, age, equalised: see `LabelledRadiograph`.
    """

    identity: str
    where: str
    boxes: Sequence[BoxLabel]
    positive: bool
    space: tuple[float, float] | None = None
    category: str = ""
    patient: str = ""
    study: str = ""
    fold: int = -1
    view: str = ""
    sex: str = ""
    age: int = -1
    equalised: bool = False


def join(
    source: str,
    folder: Path,
    labels: Sequence[Label],
    files: Mapping[str, Path],
    issues: list[LabelIssue],
    console: Console | None,
) -> Dataset:
    """One item for every label that has a readable file, sorted by identity.

    Args:
        source: the data set.
        folder: holds it.
        labels: one for each image.
        files: by identity; several names may lead to one file.
        issues: found already; those found here are added behind them.
        console: where a bar is shown while headers are read.

    Raises:
        DatasetError: no label has a file.
    """
    found = []
    for label in sorted(labels, key=lambda label: label.identity):
        if label.identity in files:
            found.append((label, files[label.identity]))
        else:
            said = f"{label.identity}: labelled, but there is no image of that name"
            issues.append(LabelIssue("label without file", label.where, said))
    issues += audit.unlabelled(files.values(), (path for _, path in found))
    metadata, unreadable = read_headers(folder, [path for _, path in found], console)
    patients = _patients([(label, metadata[path]) for label, path in found if path in metadata])
    images = []
    for label, path in found:
        if path in metadata:
            images.append(
                _one(source, label, path, metadata[path], patients[label.identity], issues)
            )
        else:
            issues.append(LabelIssue("unreadable file", path, unreadable[path]))
    if not images:
        raise DatasetError(f"{folder}: none of the images named in its labels is there")
    return Dataset(tuple(images), tuple(issues))


def _one(
    source: str,
    label: Label,
    path: Path,
    metadata: HeaderMetadata,
    patient: str,
    issues: list[LabelIssue],
) -> LabelledRadiograph:
    space = label.space or metadata.size
    boxes, wrong = audit.valid_boxes(label.boxes, space)
    issues += wrong
    return LabelledRadiograph(
        identity=label.identity,
        path=path,
        source=source,
        size=metadata.size,
        boxes=geometry.scale(boxes, space, metadata.size),
        target=len(boxes) > 0,
        category=label.category,
        patient=patient,
        fold=label.fold,
        uncertain=len(boxes) == 0 and (label.positive or len(label.boxes) > 0),
        view=label.view or metadata.view,
        sex=label.sex or metadata.sex,
        age=label.age if label.age >= 0 else metadata.age,
        equalised=label.equalised,
    )


def _patients(found: Sequence[tuple[Label, HeaderMetadata]]) -> dict[str, str]:
    """Whom each image shows: as the tables say, else the headers, else the study or the image."""
    named = {metadata.patient for _, metadata in found if metadata.patient}
    # One name for all is an anonymiser's, and says nothing.
    trusted = len(named) > 1
    of_study: dict[str, str] = {}
    for label, metadata in found:
        if trusted and label.study and metadata.patient:
            of_study.setdefault(label.study, metadata.patient)
    return {
        label.identity: label.patient
        or of_study.get(label.study, "")
        or label.study
        or (metadata.patient if trusted else "")
        or label.identity
        for label, metadata in found
    }
