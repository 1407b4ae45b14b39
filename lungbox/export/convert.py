"""Conversion of a Keras network to a file of another format, with its metadata."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from lungbox import __version__
from lungbox.export.types import INPUT, METADATA, Format

_OPSET = 18
NETWORK_XML = "network.xml"


def write(form: Format, network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    """Write a network.

    Args:
        form: the format.
        network: of `(B, S, S, 1)` gray 0-255 to outputs by name.
        path: the new file or folder.
        batch: images per batch; None for any number.
        text: the metadata, JSON on one line.
    """
    _WRITERS[form](network, path, batch, text)


def _savedmodel(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    shape = (batch, *network.input_shape[1:])
    pixels = keras.InputSpec(shape=shape, dtype="uint8", name=INPUT)
    network.export(path, format="tf_saved_model", verbose=False, input_signature=[pixels])
    # The folder that SavedModel has for files that do not belong to the graph.
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / f"{METADATA}.json").write_text(text, encoding="utf-8")


def _litert(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    import tensorflow as tf

    # `keras.Model.export` has this format since Keras 3.13 only. Via a SavedModel, for variables of
    # a function are converted without their values.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        saved = Path(folder) / "network"
        _savedmodel(network, saved, batch, text)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved), signature_keys=["serving_default"]
        )
        path.write_bytes(converter.convert())
    # LiteRT's convention: files that belong to a network are appended to it as a zip archive.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{METADATA}.json", text)


def _onnx(network: keras.Model, path: Path, batch: int | None, text: str) -> None:
    import onnx

    # Not `keras.Model.export`: in its files the constants of `Normalization` are inputs, and it
    # needs 5.4 GB of memory for `unet_densenet121` (66 MB), where this needs 1.5 GB.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        with_weights = Path(folder) / "network.onnx"
        onnx.save(_converted(network, batch), str(with_weights))
        model = _folded(with_weights)
    model.producer_name, model.producer_version = "lungbox", __version__
    onnx.helper.set_model_props(model, {METADATA: text})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _converted(network: keras.Model, batch: int | None) -> Any:
    """The network as an ONNX model, before constant folding.

    It is converted with its weights as inputs, which are set afterwards: the converter copies all
    constants in each of its steps, which takes more than 24 GB for the ensemble `four`.
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
        outputs, _ = network.stateless_call(
            values[:split], values[split:], radiograph, training=False
        )
        return outputs

    model, _ = tf2onnx.convert.from_function(forward, input_signature=signature, opset=_OPSET)
    # Constants of layers have become inputs, too.
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
    """An ONNX model after ONNX Runtime's "basic" optimizations (constant folding, batch
    normalization fused into convolutions), which any other runtime can read."""
    import onnx
    import onnxruntime

    folded = path.with_name("folded.onnx")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(folded)
    settings.log_severity_level = 3  # it warns about each folded weight
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

    # Not `keras.Model.export`: its files have TensorFlow's names of the outputs beside Keras', and
    # no metadata, so they would be read and written again.
    @tf.function(input_signature=[_pixels(network, batch)])
    def forward(radiograph: Any) -> Any:
        return network(radiograph, training=False)

    model = from_tensorflow(forward)
    for name in network.output:
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
