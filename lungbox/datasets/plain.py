"""A folder of your own: images, anywhere in it, and one table of boxes."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rich.console import Console

from lungbox.datasets.images import image_files
from lungbox.datasets.issues import BoxLabel
from lungbox.datasets.labels import Label, match_files
from lungbox.datasets.tables import Row, fold, read_rows
from lungbox.datasets.types import LUNG_OPACITY, Dataset, DatasetError, DatasetInfo, LabelIssue
from lungbox.radiograph import identity

BOXES = "boxes.csv"
INFO = DatasetInfo(
    name="plain",
    title="plain",
    files=f"{BOXES} with images anywhere beside or below it (a folder of your own)",
)


def matches(folder: Path) -> bool:
    """Whether `folder` has the table; other layouts may have one of that name, too."""
    return (folder / BOXES).is_file()


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load a folder of images with `boxes.csv`.

    Args:
        folder: holds `boxes.csv` (`image_id, x, y, width, height` in pixels of the file, a row
            for each box; one row with blank numbers for an image without finding; optionally
            `class`, `patient` and `fold`) and the images. `image_id` is the file's name, with or
            without its ending, or its path below the folder where several files share a name.
            `class` is of the box, and of the image where it has none.
        console: where a progress bar is shown while headers are read.

    Returns:
        The images that have a file, sorted by identity. Its class names are those of its boxes,
        sorted; `lung opacity` where the table names none.

    Raises:
        DatasetError: the table lacks a column, or no image of it is there.
    """
    issues: list[LabelIssue] = []
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(folder / BOXES, ("image_id", "x", "y", "width", "height"), issues):
        rows[_name(row.get("image_id"))].append(row)
    labels = [_label(name, of_image, issues) for name, of_image in rows.items()]
    files = _files(folder, set(rows), issues)
    if not files:
        raise DatasetError(f"{folder}: has {BOXES}, but no DICOM, PNG or JPEG file in it")
    names = sorted({box.name for label in labels for box in label.boxes})
    info = replace(INFO, class_names=tuple(names) or INFO.class_names)
    return match_files(info, folder, labels, files, issues, console)


def _label(name: str, rows: list[Row], issues: list[LabelIssue]) -> Label:
    boxes = []
    for row in rows:
        box = BoxLabel.of(row, name, row.get("class", LUNG_OPACITY))
        if not box.blank:
            boxes.append(box)
        elif len(rows) > 1:
            what = "a row without a box, among others of the same image; left out"
            issues.append(row.issue("contradiction", what, name))
    return Label(
        identity=name,
        where=rows[0].where,
        boxes=boxes,
        positive=False,
        category=next((row.get("class") for row in rows if row.get("class")), ""),
        patient=_same("patient", name, rows, issues),
        fold=fold(replace(rows[0], cells={"fold": _same("fold", name, rows, issues)}), issues),
    )


def _same(column: str, name: str, rows: list[Row], issues: list[LabelIssue]) -> str:
    """The value of a column in the rows of an image: the first that is not blank."""
    values = list(dict.fromkeys(row.get(column) for row in rows if row.get(column)))
    if len(values) > 1:
        issues.append(rows[0].issue("contradiction", f"{column} is {' and '.join(values)}", name))
    return values[0] if values else ""


def _name(written: str) -> str:
    """An image's name, or its path below the folder, without a known ending."""
    path = PurePosixPath(written.replace("\\", "/"))
    return str(path.with_name(identity(Path(path.name)))) if path.name else written


def _files(folder: Path, wanted: set[str], issues: list[LabelIssue]) -> dict[str, Path]:
    """Files by their path below the folder, and by their name where no other has it."""
    files: dict[str, Path] = {}
    named: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(folder):
        below = _name(path.relative_to(folder).as_posix())
        first = files.setdefault(below, path)
        if first != path:
            issues.append(LabelIssue("duplicate file name", path, f"named like {first}; left out"))
            continue
        named[identity(path)].append(path)
    for name, paths in named.items():
        if len(paths) == 1:
            files.setdefault(name, paths[0])
        elif name in wanted and name not in files:
            what = "several files have this name; give each its path below the folder"
            issues.append(LabelIssue("duplicate file name", f"{BOXES}, {name}", what))
    return files
