"""The formats of exported ensembles, and the packages that each needs."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from lungbox.errors import LungboxError, suggest

Format = Literal["onnx", "openvino", "savedmodel", "litert"]
# Name of the metadata inside a file, and of the network's input.
METADATA, INPUT = "lungbox", "radiograph"


class ExportError(LungboxError):
    """An ensemble cannot be exported; the message says why."""


@dataclass(frozen=True)
class FormatInfo:
    """A format of exported ensembles.

    Attributes:
        title: its name, for messages.
        ending: added to the ensemble's name where no output path is given.
        modules: the modules that exporting and verifying import.
        from_jax: whether the JAX backend can export it.
    """

    title: str
    ending: str
    modules: tuple[str, ...]
    from_jax: bool = False


FORMATS: dict[Format, FormatInfo] = {
    "onnx": FormatInfo("ONNX", ".onnx", ("tensorflow", "onnx", "tf2onnx", "onnxruntime")),
    "openvino": FormatInfo("OpenVINO", "_openvino", ("tensorflow", "openvino")),
    "savedmodel": FormatInfo("SavedModel", "_savedmodel", ("tensorflow",), from_jax=True),
    "litert": FormatInfo("LiteRT", ".tflite", ("tensorflow", "ai_edge_litert")),
}


def format_info(form: Format) -> FormatInfo:
    """The entry of a format whose packages are installed.

    Raises:
        ExportError: there is no such format, or a package it needs is not installed.
    """
    if form not in FORMATS:
        raise ExportError(f"there is no format {form}; {suggest(form, FORMATS)}")
    info = FORMATS[form]
    if missing := [name for name in info.modules if not find_spec(name)]:
        raise ExportError(
            f"{info.title} needs {' and '.join(missing)}: pip install 'lungbox[export]'"
        )
    return info
