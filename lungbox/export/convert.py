"""A Keras network as a file of another format, its metadata attached."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from lungbox import __version__
from lungbox.export.types import IMAGE, INPUT, MASK, METADATA, Format

_OPSET = 18
NETWORK_XML = "network.xml"


def write(form: Format, network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    """Write a network.

    Args:
        form: the format.
        network: of `(B, S, S, 1)` gray 0-255 to `mask` and `image`.
        path: the file or folder to make; it is not there yet.
        batch: images in one batch; None for any number.
        text: the metadata, JSON on one line.
    """
    _WRITERS[form](network, path, batch, text)


def _savedmodel(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    archive = keras.export.ExportArchive()
    archive.track(network)
    shape = (batch, *network.input_shape[1:])
    archive.add_endpoint(
        "serve",
        lambda radiograph: _outputs(network, ops.cast(radiograph, "float32")),
        input_signature=[keras.InputSpec(shape=shape, dtype="uint8", name=INPUT)],
    )
    archive.write_out(str(path), verbose=False)
    # The place a SavedModel has for what is not its graph's.
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / f"{METADATA}.json").write_text(text, encoding="utf-8")


def _litert(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    import tensorflow as tf

    # By way of a SavedModel: from a function the converter takes the variables without values.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        saved = Path(folder) / "network"
        _savedmodel(network, saved, batch, text)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved), signature_keys=["serving_default"]
        )
        path.write_bytes(converter.convert())
    # LiteRT's own way: files that go with a network are a zip archive behind it.
    with zipfile.ZipFile(path, "a") as behind:
        behind.writestr(f"{METADATA}.json", text)


def _onnx(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    import onnx
    import tf2onnx

    function, signature = _traced(network, batch)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=_OPSET)
    model.producer_name, model.producer_version = "lungbox", __version__
    onnx.helper.set_model_props(model, {METADATA: text})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _openvino(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    from lungbox.engines.openvino import from_tensorflow, openvino

    function, _ = _traced(network, batch)
    model = from_tensorflow(function)
    # Beside these the converter has named them after its own operations.
    for name in (MASK, IMAGE):
        model.output(name).tensor.set_names({name})
    model.inputs[0].tensor.set_names({INPUT})
    model.set_rt_info(text, METADATA)
    path.mkdir()
    openvino.save_model(model, path / NETWORK_XML, compress_to_fp16=False)


_WRITERS: dict[Format, Callable[[keras.Model, Path, int | None, str], None]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "savedmodel": _savedmodel,
    "litert": _litert,
}


def _traced(network: keras.Model, batch: int | None) -> tuple[Any, list[Any]]:
    """The network as a TensorFlow function of 8-bit pixels, and its signature."""
    import tensorflow as tf

    signature = [tf.TensorSpec((batch, *network.input_shape[1:]), tf.uint8, name=INPUT)]

    @tf.function(input_signature=signature)
    def forward(radiograph: Any) -> Any:
        return _outputs(network, tf.cast(radiograph, tf.float32))

    return forward, signature


def _outputs(network: keras.Model, images: Any) -> dict[str, Any]:
    found = network(images, training=False)
    return {MASK: found[MASK], IMAGE: found[IMAGE]}
