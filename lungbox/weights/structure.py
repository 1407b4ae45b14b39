"""Whether a weight file is whole, by what it says of itself: for files whose hash is not known."""

from pathlib import Path

from lungbox.weights.content import Format, fault_of_content
from lungbox.weights.files import WeightsError, read_shapes
from lungbox.weights.keras2 import check_whole


def fault_of_structure(path: Path, form: Format) -> str:
    """Why the file cannot be whole weights in this form; empty where it can.

    What it holds may still have changed, which only a hash tells.
    """
    if reason := fault_of_content(path, form):
        return reason
    try:
        if form == "keras2":
            check_whole(path)
        else:
            read_shapes(path)
    except WeightsError as error:
        return "is not whole: " + str(error).removeprefix(f"{path}: ")
    return ""
