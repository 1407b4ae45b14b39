"""Export of ensembles to ONNX, OpenVINO, SavedModel and LiteRT."""

from lungbox.export.run import ExportResult, export
from lungbox.export.types import FORMATS, ExportError, Format

__all__ = ["FORMATS", "ExportError", "ExportResult", "Format", "export"]
