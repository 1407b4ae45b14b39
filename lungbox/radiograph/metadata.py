"""Attributes of a DICOM header: for labels, for results that refer to it, and against its view.

Text is taken from the bytes in the file, which is faster than pydicom's own elements and does not
warn of each age without its unit, as RSNA's files have it.
"""

import math
import re
from typing import Any

from pydicom import Dataset
from pydicom.charset import decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.valuerep import TEXT_VR_DELIMS

from lungbox.constants import MAX_FLAG
from lungbox.radiograph.types import HeaderMetadata, SourceMetadata, single_line

_AGE = re.compile(r"0*(\d+)\s*([DWMY]?)", re.IGNORECASE)
_PER_YEAR = {"D": 365, "W": 52, "M": 12, "Y": 1, "": 1}
# Public data has ages such as 148 and 413; nobody is known to have reached 125.
_MAX_AGE = 124
_UID = re.compile(r"[0-9.]{1,64}")
# Projection radiography, and the two that do not tell how an image was made.
_MODALITIES = {"CR", "DX", "DR", "RG", "RF", "XR", "SC", "OT", ""}
_CHEST = ("CHEST", "THORAX", "TORAX", "THORACIC", "LUNG", "CXR", "RIB")
_LATERAL = re.compile(r"\b(LAT|LATERAL)\b")
_FRONTAL = re.compile(r"\b(AP|PA|FRONTAL)\b")  # "CHEST PA AND LATERAL" may be either


def header_metadata(header: Dataset) -> HeaderMetadata:
    """What labels need of a DICOM header, which must have `Rows` and `Columns`."""
    return HeaderMetadata(
        size=(int(header.Columns), int(header.Rows)),
        view=view(_text(header, "ViewPosition")),
        sex=sex(_text(header, "PatientSex")),
        age=age(_text(header, "PatientAge")),
        patient=_text(header, "PatientID"),
    )


def source_metadata(header: Dataset) -> SourceMetadata:
    """What results need to refer to a DICOM image; an element that is damaged is left empty."""
    orientation = _text(header, "PatientOrientation")
    return SourceMetadata(
        sop_instance_uid=_uid(header, "SOPInstanceUID"),
        sop_class_uid=_uid(header, "SOPClassUID"),
        study_instance_uid=_uid(header, "StudyInstanceUID"),
        series_instance_uid=_uid(header, "SeriesInstanceUID"),
        frame_of_reference_uid=_uid(header, "FrameOfReferenceUID"),
        rows=int(header.Rows),
        columns=int(header.Columns),
        photometric_interpretation=_text(header, "PhotometricInterpretation"),
        pixel_spacing=_spacing(header, "PixelSpacing"),
        imager_pixel_spacing=_spacing(header, "ImagerPixelSpacing"),
        image_laterality=_text(header, "ImageLaterality"),
        view_position=_text(header, "ViewPosition"),
        patient_orientation=tuple(map(str.strip, orientation.split("\\"))) if orientation else (),
        patient_id=_text(header, "PatientID"),
        study_id=_text(header, "StudyID"),
        accession_number=_text(header, "AccessionNumber"),
    )


def not_frontal_chest(header: Dataset) -> str:
    """Why a header may not be a frontal chest radiograph's; empty where it gives no reason.

    One line of at most `MAX_FLAG` characters. The image is read all the same, for headers are
    often wrong.
    """
    return single_line(_reason(header), MAX_FLAG)


def view(text: str) -> str:
    """`AP` or `PA` where exactly one of them is named, and else nothing.

    >>> view("ap portable"), view("LL")
    ('AP', '')
    """
    named = set(re.findall(r"\b(AP|PA)\b", text.upper()))
    return named.pop() if len(named) == 1 else ""


def sex(text: str) -> str:
    """`M` or `F`, and else nothing.

    >>> sex("female"), sex("O")
    ('F', '')
    """
    first = text.strip().upper()
    return first[0] if first in ("M", "F", "MALE", "FEMALE") else ""


def age(text: str) -> int:
    """Full years; -1 where it is no age, or one that nobody reaches.

    >>> age("058Y"), age("58"), age("018M"), age("413")
    (58, 58, 1, -1)
    """
    match = _AGE.fullmatch(text.strip().removesuffix(".0"))
    if match is None:
        return -1
    years = int(match[1]) // _PER_YEAR[match[2].upper()]
    return years if years <= _MAX_AGE else -1


def _reason(header: Dataset) -> str:
    modality = _upper(header, "Modality")
    if modality not in _MODALITIES:
        return f"modality {modality}"
    body_part = _upper(header, "BodyPartExamined")
    if body_part and not any(word in body_part for word in _CHEST):
        return f"body part {body_part}"
    view_position = _upper(header, "ViewPosition")
    if view_position:
        return "" if _FRONTAL.search(view_position) else f"view {view_position}"
    codes = header.get("ViewCodeSequence")
    view_code = _upper(codes[0], "CodeMeaning") if codes else ""
    for text in (view_code, _upper(header, "SeriesDescription")):
        if _LATERAL.search(text) and not _FRONTAL.search(text):
            return f"view {text}"
    return ""


def _upper(header: Dataset, name: str) -> str:
    value = header.get(name) or ""
    values = value if isinstance(value, MultiValue) else [value]
    return " ".join(str(part).strip() for part in values).upper()


def _text(header: Dataset, name: str) -> str:
    """An element as text, several values with backslashes between them; empty where absent."""
    element = header.get_item(tag_for_keyword(name), keep_deferred=True)  # type: ignore[arg-type]
    value: Any = getattr(element, "value", None)
    if isinstance(value, bytes):
        text = _decode(header, value)
    elif isinstance(value, MultiValue | list | tuple):
        text = "\\".join(map(str, value))
    else:
        text = str(value or "")
    return text.strip(" \0\n\t")


def _decode(header: Dataset, value: bytes) -> str:
    """Text in the header's Specific Character Set."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode()
    named = header.original_character_set or "iso8859"
    encodings = [named] if isinstance(named, str) else list(named)
    if b"\x1b" in value:  # which changes to another of the encodings
        return decode_bytes(value, encodings, TEXT_VR_DELIMS)
    return value.decode(encodings[0], "replace")


def _uid(header: Dataset, name: str) -> str:
    text = _text(header, name)
    return text if _UID.fullmatch(text) else ""


def _spacing(header: Dataset, name: str) -> tuple[float, float] | None:
    try:
        row, column = map(float, _text(header, name).split("\\"))
    except ValueError:
        return None
    return (row, column) if 0 < row < math.inf and 0 < column < math.inf else None
