"""Image-level findings: what a radiograph shows beside lung opacity, where its data set says so."""

from collections import Counter
from collections.abc import Sequence

from lungbox.constants import NIH_FINDINGS, VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING

# The labels of an image that are known, with their probability 0-1.
FindingLabels = tuple[tuple[str, float], ...]

ABNORMAL = "abnormal"
# Two data sets' findings of one name stay apart: reports and boxes are different conventions.
_NIH = {name: f"NIH {name}" for name in NIH_FINDINGS}
_VINBIGDATA = {name: f"VinBigData {name}" for name in VINBIGDATA_CLASSES[:VINBIGDATA_NO_FINDING]}
# Every image-level finding, in the order of the training head's outputs.
FINDINGS = (ABNORMAL, *_NIH.values(), *_VINBIGDATA.values())
# Written in place of a finding where there is none of the list.
_NONE = {"No Finding", "Normal", "Other", ""}


def nih_findings(written: str, of_readers: bool = False) -> FindingLabels:
    """The 14 findings of a cell of NIH's: names with `|` between them, or `No Finding`.

    Names that are not among the 14 have no effect, see `unknown_nih_findings`; without any text,
    nothing is known.

    Args:
        written: the cell; `Pleural Thickening` may have a space or an underscore.
        of_readers: whether radiologists wrote it (Majkowska et al., Radiology 2020), whose list has
            no pneumonia: that is not known then.

    >>> dict(nih_findings("Effusion|Mass"))["NIH Mass"], len(nih_findings("No Finding"))
    (1.0, 14)
    >>> nih_findings("")
    ()
    """
    present = _names(written)
    if not written.strip():
        return ()
    known = {name: label for name, label in _NIH.items() if not of_readers or name != "Pneumonia"}
    return tuple((label, float(name in present)) for name, label in known.items())


def unknown_nih_findings(written: str) -> list[str]:
    """The names in a cell of NIH's findings that are not among the 14.

    >>> unknown_nih_findings("Effusion|Pleural Thickening|Efusion|Other")
    ['Efusion']
    """
    return sorted(_names(written) - set(_NIH) - _NONE)


def _names(written: str) -> set[str]:
    names = (name.strip() for name in written.split("|"))
    return {name if name in _NONE else name.replace(" ", "_") for name in names}


def share_of_readers(classes: Sequence[str], readers: Sequence[str]) -> FindingLabels:
    """VinBigData's 14 findings of an image, each with the share of its readers who marked it.

    Args:
        classes: of the image's rows, `No finding` among them.
        readers: who wrote each row.

    >>> found = share_of_readers(["ILD", "ILD", "No finding", "ILD"], ["R1", "R1", "R2", "R3"])
    >>> round(dict(found)["VinBigData ILD"], 3)
    0.667
    """
    marked = Counter(name for name, _ in set(zip(classes, readers, strict=True)))
    count = max(1, len(set(readers)))
    return tuple((label, marked[name] / count) for name, label in _VINBIGDATA.items())


def abnormality(category: str, normal: str, abnormal: str, positive: bool) -> FindingLabels:
    """Whether an image is abnormal at all, where that is known.

    Args:
        category: the image's class.
        normal: the data set's class of normal images; empty where it has none.
        abnormal: its class of images that are abnormal without opacity.
        positive: whether the image has a box.

    >>> abnormality("No Lung Opacity / Not Normal", "Normal", "No Lung Opacity / Not Normal", False)
    (('abnormal', 1.0),)
    >>> abnormality("Negative for Pneumonia", "", "", False)
    ()
    """
    if positive or (abnormal and category == abnormal):
        return ((ABNORMAL, 1.0),)
    return ((ABNORMAL, 0.0),) if normal and category == normal else ()
