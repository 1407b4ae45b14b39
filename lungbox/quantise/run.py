"""`lungbox quantise`: an ensemble in 8-bit integers and bfloat16, checked and entered."""

import os
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox.engines import Engine, EngineError, Int8, Job, start
from lungbox.evaluation.unseen import unseen_images
from lungbox.extras import check_installed
from lungbox.paths import data_folder
from lungbox.pipeline import open_ensemble
from lungbox.progress import downloads
from lungbox.quantise.calibration import calibration_images
from lungbox.quantise.parity import Parity, measure
from lungbox.weights.collection import INT8_FOLDER, remove_files
from lungbox.weights.entries import Precision, Precisions, Quantised
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import enter_precisions, own_path, read_manifest

_BATCH = 8


def run(data: Path, fold: int, ensemble: str, images: int, say: Console) -> list[Parity]:
    """Make an ensemble's INT8 model, check it and bfloat16, and enter both.

    `auto`, the default precision, takes what passes the check. The file goes into the user's own
    folder, its entry into the user's own manifest, also where the ensemble is Lungbox's own.

    Args:
        data: labelled radiographs.
        fold: one that no member has seen; RSNA's images of it are checked on.
        ensemble: a name in the manifest.
        images: of other folds, for calibration.
        say: where progress is shown.

    Returns:
        What was found, float32 first.

    Raises:
        LungboxError: the data is not there, the weights have seen the fold, or something that
            this needs is not installed.
    """
    _check_installed()
    unseen = unseen_images(ensemble, data, fold).of_source("rsna")
    with downloads(say) as watch:
        job, point = open_ensemble(ensemble, _BATCH, watch, precision="float32")
    calibration = calibration_images(data, fold, job, images)
    file, in_float32 = _make(job, calibration, say)
    engines = _engines(job, file)
    found = measure(engines, unseen, point, say)
    by_name = {one.precision: one.checked for one in found}
    key = job.key
    before = read_manifest(own_path()).precisions.get(key)
    entry = Precisions(
        ensemble=ensemble,
        checked_on=f"{len(unseen)} RSNA images of fold {fold}",
        checked_at=point,
        # What a machine that has bfloat16 has found out stays known on one that has not.
        bfloat16=by_name.get("bfloat16") or (before.bfloat16 if before else None),
        int8=Quantised(
            **vars(by_name["int8"]),
            sha256=file.sha256,
            bytes=file.path.stat().st_size,
            sources=(f"file:{file.path}",),
            calibrated_on=f"{len(calibration)} images of other folds than {fold}",
            in_float32=in_float32,
        ),
    )
    # What was there before stays whole until now, and where this is stopped.
    enter_precisions(key, entry)
    if before and before.int8 and before.int8.sha256 != file.sha256:
        remove_files(before.int8)
    say.print(f"Entered, with {file.path}", markup=False)
    return found


def _check_installed() -> None:
    """Before anything that takes long.

    Raises:
        NotInstalledError: NNCF is missing.
        EngineError: OpenVINO is missing, or another backend is set than networks are converted
            from.
    """
    check_installed("an 8-bit network", "nncf")
    if not find_spec("openvino"):
        raise EngineError("openvino makes 8-bit networks, and is not here: pip install openvino")
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise EngineError("networks are quantised from TensorFlow; set KERAS_BACKEND=tensorflow")


def _engines(job: Job, file: Int8) -> dict[Precision, Engine]:
    """In every precision that this processor can."""
    jobs: dict[Precision, Job] = {
        "float32": job,
        "bfloat16": replace(job, precisions=("bfloat16",)),
        "int8": replace(job, precisions=("int8",), int8=file),
    }
    engines = {}
    for name, other in jobs.items():
        try:
            engines[name] = start("openvino", other)
        except EngineError:
            if name != "bfloat16":
                raise
    return engines


def _make(job: Job, images: NDArray[np.uint8], say: Console) -> tuple[Int8, tuple[str, ...]]:
    """The network's file, and what of it stays in float32."""
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantise.network import quantise

    # With the members' own masks, which cost nothing more, so that they can be asked for.
    network = converted(replace(job, keep_members=True))
    with say.status("Quantising; on two cores that takes minutes"):
        made = quantise(network, images)
    kept = data_folder() / INT8_FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix=".new-") as folder:
        new = Path(folder) / "int8.safetensors"
        save_int8(made.network, new)
        digest = sha256(new)
        path = kept / f"{job.ensemble}-{digest[:12]}.safetensors"
        new.replace(path)
    return Int8(path.resolve(), digest), made.in_float32
