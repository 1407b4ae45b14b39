"""Labels and files brought together, the same way for every layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.boxes import geometry
from lungbox.datasets import audit
from lungbox.datasets.audit import BoxLabel
from lungbox.datasets.headers import read_headers
from lungbox.datasets.types import Dataset, DatasetError, Fault, LabelledRadiograph
from lungbox.radiograph import Facts


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
    faults: list[Fault],
    say: Console | None,
) -> Dataset:
    """One item for every label that has a readable file, sorted by identity.

    Args:
        source: the data set.
        folder: holds it.
        labels: one for each image.
        files: by identity; several names may lead to one file.
        faults: found already; those found here are added behind them.
        say: where a bar is shown while headers are read.

    Raises:
        DatasetError: no label has a file.
    """
    found = []
    for label in sorted(labels, key=lambda label: label.identity):
        if label.identity in files:
            found.append((label, files[label.identity]))
        else:
            said = f"{label.identity}: labelled, but there is no image of that name"
            faults.append(Fault("label without file", label.where, said))
    faults += audit.unlabelled(files.values(), (path for _, path in found))
    facts, unreadable = read_headers(folder, [path for _, path in found], say)
    patients = _patients([(label, facts[path]) for label, path in found if path in facts])
    images = []
    for label, path in found:
        if path in facts:
            images.append(_one(source, label, path, facts[path], patients[label.identity], faults))
        else:
            faults.append(Fault("unreadable file", path, unreadable[path]))
    if not images:
        raise DatasetError(f"{folder}: none of the images named in its labels is there")
    return Dataset(tuple(images), tuple(faults))


def _one(
    source: str, label: Label, path: Path, facts: Facts, patient: str, faults: list[Fault]
) -> LabelledRadiograph:
    space = label.space or facts.size
    boxes, wrong = audit.sound_boxes(label.boxes, space)
    faults += wrong
    return LabelledRadiograph(
        identity=label.identity,
        path=path,
        source=source,
        size=facts.size,
        boxes=geometry.scale(boxes, space, facts.size),
        target=len(boxes) > 0,
        category=label.category,
        patient=patient,
        fold=label.fold,
        uncertain=len(boxes) == 0 and (label.positive or len(label.boxes) > 0),
        view=label.view or facts.view,
        sex=label.sex or facts.sex,
        age=label.age if label.age >= 0 else facts.age,
        equalised=label.equalised,
    )


def _patients(found: Sequence[tuple[Label, Facts]]) -> dict[str, str]:
    """Whom each image shows: as the tables say, else the headers, else the study or the image."""
    named = {facts.patient for _, facts in found if facts.patient}
    # One name for all is an anonymiser's, and says nothing.
    trusted = len(named) > 1
    of_study: dict[str, str] = {}
    for label, facts in found:
        if trusted and label.study and facts.patient:
            of_study.setdefault(label.study, facts.patient)
    return {
        label.identity: label.patient
        or of_study.get(label.study, "")
        or label.study
        or (facts.patient if trusted else "")
        or label.identity
        for label, facts in found
    }
