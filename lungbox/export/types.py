"""The formats an ensemble can be exported to, and what each needs."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from lungbox.errors import LungboxError, hint

Format = Literal["onnx", "openvino", "savedmodel", "litert"]
# What the metadata is called inside a file; the file beside it is called after the export.
METADATA = "lungbox"
INPUT, MASK, IMAGE = "radiograph", "mask", "image"


class ExportError(LungboxError):
    """An ensemble cannot be exported; the message says why."""


@dataclass(frozen=True)
class Kind:
    """One format.

    Attributes:
        title: its own name, for messages.
        ending: added to the ensemble's name where no path is given.
        modules: what writing and checking it imports.
        from_jax: whether a network that runs on JAX can be written in it.
    """

    title: str
    ending: str
    modules: tuple[str, ...]
    from_jax: bool = False


FORMATS: dict[Format, Kind] = {
    "onnx": Kind("ONNX", ".onnx", ("tensorflow", "onnx", "tf2onnx", "onnxruntime")),
    "openvino": Kind("OpenVINO", "_openvino", ("tensorflow", "openvino")),
    "savedmodel": Kind("SavedModel", "_savedmodel", ("tensorflow",), from_jax=True),
    "litert": Kind("LiteRT", ".tflite", ("tensorflow", "ai_edge_litert")),
}


def kind(form: Format) -> Kind:
    """What is known of a format.

    Raises:
        ExportError: there is none of that name, or something it needs is not installed.
    """
    if form not in FORMATS:
        raise ExportError(f"there is no format {form}; {hint(form, FORMATS)}")
    known = FORMATS[form]
    if missing := [name for name in known.modules if not find_spec(name)]:
        raise ExportError(
            f"{known.title} needs {' and '.join(missing)}, not installed here: "
            "pip install 'lungbox[export]'"
        )
    return known
