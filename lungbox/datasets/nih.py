"""NIH ChestX-ray14: radiographs that are not in RSNA's challenge, with a kind of label each."""

from pathlib import Path

from rich.console import Console

from lungbox.datasets.findings import nih_findings, unknown_nih_findings
from lungbox.datasets.images import find_images
from lungbox.datasets.labels import Label, match_files
from lungbox.datasets.tables import Row, fold, number, read_rows
from lungbox.datasets.types import Dataset, DatasetInfo, LabelIssue
from lungbox.radiograph.metadata import age, sex, view

IMAGES = "nih_images.csv"
# Radiologists saw no airspace opacity (Majkowska et al., Radiology 294, 2020).
_NORMAL, _ABNORMAL = "expert_no_opacity_normal", "expert_no_opacity_abnormal"
# Read as a wider notion of opacity than the challenge's, or text-mined labels alone.
_UNCERTAIN = (
    "expert_opacity",
    "nih_no_finding",
    "nih_abnormal_no_opacity_label",
    "nih_opacity_label",
)
INFO = DatasetInfo(
    name="nih",
    title="NIH ChestX-ray14",
    files=f"{IMAGES} with images/ (NIH ChestX-ray14)",
    categories=(_NORMAL, _ABNORMAL, *_UNCERTAIN),
    negatives={"normal": _NORMAL, "abnormal": _ABNORMAL},
)


def matches(folder: Path) -> bool:
    """Whether `folder` has the table."""
    return (folder / IMAGES).is_file()


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load NIH's images. None has a box: an image is without opacity, or uncertain.

    Args:
        folder: holds `nih_images.csv` (`image_id, kind, fold, group`, optionally `ViewPosition,
            PatientAge, PatientSex, equalised, nih_labels, findings_read`: the 14 findings of the
            reports, and of readers, which count where there are both) and `images/`. `kind` is the
            image's category; images of two kinds, which radiologists read as without opacity, are
            negatives.
        console: where a progress bar is shown while headers are read.

    Returns:
        The images that have a file, sorted by identity.

    Raises:
        DatasetError: the table lacks a column, or the images are missing.
    """
    issues: list[LabelIssue] = []
    columns = ("image_id", "kind", "fold", "group")
    rows = read_rows(folder / IMAGES, columns, issues, once="image_id")
    labels = [_label(row, issues) for row in rows]
    files = find_images(folder, ("images",), issues)
    return match_files(INFO, folder, labels, files, issues, console)


def _label(row: Row, issues: list[LabelIssue]) -> Label:
    name, kind = row.get("image_id"), row.get("kind")
    if kind not in INFO.categories:
        what = f"its kind {kind or '(none)'} is not known; it is neither positive nor negative"
        issues.append(row.issue("unknown class", what, name))
    read, mined = row.get("findings_read"), row.get("nih_labels")
    for unknown in unknown_nih_findings(f"{read}|{mined}"):
        issues.append(row.issue("unknown finding", f"{unknown} is none of NIH's 14", name))
    return Label(
        identity=name,
        where=row.where,
        boxes=(),
        positive=kind not in (_NORMAL, _ABNORMAL),
        category=kind,
        patient=row.get("group", name),
        fold=fold(row, issues),
        view=view(row.get("ViewPosition")),
        sex=sex(row.get("PatientSex")),
        age=age(row.get("PatientAge")),
        equalised=number(row.get("equalised")) == 1,
        findings=nih_findings(read, of_readers=True) or nih_findings(mined),
    )
