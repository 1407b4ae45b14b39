"""What a DICOM header says of a radiograph and its patient, in the few words that labels need."""

import re
from dataclasses import dataclass

from pydicom import Dataset

_AGE = re.compile(r"0*(\d+)\s*([DWMY]?)", re.IGNORECASE)
_PER_YEAR = {"D": 365, "W": 52, "M": 12, "Y": 1, "": 1}
# Public data has ages such as 148 and 413; nobody is known to have reached 125.
_OLDEST = 124


@dataclass(frozen=True)
class Facts:
    """What is known of a file before its pixels are read.

    Attributes:
        size: width and height, in pixels.
        view: `AP` or `PA`, or empty.
        sex: `M` or `F`, or empty.
        age: in years, or -1.
        patient: the header's PatientID, or empty.
    """

    size: tuple[int, int]
    view: str = ""
    sex: str = ""
    age: int = -1
    patient: str = ""


def facts_of(header: Dataset) -> Facts:
    """The facts of a DICOM header that has `Rows` and `Columns`."""
    return Facts(
        size=(int(header.Columns), int(header.Rows)),
        view=view(_text(header, "ViewPosition")),
        sex=sex(_text(header, "PatientSex")),
        age=age(_text(header, "PatientAge")),
        patient=_text(header, "PatientID"),
    )


def view(written: str) -> str:
    """`AP` or `PA` where exactly one of them is named, and else nothing.

    >>> view("ap portable"), view("LL")
    ('AP', '')
    """
    named = set(re.findall(r"\b(AP|PA)\b", written.upper()))
    return named.pop() if len(named) == 1 else ""


def sex(written: str) -> str:
    """`M` or `F`, and else nothing.

    >>> sex("female"), sex("O")
    ('F', '')
    """
    first = written.strip().upper()
    return first[0] if first in ("M", "F", "MALE", "FEMALE") else ""


def age(written: str) -> int:
    """Whole years; -1 where it is no age, or one that nobody reaches.

    >>> age("058Y"), age("58"), age("018M"), age("413")
    (58, 58, 1, -1)
    """
    match = _AGE.fullmatch(written.strip().removesuffix(".0"))
    if match is None:
        return -1
    years = int(match[1]) // _PER_YEAR[match[2].upper()]
    return years if years <= _OLDEST else -1


def _text(header: Dataset, name: str) -> str:
    """An element as it stands in the file: pydicom would warn of each age without its unit, which
    is how RSNA's files have them."""
    if name not in header:
        return ""
    value = header.get_item(name).value
    written = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return written.strip(" \0\n\t")
