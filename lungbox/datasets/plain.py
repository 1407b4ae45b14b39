"""A folder of images, wherever they lie in it, and one table of boxes."""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from rich.console import Console

from lungbox.datasets.audit import BoxLabel
from lungbox.datasets.images import image_files
from lungbox.datasets.join import Label, join
from lungbox.datasets.tables import Row, fold, read_table
from lungbox.datasets.types import Dataset, DatasetError, Fault
from lungbox.radiograph import identity

BOXES = "boxes.csv"
LOOKED_FOR = f"{BOXES} with images anywhere beside or below it (a folder of your own)"


def matches(folder: Path) -> bool:
    """Whether `folder` looks like a plain one; ask after all other layouts."""
    return (folder / BOXES).is_file()


def load(folder: Path, say: Console | None = None) -> Dataset:
    """Load a folder of images with `boxes.csv`.

    Args:
        folder: holds `boxes.csv` (`image_id, x, y, width, height` in pixels of the file, a row
            for each box; one row with blank numbers for an image without finding; optionally
            `class`, `patient` and `fold`) and the images. `image_id` is the file's name, with or
            without its ending, or its path below the folder where several files share a name.
        say: where a bar is shown while headers are read.

    Raises:
        DatasetError: the table lacks a column, or no image of it is there.
    """
    faults: list[Fault] = []
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(folder / BOXES, ("image_id", "x", "y", "width", "height"), faults):
        rows[_name(row.get("image_id"))].append(row)
    labels = [_label(name, of_image, faults) for name, of_image in rows.items()]
    files = _files(folder, set(rows), faults)
    if not files:
        raise DatasetError(f"{folder}: has {BOXES}, but no DICOM, PNG or JPEG file in it")
    return join("plain", folder, labels, files, faults, say)


def _label(name: str, rows: list[Row], faults: list[Fault]) -> Label:
    boxes = []
    for row in rows:
        values = (row.get("x"), row.get("y"), row.get("width"), row.get("height"))
        if any(values):
            boxes.append(BoxLabel(f"{row.where}, {name}", values))
        elif len(rows) > 1:
            said = "a row without a box, among others of the same image; left out"
            faults.append(Fault("contradiction", f"{row.where}, {name}", said))
    return Label(
        identity=name,
        where=rows[0].where,
        boxes=boxes,
        positive=False,
        category=_same("class", name, rows, faults),
        patient=_same("patient", name, rows, faults),
        fold=fold(Row(rows[0].where, {"fold": _same("fold", name, rows, faults)}), faults),
    )


def _same(column: str, name: str, rows: list[Row], faults: list[Fault]) -> str:
    """What the rows of an image say in a column: the first that is not blank."""
    said = list(dict.fromkeys(row.get(column) for row in rows if row.get(column)))
    if len(said) > 1:
        where = f"{rows[0].where}, {name}"
        faults.append(Fault("contradiction", where, f"{column} is {' and '.join(said)}"))
    return said[0] if said else ""


def _name(written: str) -> str:
    """An image's name, or its path below the folder, without a known ending."""
    path = PurePosixPath(written.replace("\\", "/"))
    return str(path.with_name(identity(Path(path.name)))) if path.name else written


def _files(folder: Path, wanted: set[str], faults: list[Fault]) -> dict[str, Path]:
    """Files by their path below the folder, and by their name where no other has it."""
    files: dict[str, Path] = {}
    named: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(folder):
        below = _name(path.relative_to(folder).as_posix())
        first = files.setdefault(below, path)
        if first != path:
            faults.append(Fault("doubled file", path, f"named like {first}; left out"))
            continue
        named[identity(path)].append(path)
    for name, paths in named.items():
        if len(paths) == 1:
            files.setdefault(name, paths[0])
        elif name in wanted and name not in files:
            said = "several files have this name; give each its path below the folder"
            faults.append(Fault("doubled file", f"{BOXES}, {name}", said))
    return files
