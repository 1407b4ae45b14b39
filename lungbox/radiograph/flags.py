"""Whether a DICOM header speaks against a frontal chest radiograph.

Such a file is read all the same, for headers are often wrong, and its findings carry the reason.
"""

import re

from pydicom import Dataset
from pydicom.multival import MultiValue

from lungbox.constants import MAX_FLAG
from lungbox.radiograph.types import one_line

# Projection radiography, and the two that say nothing about how an image came to be.
_MODALITIES = {"CR", "DX", "DR", "RG", "RF", "XR", "SC", "OT", ""}
_CHEST = ("CHEST", "THORAX", "TORAX", "THORACIC", "LUNG", "CXR", "RIB")
_LATERAL_WORDS = re.compile(r"\b(LAT|LATERAL)\b")
_FRONTAL_WORDS = re.compile(r"\b(AP|PA|FRONTAL)\b")  # "CHEST PA AND LATERAL" may be either


def not_frontal_chest(header: Dataset) -> str:
    """Why this may be no frontal chest radiograph; empty where nothing says so.

    One line of at most `MAX_FLAG` characters.
    """
    return one_line(_reason(header), MAX_FLAG)


def _reason(header: Dataset) -> str:
    modality = _text(header, "Modality")
    if modality not in _MODALITIES:
        return f"modality {modality}"
    body_part = _text(header, "BodyPartExamined")
    if body_part and not any(word in body_part for word in _CHEST):
        return f"body part {body_part}"
    view = _text(header, "ViewPosition")
    if view:
        return "" if _FRONTAL_WORDS.search(view) else f"view {view}"
    codes = header.get("ViewCodeSequence")
    view_code = _text(codes[0], "CodeMeaning") if codes else ""
    for words in (view_code, _text(header, "SeriesDescription")):
        if _LATERAL_WORDS.search(words) and not _FRONTAL_WORDS.search(words):
            return f"view {words}"
    return ""


def _text(header: Dataset, name: str) -> str:
    value = header.get(name) or ""
    parts = value if isinstance(value, MultiValue) else [value]
    return " ".join(str(part).strip() for part in parts).upper()
