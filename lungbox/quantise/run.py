"""`lungbox quantise`: an ensemble in 8-bit integers and bfloat16, checked and entered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox.engines import Engine, Int8, Job, start
from lungbox.evaluation.unseen import unseen_images
from lungbox.paths import data_folder
from lungbox.pipeline import open_ensemble
from lungbox.progress import downloads
from lungbox.quantise.calibration import calibration_images
from lungbox.quantise.parity import Parity, measure
from lungbox.weights.entries import Precision, Precisions, Quantised
from lungbox.weights.fetch import INT8, sha256
from lungbox.weights.manifest import enter_precisions

_BATCH = 8


def run(data: Path, fold: int, ensemble: str, images: int, say: Console) -> list[Parity]:
    """Make an ensemble's network of 8-bit integers, check it and bfloat16, and enter both.

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
    unseen = unseen_images(ensemble, data, fold).of_source("rsna")
    with downloads(say) as watch:
        job, point = open_ensemble(ensemble, _BATCH, watch, precision="float32")
    calibration = calibration_images(data, fold, job, images)
    file, in_float32 = _make(job, calibration, say)
    jobs: dict[Precision, Job] = {
        "float32": job,
        "bfloat16": replace(job, precisions=("bfloat16",)),
        "int8": replace(job, precisions=("int8",), int8=file),
    }
    engines: dict[Precision, Engine] = {
        name: start("openvino", other) for name, other in jobs.items()
    }
    found = measure(engines, unseen, point, say)
    by_name = {one.precision: one for one in found}
    int8 = Quantised(
        **vars(by_name["int8"].checked),
        sha256=file.sha256,
        bytes=file.path.stat().st_size,
        sources=(f"file:{file.path}",),
        calibrated_on=f"{len(calibration)} images of other folds than {fold}",
        in_float32=in_float32,
    )
    entry = Precisions(
        members=tuple(member.sha256 for member in job.members),
        shares=tuple(member.share for member in job.members),
        checked_on=f"{len(unseen)} RSNA images of fold {fold}",
        bfloat16=by_name["bfloat16"].checked,
        int8=int8,
    )
    enter_precisions(ensemble, entry)
    return found


def _make(job: Job, images: NDArray[np.uint8], say: Console) -> tuple[Int8, tuple[str, ...]]:
    """The network's file, and what of it stays in float32."""
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantise.network import quantise

    # With the members' own masks, which cost nothing more, so that they can be asked for.
    network = converted(replace(job, keep_members=True))
    with say.status("Quantising; on two cores that takes minutes"):
        made = quantise(network, images)
    path = data_folder() / "weights" / f"{job.ensemble}{INT8}.safetensors"
    save_int8(made.network, path)
    return Int8(path, sha256(path)), made.in_float32
