"""Exported files as inference engines: each runs in its own format's runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungbox.engines import BatchPrediction, EngineConfig
from lungbox.engines.base import pad_batch
from lungbox.export.convert import NETWORK_XML
from lungbox.export.types import INPUT, Format
from lungbox.weights.entries import Precision

# `(B, S, S, 1)` uint8 to outputs by name.
Run = Callable[[NDArray[np.uint8]], dict[str, Any]]
# A dynamic batch is tested with different sizes: eight images are batches of 3, 3 and 2.
_DYNAMIC = 3


class Runner:
    """An engine that runs an ensemble through a function of one batch; see `engines.Engine`.

    Attributes:
        name: of the runtime.
        config: the ensemble.
    """

    precision: Precision = "float32"

    def __init__(self, name: str, config: EngineConfig, run: Run, batch: int | None) -> None:
        self.name, self.config = name, config
        self._run, self._batch = run, batch

    def predict(self, images: NDArray[np.uint8]) -> BatchPrediction:
        """Predict any number of prepared images, `(N, S, S)`, batch by batch."""
        step = self._batch or _DYNAMIC
        parts = [self._part(images[row : row + step]) for row in range(0, len(images), step)]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return BatchPrediction.from_outputs(outputs, len(images), self.config)

    def _part(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        batch = pad_batch(images, self._batch) if self._batch else images
        outputs = self._run(np.ascontiguousarray(batch)[..., None])
        return {name: np.asarray(values)[: len(images)] for name, values in outputs.items()}


def open_file(form: Format, path: Path) -> Run:
    """Load an exported file in its own runtime."""
    return _OPENERS[form](path)


def _savedmodel(path: Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: NDArray[np.uint8]) -> dict[str, Any]:
        # The signature alone does not keep the model in memory.
        assert loaded is not None
        return serve(**{INPUT: tf.constant(images)})

    return run


def _litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    # The lambda keeps the interpreter alive; its runner does not.
    interpreter = Interpreter(model_path=str(path))
    return lambda images: interpreter.get_signature_runner()(**{INPUT: images})


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {INPUT: images}), strict=True))


def _openvino(path: Path) -> Run:
    from lungbox.engines.openvino import compile_model

    # Without the hint OpenVINO computes in bfloat16 where the CPU supports it.
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = compile_model(path / NETWORK_XML, hints)

    def run(images: NDArray[np.uint8]) -> dict[str, Any]:
        outputs = compiled({INPUT: images})
        return {output.any_name: outputs[output] for output in compiled.outputs}

    return run


_OPENERS: dict[Format, Callable[[Path], Run]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "savedmodel": _savedmodel,
    "litert": _litert,
}
