"""Ensembles as files that other programs run: ONNX, OpenVINO, SavedModel, LiteRT."""

from lungbox.export.run import Exported, export
from lungbox.export.types import FORMATS, ExportError, Format

__all__ = ["FORMATS", "ExportError", "Exported", "Format", "export"]
