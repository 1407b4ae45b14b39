"""`lungbox quantize`: make an ensemble's INT8 model, check it and bfloat16, and register both."""

import os
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox import datasets
from lungbox.common.backend import check_installed
from lungbox.common.paths import cache_folder, data_folder
from lungbox.common.progress import download_progress
from lungbox.datasets import challenge_images, info_of
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine, EngineConfig, EngineError, Int8, start
from lungbox.evaluation.evaluator import check_of_opacity, held_out_images
from lungbox.inference.predictor import open_ensemble
from lungbox.quantization.parity import Parity, measure
from lungbox.weights.collection import INT8_FOLDER, remove_files
from lungbox.weights.entries import Int8Entry, Precision, Precisions
from lungbox.weights.manifest import own_path, read_manifest, register_precisions
from lungbox.weights.store import sha256

_BATCH = 8
_SEED = 2024


def quantize_ensemble(
    data: Path, fold: int, ensemble: str, images: int, console: Console
) -> list[Parity]:
    """Make an ensemble's INT8 model, check it and bfloat16, and register both.

    The precision `auto` uses those that pass. The file is written to the user's data folder and
    registered in the user's manifest, also where the ensemble comes with Lungbox.

    Args:
        data: labelled radiographs.
        fold: held out from every member's training; checked on its challenge images.
        ensemble: a name in the manifest.
        images: of other folds, for calibration.
        console: where progress is shown.

    Returns:
        The check of each precision, float32 first.

    Raises:
        LungboxError: the data is missing, the fold is not held out, a package is not installed, or
            the ensemble is of other findings than lung opacity.
    """
    _check_installed()
    check_of_opacity(ensemble)
    held_out = challenge_images(held_out_images(ensemble, data, fold))
    with download_progress(console) as watch:
        config, point, _ = open_ensemble(ensemble, _BATCH, watch, precision="float32")
    calibration = calibration_images(data, fold, config, images)
    file, in_float32 = _make(config, calibration, console)
    engines = _engines(config, file)
    parities = measure(engines, held_out, point, console)
    by_name = {one.precision: one.checked for one in parities}
    key = config.key
    before = read_manifest(own_path()).precisions.get(key)
    title = info_of(held_out.images[0].source).title
    entry = Precisions(
        ensemble=ensemble,
        checked_on=f"{len(held_out)} {title} images of fold {fold}",
        checked_at=point,
        # A check of bfloat16 on another computer is kept where this one does not support it.
        bfloat16=by_name.get("bfloat16") or (before.bfloat16 if before else None),
        int8=Int8Entry(
            **vars(by_name["int8"]),
            sha256=file.sha256,
            bytes=file.path.stat().st_size,
            sources=(f"file:{file.path}",),
            calibrated_on=f"{len(calibration)} images of other folds than {fold}",
            in_float32=in_float32,
        ),
    )
    # The earlier model stays until now, and where this is interrupted.
    register_precisions(key, entry)
    if before and before.int8 and before.int8.sha256 != file.sha256:
        remove_files(before.int8)
    console.print(f"Registered, with {file.path}", markup=False)
    return parities


def _check_installed() -> None:
    """Check the requirements before anything slow.

    Raises:
        NotInstalledError: NNCF is missing.
        EngineError: OpenVINO is missing, or Keras' backend is not TensorFlow.
    """
    check_installed("quantization", "nncf")
    if not find_spec("openvino"):
        raise EngineError("quantization needs OpenVINO: pip install openvino")
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise EngineError("quantization needs TensorFlow; set KERAS_BACKEND=tensorflow")


def _engines(config: EngineConfig, file: Int8) -> dict[Precision, Engine]:
    """An engine for every precision that this processor supports."""
    configs: dict[Precision, EngineConfig] = {
        "float32": config,
        "bfloat16": replace(config, precisions=("bfloat16",)),
        "int8": replace(config, precisions=("int8",), int8=file),
    }
    engines = {}
    for name, other in configs.items():
        try:
            engines[name] = start("openvino", other)
        except EngineError:
            if name != "bfloat16":
                raise
    return engines


def _make(
    config: EngineConfig, images: NDArray[np.uint8], console: Console
) -> tuple[Int8, tuple[str, ...]]:
    """The INT8 model's file, and the types of operations that stay in float32."""
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantization.model import quantize

    # With the members' own masks, which cost nothing, so that --members works.
    network = converted(replace(config, keep_members=True))
    with console.status("Quantizing; on two cores this takes minutes"):
        quantized = quantize(network, images)
    target = data_folder() / INT8_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as folder:
        new = Path(folder) / "int8.safetensors"
        save_int8(quantized.network, new)
        digest = sha256(new)
        path = target / f"{config.ensemble}-{digest[:12]}.safetensors"
        new.replace(path)
    return Int8(path.resolve(), digest), quantized.in_float32


def calibration_images(
    data: Path, fold: int, config: EngineConfig, count: int
) -> NDArray[np.uint8]:
    """Prepared images of other folds than `fold`, half of them with opacities.

    Returns:
        `(N, S, S)` uint8, N at most `count`, in random order, always the same.

    Raises:
        DatasetError: there are none.
    """
    others = datasets.as_opacity(datasets.load(data)).where(
        lambda image: image.fold != fold and not image.uncertain
    )
    chosen = _chosen(others, count)
    if not chosen.images:
        raise DatasetError(f"{data}: has no images but those of fold {fold}")
    prepared = prepare_all(
        chosen, config.image_size, cache_folder(), preparation=config.preparation
    )
    if not len(prepared):
        raise DatasetError(f"{data}: none of the images for calibration could be read")
    return prepared.images(slice(0, count))


def _chosen(dataset: Dataset, count: int) -> Dataset:
    random = np.random.default_rng(_SEED)
    shuffled = [dataset.images[row] for row in random.permutation(len(dataset))]
    positive = [image for image in shuffled if image.target][: (count + 1) // 2]
    negative = [image for image in shuffled if not image.target][: count - len(positive)]
    both = [*positive, *negative]
    return Dataset(tuple(both[row] for row in random.permutation(len(both))))
