"""Whether a weight file is whole and finite, by what it says of itself: for files whose hash is not
known."""

from pathlib import Path

from lungbox.weights import files, keras2
from lungbox.weights.content import Format, fault_of_content
from lungbox.weights.files import WeightsError


def fault_of_structure(path: Path, form: Format) -> str:
    """Why the file cannot be whole and finite weights in this form; empty where it can.

    What it holds may still have changed, which only a hash tells.
    """
    if reason := fault_of_content(path, form):
        return reason
    try:
        if form == "keras2":
            keras2.check_whole(path)
        else:
            files.read_shapes(path)
    except WeightsError as error:
        return "is not whole: " + str(error).removeprefix(f"{path}: ")
    try:
        (keras2 if form == "keras2" else files).check_all_finite(path)
    except WeightsError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
