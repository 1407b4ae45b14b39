"""From an ensemble's name to a verified file."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lungbox.boxes import OperatingPoint
from lungbox.engines import Job
from lungbox.export.metadata import describe
from lungbox.export.types import ExportError, Format, Kind, kind
from lungbox.frameworks import compile_choice, silent_standard_error, start_keras
from lungbox.pipeline import open_ensemble
from lungbox.weights.fetch import Watch


@dataclass(frozen=True)
class Exported:
    """What `export` made.

    Attributes:
        path: the file or folder.
        metadata: the JSON file beside it.
        bytes: size of the file, or of all in the folder.
        images: how many radiographs it was compared on.
        difference: of a probability from Keras's, the largest on these.
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
) -> Exported:
    """Write an ensemble as one file that other programs run, and check it against Keras.

    The network reads prepared pixels, `(B, S, S, 1)` uint8, and gives `mask` `(B, h, w, 2)` and
    `image` `(B, 1)`. Its metadata is attached, and is in a JSON file beside it, too. Neither is
    there before the file, run in its own runtime, gives what Keras gives.

    Args:
        name: of the ensemble.
        form: the format.
        output: the file or folder to make; named after the ensemble in the working folder if None.
        batch_size: images in one batch; any number if None.
        watch: see `weights.fetch`.

    Raises:
        ExportError: there is no such format, it cannot be written here, something is there
            already, or the file does not give what Keras gives.
        ManifestError: no ensemble has that name.
        WeightsError: its weights cannot be had, or do not fit.
        BackendError: Keras cannot start.
    """
    known = kind(form)
    if batch_size is not None and batch_size < 1:
        raise ExportError(f"a batch has at least one image, not {batch_size}")
    path = output or Path(f"{name}{known.ending}")
    beside = path.with_name(f"{path.name}.json")
    for there in (path, beside):
        if there.exists():
            raise ExportError(f"{there} is there already; remove it, or name another --output")
    job, point = open_ensemble(name, batch_size or 1, watch, precision="float32")
    start_keras()
    _check_backend(known)
    described = describe(job, point, batch_size)
    # In a folder that exists, so that nothing is left behind but what is verified.
    here = next(folder for folder in path.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=here, prefix=".new-") as folder:
        # No other name: a SavedModel's and OpenVINO's files name each other by ending only.
        made = Path(folder) / f"network{path.suffix}"
        images, difference = _write_verified(form, known, job, point, made, batch_size, described)
        text = Path(folder) / "metadata.json"
        text.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        size = sum(file.stat().st_size for file in (made, *made.rglob("*")) if file.is_file())
        path.parent.mkdir(parents=True, exist_ok=True)
        # First, so that no network is ever without it.
        text.rename(beside)
        try:
            made.rename(path)
        except BaseException:
            beside.unlink()
            raise
    return Exported(path, beside, size, images, difference)


def _check_backend(known: Kind) -> None:
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow" and not known.from_jax:
        raise ExportError(
            f"{known.title} is written from TensorFlow, and Keras runs on {backend} here; "
            "set KERAS_BACKEND=tensorflow, or use --format savedmodel"
        )


def _write_verified(
    form: Format,
    known: Kind,
    job: Job,
    point: OperatingPoint,
    path: Path,
    batch: int | None,
    described: dict[str, Any],
) -> tuple[int, float]:
    """Write the job's network to `path` and compare what it says there with what Keras says; how
    many images that was, and the largest difference."""
    from lungbox.engines.keras import build
    from lungbox.export.convert import write
    from lungbox.export.runtimes import Runner, open_file
    from lungbox.export.verify import compare, radiographs

    network = build(job)
    network.compile(jit_compile=compile_choice())
    try:
        # They tell the world how they are getting on; what goes wrong still arrives.
        with silent_standard_error():
            write(form, network, path, batch, json.dumps(described))
            run = open_file(form, path)
    except Exception as error:  # converters raise anything, and what they miss differs by network
        raise _no_such_file(job, known, error) from error
    images, sizes = radiographs(job)
    keras_says = Runner(
        "Keras", job, lambda batch: network.predict_on_batch(batch.astype(np.float32)), len(images)
    )
    exported = Runner(known.title, job, run, batch)
    try:
        return len(images), compare(keras_says, exported, images, sizes, point)
    except ExportError:
        raise
    except Exception as error:  # a runtime may read what it cannot run
        raise _no_such_file(job, known, error) from error


def _no_such_file(job: Job, known: Kind, error: Exception) -> ExportError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ExportError(f"{job.ensemble} cannot be written as {known.title} ({reason[:200]})")
