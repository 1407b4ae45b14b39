"""What a radiograph is once it is read, and the error where it cannot be."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.common.equality import ValueEquality
from lungbox.constants import IMAGE_ENDINGS, MAX_REASON
from lungbox.errors import LungboxError


class RadiographError(LungboxError):
    """A file cannot be read as a radiograph.

    The message is one sentence on one line: what is wrong and what to do, without the file's name.
    """

    def __init__(self, message: str) -> None:
        # Parts of it come out of the file.
        super().__init__(single_line(message, MAX_REASON))


def single_line(text: str, max_length: int) -> str:
    r"""Text of a file or a library for one cell of a table: one line, printable, not too long.

    >>> single_line("two\nlines", 100), single_line("a long one", 6)
    ('two lines', 'a l...')
    """
    start = text[: 4 * max_length]  # enough of what may be a file's complete content
    printable = "".join(c if c.isprintable() else " " for c in start)
    words = " ".join(printable.split())
    return words if len(words) <= max_length else words[: max_length - 3].rstrip() + "..."


def short_message(error: Exception) -> str:
    r"""The message of a library's exception in a few words; its name where there is no message.

    >>> short_message(ValueError("bad Rows:\n  details")), short_message(KeyError())
    ('bad Rows', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydicom lists each decoder's message below its first line.
    if len(lines) > 1 and lines[0].startswith("Unable to decode"):
        lines = lines[1:]
    return "".join(lines[:1]).rstrip(".:")[:200] or type(error).__name__


@dataclass(frozen=True)
class HeaderMetadata:
    """What labels need of a file, known before its pixels are read.

    Attributes:
        size: width and height, in pixels.
        view: `AP` or `PA`, or empty.
        sex: `M` or `F`, or empty.
        age: in years, or -1.
        patient: the header's Patient ID, or empty.
    """

    size: tuple[int, int]
    view: str = ""
    sex: str = ""
    age: int = -1
    patient: str = field(default="", repr=False)


@dataclass(frozen=True)
class SourceMetadata:
    """Attributes of a radiograph's DICOM header, for results that refer to it.

    As they stand in the header; empty or None where absent, damaged or not DICOM. Lungbox writes
    none of them into result files, and `repr` leaves out what identifies the patient.

    Example:
        >>> SourceMetadata(rows=2500, columns=2048, patient_id="12345").patient_id
        '12345'

    Attributes:
        sop_instance_uid: SOP Instance UID (0008,0018).
        sop_class_uid: SOP Class UID (0008,0016).
        study_instance_uid: Study Instance UID (0020,000D).
        series_instance_uid: Series Instance UID (0020,000E).
        frame_of_reference_uid: Frame of Reference UID (0020,0052).
        rows: height in pixels.
        columns: width in pixels.
        photometric_interpretation: such as `MONOCHROME1`; `Radiograph.pixels` are inverted already.
        pixel_spacing: Pixel Spacing (0028,0030): between rows and between columns, in mm, which
            may have been calibrated.
        imager_pixel_spacing: Imager Pixel Spacing (0018,1164): the same at the detector's plane,
            where the chest is magnified.
        image_laterality: Image Laterality (0020,0062), such as `U`.
        view_position: View Position (0018,5101), such as `PA`.
        patient_orientation: Patient Orientation (0020,0020): directions of rows and of columns,
            such as `("L", "F")`.
        patient_id: Patient ID (0010,0020).
        study_id: Study ID (0020,0010).
        accession_number: Accession Number (0008,0050).
    """

    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    frame_of_reference_uid: str = ""
    rows: int | None = None
    columns: int | None = None
    photometric_interpretation: str = ""
    pixel_spacing: tuple[float, float] | None = None
    imager_pixel_spacing: tuple[float, float] | None = None
    image_laterality: str = ""
    view_position: str = ""
    patient_orientation: tuple[str, ...] = ()
    patient_id: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Radiograph(ValueEquality):
    """One radiograph as it was read.

    Example:
        >>> radiograph = Radiograph(np.zeros((2500, 2048), np.uint8), Path("chest/1.2.3.dcm"))
        >>> radiograph.size, radiograph.identity
        ((2048, 2500), '1.2.3')

    Attributes:
        pixels: `(H, W)` uint8, black 0, air dark (MONOCHROME1 is inverted on reading).
        path: the file; None where it was read from memory.
        flag: why this may not be a frontal chest radiograph, from its DICOM header; empty
            where the header gives no reason.
        metadata: attributes of its DICOM header; empty for other formats.
    """

    pixels: NDArray[np.uint8]
    path: Path | None = None
    flag: str = ""
    metadata: SourceMetadata = SourceMetadata()

    @property
    def identity(self) -> str:
        """The file's name without a known image ending; empty where there is no file."""
        return identity(self.path) if self.path is not None else ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.pixels.shape
        return width, height


def identity(path: Path) -> str:
    """A file's name without a known image ending (.dcm .dicom .png .jpg .jpeg, any case).

    Nothing else is stripped: `1.2.840.113619` keeps all its parts.

    >>> identity(Path("a/1.2.840.113619.DCM"))
    '1.2.840.113619'
    >>> identity(Path("a/1.2.840.113619"))
    '1.2.840.113619'
    """
    name = path.name
    for ending in IMAGE_ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name
