"""An exported file, run by its own format's runtime; with `Runner` it is an engine like any."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungbox.engines import Job, Prediction
from lungbox.engines.base import padded
from lungbox.export.convert import NETWORK_XML
from lungbox.export.types import IMAGE, INPUT, MASK, Format
from lungbox.weights.entries import Precision

# `(B, S, S, 1)` uint8 to `mask` and `image`.
Run = Callable[[NDArray[np.uint8]], dict[str, Any]]
# A file for any number of images is run on several numbers: eight are 3, 3 and 2.
_ANY_SIZE = 3


class Runner:
    """Runs an ensemble through a function of one batch; see `engines.Engine`.

    Attributes:
        name: of the runtime.
        job: what it runs.
    """

    precision: Precision = "float32"

    def __init__(self, name: str, job: Job, run: Run, batch: int | None) -> None:
        self.name, self.job = name, job
        self._run, self._batch = run, batch

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """Any number of prepared images, `(N, S, S)`, batch by batch."""
        step = self._batch or _ANY_SIZE
        parts = [self._part(images[row : row + step]) for row in range(0, len(images), step)]
        masks, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
        return Prediction(masks, scores[:, 0], None)

    def _part(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = padded(images, self._batch) if self._batch else images
        found = self._run(np.ascontiguousarray(batch)[..., None])
        return np.asarray(found[MASK])[: len(images)], np.asarray(found[IMAGE])[: len(images)]


def open_file(form: Format, path: Path) -> Run:
    """Load an exported file in its own runtime."""
    return _OPENERS[form](path)


def _savedmodel(path: Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: NDArray[np.uint8]) -> dict[str, Any]:
        # The signature alone does not keep what it runs in memory.
        assert loaded is not None
        return serve(**{INPUT: tf.constant(images)})

    return run


def _litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    # It stays the function's own, for the runner keeps no reference that counts.
    interpreter = Interpreter(model_path=str(path))
    return lambda images: interpreter.get_signature_runner()(**{INPUT: images})


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [MASK, IMAGE]
    return lambda images: dict(zip(names, session.run(names, {INPUT: images}), strict=True))


def _openvino(path: Path) -> Run:
    from lungbox.engines.openvino import openvino

    # Without the hint OpenVINO computes in bfloat16 where the CPU has it.
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path / NETWORK_XML, "CPU", hints)

    def run(images: NDArray[np.uint8]) -> dict[str, Any]:
        found = compiled({INPUT: images})
        return {name: found[name] for name in (MASK, IMAGE)}

    return run


_OPENERS: dict[Format, Callable[[Path], Run]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "savedmodel": _savedmodel,
    "litert": _litert,
}
