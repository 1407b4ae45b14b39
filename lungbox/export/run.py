"""Exporting an ensemble: convert it, verify the file, write its metadata."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lungbox.boxes import OperatingPoint
from lungbox.common.backend import compile_choice, silent_standard_error, start_keras
from lungbox.engines import EngineConfig
from lungbox.export.metadata import describe
from lungbox.export.types import ExportError, Format, FormatInfo, format_info
from lungbox.inference.predictor import open_ensemble
from lungbox.weights.store import Watch


@dataclass(frozen=True)
class ExportResult:
    """The files that `export` wrote.

    Attributes:
        path: the file or folder.
        metadata: the JSON file beside it.
        bytes: size of the file, or of all files in the folder.
        images: number of radiographs it was verified on.
        difference: the largest difference of a probability from Keras' on these.
    """

    path: Path
    metadata: Path
    bytes: int
    images: int
    difference: float


def export(
    name: str,
    form: Format,
    output: Path | None = None,
    batch_size: int | None = None,
    watch: Watch = lambda _: lambda *_: None,
) -> ExportResult:
    """Write an ensemble as one file for other programs, and verify its predictions against Keras.

    The network's input is `(B, S, S, 1)` uint8, its outputs are those of
    `architecture.ensemble.average`. Its metadata is inside it, and in a JSON file beside it. Files
    are only written where the exported network, run in its own runtime, predicts what Keras does.

    Args:
        name: of the ensemble.
        form: the format.
        output: the new file or folder; named after the ensemble, in the working folder, if None.
        batch_size: images per batch; any number if None.
        watch: see `weights.store.fetch`.

    Raises:
        ExportError: the format is unknown or its packages are not installed, the output exists,
            the network cannot be converted, or its predictions differ from Keras'.
        ManifestError: no ensemble has this name.
        WeightsError: its weights are unavailable, or do not fit.
        BackendError: Keras cannot start.
    """
    info = format_info(form)
    if batch_size is not None and batch_size < 1:
        raise ExportError(f"a batch has at least one image, not {batch_size}")
    path = output or Path(f"{name}{info.ending}")
    beside = path.with_name(f"{path.name}.json")
    for existing in (path, beside):
        if existing.exists():
            raise ExportError(f"{existing} exists already; remove it, or choose another --output")
    config, point, _ = open_ensemble(name, batch_size or 1, watch, precision="float32")
    start_keras()
    _check_backend(info)
    described = describe(config, point, batch_size)
    # In a parent folder that exists, so that a failure leaves no new folders behind.
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as folder:
        # Files inside SavedModel and OpenVINO folders do not contain this name.
        partial = Path(folder) / f"network{path.suffix}"
        images, difference = _write_verified(
            form, info, config, point, partial, batch_size, described
        )
        text = Path(folder) / "metadata.json"
        text.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        files = [file for file in (partial, *partial.rglob("*")) if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        path.parent.mkdir(parents=True, exist_ok=True)
        # First, so that a network is never without its metadata.
        text.rename(beside)
        try:
            partial.rename(path)
        except BaseException:
            beside.unlink()
            raise
    return ExportResult(path, beside, size, images, difference)


def _check_backend(info: FormatInfo) -> None:
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow" and not info.from_jax:
        raise ExportError(
            f"{info.title} export needs the TensorFlow backend, and Keras runs on {backend}; "
            "set KERAS_BACKEND=tensorflow, or use --format savedmodel"
        )


def _write_verified(
    form: Format,
    info: FormatInfo,
    config: EngineConfig,
    point: OperatingPoint,
    path: Path,
    batch: int | None,
    described: dict[str, Any],
) -> tuple[int, float]:
    """Write the network to `path` and verify it: the number of images, and the largest
    difference of a probability."""
    from lungbox.engines.keras import build
    from lungbox.export.convert import write
    from lungbox.export.runtimes import Runner, open_file
    from lungbox.export.verify import compare, radiographs

    network = build(config)
    network.compile(jit_compile=compile_choice())
    try:
        # Converters print their progress there; exceptions are not affected.
        with silent_standard_error():
            write(form, network, path, batch, json.dumps(described))
            run = open_file(form, path)
    except Exception as error:  # converters raise anything
        raise _conversion_error(config, info, error) from error
    images, sizes = radiographs(config)
    expected = Runner(
        "Keras",
        config,
        lambda batch: network.predict_on_batch(batch.astype(np.float32)),
        len(images),
    )
    exported = Runner(info.title, config, run, batch)
    try:
        return len(images), compare(expected, exported, images, sizes, point)
    except ExportError:
        raise
    except Exception as error:  # a runtime may load a file that it cannot run
        raise _conversion_error(config, info, error) from error


def _conversion_error(config: EngineConfig, info: FormatInfo, error: Exception) -> ExportError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ExportError(f"{config.ensemble} cannot be exported to {info.title} ({reason[:200]})")
