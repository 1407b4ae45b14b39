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

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        with_weights = Path(folder) / "network.onnx"
        onnx.save(_converted(network, batch), str(with_weights))
        model = _folded(with_weights)
    model.producer_name, model.producer_version = "lungbox", __version__
    onnx.helper.set_model_props(model, {METADATA: text})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _converted(network: keras.Model, batch: int | None) -> Any:
    """The network as an ONNX model that still computes kernels from weights.

    It is converted with its weights as inputs, which get their values afterwards: the converter
    copies all constants at each of its steps, and with the four networks' that is more than 24 GB.
    """
    import tensorflow as tf
    import tf2onnx
    from onnx import numpy_helper

    split = len(network.trainable_variables)
    weights = {
        f"weight{number}": ops.convert_to_numpy(variable)
        for number, variable in enumerate(
            network.trainable_variables + network.non_trainable_variables
        )
    }
    signature = [_pixels(network, batch)]
    signature += [tf.TensorSpec(v.shape, v.dtype, name=name) for name, v in weights.items()]

    @tf.function(input_signature=signature)
    def forward(radiograph: Any, *values: Any) -> Any:
        images = tf.cast(radiograph, tf.float32)
        found, _ = network.stateless_call(values[:split], values[split:], images, training=False)
        return _named(found)

    model, _ = tf2onnx.convert.from_function(forward, input_signature=signature, opset=_OPSET)
    # What layers keep as constants of their own has become inputs, too.
    captures = forward.get_concrete_function().graph.captures
    weights |= {entry.name: tensor.numpy() for tensor, entry in captures}
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    (radiograph,) = (entry for entry in graph.input if entry.name == INPUT)
    del graph.input[:]
    graph.input.append(radiograph)
    return model


def _folded(path: Path) -> Any:
    """An ONNX model with all that its weights alone decide computed, and its normalisations within
    its convolutions: ONNX Runtime's "basic" rewriting, which any other runtime can read."""
    import onnx
    import onnxruntime

    folded = path.with_name("folded.onnx")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(folded)
    settings.log_severity_level = 3  # it warns of each weight that it has folded
    onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    model = onnx.load(str(folded))
    used = {node.domain for node in model.graph.node}
    opsets = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


def _openvino(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    import tensorflow as tf

    from lungbox.engines.openvino import from_tensorflow, openvino

    @tf.function(input_signature=[_pixels(network, batch)])
    def forward(radiograph: Any) -> Any:
        return _outputs(network, tf.cast(radiograph, tf.float32))

    model = from_tensorflow(forward)
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


def _pixels(network: keras.Model, batch: int | None) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((batch, *network.input_shape[1:]), tf.uint8, name=INPUT)


def _outputs(network: keras.Model, images: Any) -> dict[str, Any]:
    return _named(network(images, training=False))


def _named(found: Any) -> dict[str, Any]:
    return {MASK: found[MASK], IMAGE: found[IMAGE]}
