"""Labels of one image, and their image files: matched the same way for every layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.boxes import geometry
from lungbox.datasets.findings import FindingLabels, abnormality
from lungbox.datasets.headers import read_headers
from lungbox.datasets.issues import BoxLabel, files_without_label, valid_boxes
from lungbox.datasets.types import (
    Dataset,
    DatasetError,
    DatasetInfo,
    LabelIssue,
    LabelledRadiograph,
)
from lungbox.radiograph import HeaderMetadata


@dataclass(frozen=True)
class Label:
    """The labels of one image in its data set's tables. Blank fields come from the file's header.

    Attributes:
        identity: names the image.
        where: the table, and the line where there is one.
        boxes: as they are written in the table.
        positive: whether it is labelled as positive, with a box or without.
        space: width and height of the image its boxes are drawn on; None for the file itself.
        study: images that share one are of one patient.
        findings: image-level labels, without `abnormal`, which follows from the category.
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
    findings: FindingLabels = ()


def match_files(
    info: DatasetInfo,
    folder: Path,
    labels: Sequence[Label],
    files: Mapping[str, Path],
    issues: list[LabelIssue],
    console: Console | None,
) -> Dataset:
    """The labelled images that have a readable file, sorted by identity.

    Args:
        info: the data set.
        folder: holds it.
        labels: one for each image.
        files: by identity; several names may lead to one file.
        issues: found before; those found here are appended.
        console: where a bar is shown while headers are read.

    Raises:
        DatasetError: no label has a file.
    """
    found = []
    for label in sorted(labels, key=lambda label: label.identity):
        if label.identity in files:
            found.append((label, files[label.identity]))
        else:
            what = f"{label.identity}: labelled, but there is no image of that name"
            issues.append(LabelIssue("label without file", label.where, what))
    issues += files_without_label(files.values(), (path for _, path in found))
    metadata, unreadable = read_headers(folder, [path for _, path in found], console)
    patients = _patients([(label, metadata[path]) for label, path in found if path in metadata])
    images = []
    for label, path in found:
        if path in metadata:
            patient = patients[label.identity]
            images.append(_image(info, label, path, metadata[path], patient, issues))
        else:
            issues.append(LabelIssue("unreadable file", path, unreadable[path]))
    if not images:
        raise DatasetError(f"{folder}: none of the images named in its labels is there")
    return Dataset(tuple(images), tuple(issues), info.class_names)


def _image(
    info: DatasetInfo,
    label: Label,
    path: Path,
    metadata: HeaderMetadata,
    patient: str,
    issues: list[LabelIssue],
) -> LabelledRadiograph:
    space = label.space or metadata.size
    boxes, kept, found = valid_boxes(label.boxes, space)
    issues += found
    abnormal = abnormality(label.category, info.normal, info.abnormal, len(boxes) > 0)
    return LabelledRadiograph(
        identity=label.identity,
        path=path,
        source=info.name,
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
        labels=tuple(box.name for box in kept),
        readers=tuple(box.reader for box in kept) if any(box.reader for box in kept) else (),
        findings=(*abnormal, *label.findings),
    )


def _patients(found: Sequence[tuple[Label, HeaderMetadata]]) -> dict[str, str]:
    """The patient of each image: of the tables, else of the headers, else its study or itself."""
    named = {metadata.patient for _, metadata in found if metadata.patient}
    # One name for all files comes from an anonymiser.
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
