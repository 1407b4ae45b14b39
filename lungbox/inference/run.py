"""`lungbox predict`: a folder of radiographs to a folder of results."""

import json
import platform
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from lungbox import __version__
from lungbox.common.files import atomic_write, describe_os_error
from lungbox.common.parallel import available_cpus
from lungbox.common.progress import download_progress, progress_bar
from lungbox.constants import RESEARCH_USE
from lungbox.engines import EngineName, PrecisionName, engine_fingerprint
from lungbox.errors import LungboxError
from lungbox.inference.files import ImageFile, find_image_files
from lungbox.inference.predictor import Detector, ImageResult, open_ensemble, terms
from lungbox.inference.results import (
    MEMBERS,
    OVERLAYS,
    RUN,
    RunSummary,
    check_output_folder,
    remove_old_pictures,
    save_members,
    write_results,
)
from lungbox.inference.resume import ResumeLog
from lungbox.radiograph import frontal
from lungbox.submission import read_ids, vinbigdata
from lungbox.weights.manifest import load_manifest

# Outcomes that are logged at once.
_FLUSH = 32


class NoImagesError(LungboxError):
    """There is no image file."""


@dataclass(frozen=True)
class PredictRequest:
    """The options of `lungbox predict`."""

    images: Path
    ensemble: str
    output: Path
    engine: EngineName
    precision: PrecisionName
    ids: Path | None
    submission_size: int | None
    overlays: bool
    members: bool
    batch_size: int
    operating_point: str = ""
    gate: float | None = None
    prevalence: float | None = None


def predict_folder(request: PredictRequest, console: Console) -> RunSummary:
    """Predict every radiograph in a folder and write the results.

    Raises:
        LungboxError: nothing can be predicted; files that cannot be read are listed instead.
    """
    started = time.monotonic()
    ids = _ids(request)
    check_output_folder(request.output, request.images)
    sources = _sources(request, console)
    detector = _detector(request, min(request.batch_size, len(sources)), console)
    with ResumeLog(request.output, _settings(request, detector)) as resume_log:
        _read_all(request, detector, sources, resume_log, console)
        names = detector.engine.config.class_names
        summary = write_results(
            request.output, resume_log, sources, ids, request.submission_size, names
        )
        _write_run(request, detector, summary, time.monotonic() - started)
    console.print(detector.precision_note, markup=False)
    _report(request, detector, summary, ids, sources, console)
    return summary


def _ids(request: PredictRequest) -> list[str] | None:
    """The rows of the submission, of a sample in the format of the ensemble's challenge."""
    of_vinbigdata = vinbigdata.fits(load_manifest().class_names(request.ensemble))
    if of_vinbigdata and request.submission_size is not None:
        raise LungboxError(
            "VinBigData's submissions have boxes in pixels of each file; leave out "
            "--submission-size"
        )
    if request.ids is None:
        return None
    return vinbigdata.read_ids(request.ids) if of_vinbigdata else read_ids(request.ids)


def _read_all(
    request: PredictRequest,
    detector: Detector,
    sources: list[ImageFile],
    resume_log: ResumeLog,
    console: Console,
) -> None:
    """Log an outcome of every source."""
    finished = resume_log.done()
    waiting = [source for source in sources if finished.get(source.relative) != source.stamp]
    done = len(sources) - len(waiting)
    if done:
        console.print(f"Continuing: {done} of {len(sources)} are done.")
    else:
        if warning := remove_old_pictures(request.output, resume_log.discarded):
            console.print(warning, markup=False)
    with progress_bar(console, "Reading", len(sources), done) as progress:
        pictures = request.overlays or request.members
        names = detector.engine.config.mask_names
        results = detector.predict_all(waiting, pictures)
        if pictures:
            results = _drawn(results, request, names, console)
        for group in _in_groups(results):
            resume_log.append(group)
            progress.advance(len(group))


def _detector(request: PredictRequest, batch_size: int, console: Console) -> Detector:
    with download_progress(console) as watch:
        opened = open_ensemble(
            request.ensemble,
            batch_size,
            watch,
            request.members,
            request.precision,
            request.operating_point,
            request.gate,
            request.prevalence,
        )
    if request.members and not opened.config.mask_names:
        raise LungboxError(
            f"--members: {request.ensemble} has no segmentation network, and so no mask to write"
        )
    for line in terms(opened.config):
        console.print(line, markup=False)
    with console.status(
        "Starting the networks; the first time they are converted to OpenVINO and cached"
    ):
        return opened.start(request.engine)


def _sources(request: PredictRequest, console: Console) -> list[ImageFile]:
    if not request.images.exists():
        raise NoImagesError(f"{request.images}: there is no such folder or file")
    sources, shared = find_image_files(request.images, request.output)
    if not sources:
        raise NoImagesError(f"{request.images}: holds no files; give a folder of radiographs")
    if shared:
        console.print(
            f"Some files share a name ({shared[0]} for instance, {len(shared)} in all); they are "
            "called by their paths in the results.",
            markup=False,
        )
    return sources


def _settings(request: PredictRequest, detector: Detector) -> dict[str, object]:
    """Everything that a file's outcome depends on."""
    config = detector.engine.config
    return {
        "version": __version__,
        "images": str(request.images.resolve()),
        "members": config.fingerprints,
        "calibration": detector.calibration.model_dump() if detector.calibration else None,
        "engine": engine_fingerprint(detector.engine),
        "preparation": (config.preparation, config.flip, config.views),
        "point": vars(detector.point),
        "frontal_check": frontal.fingerprint(),
        "pictures": (request.overlays, request.members),
    }


def _in_groups(results: Iterator[ImageResult]) -> Iterator[list[ImageResult]]:
    group: list[ImageResult] = []
    for result in results:
        group.append(result)
        if len(group) == _FLUSH:
            yield group
            group = []
    if group:
        yield group


def _drawn(
    results: Iterator[ImageResult], request: PredictRequest, members: list[str], console: Console
) -> Iterator[ImageResult]:
    """The outcomes in order, each once its pictures are written, without its pixels. Pictures are
    drawn in threads while the networks run."""

    def draw(result: ImageResult) -> ImageResult:
        reason = _draw(result, request, members)
        if reason:
            console.print(f"No picture: {reason}", markup=False)
        return replace(result, radiograph=None, mask=None, members=None, no_picture=reason)

    threads = available_cpus()
    waiting: deque[Future[ImageResult]] = deque()
    with ThreadPoolExecutor(threads, "draw") as pool:
        for result in results:
            waiting.append(pool.submit(draw, result))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _draw(result: ImageResult, request: PredictRequest, members: list[str]) -> str:
    """Write the requested pictures; returns why one could not be written, or an empty string."""
    findings, radiograph, mask = result.findings, result.radiograph, result.mask
    if findings is None or radiograph is None:
        return ""
    from lungbox.inference import overlay  # slow to import

    try:
        if request.overlays:
            picture = overlay.draw(radiograph.pixels, mask, findings)
            overlay.save(picture, request.output / OVERLAYS / f"{findings.identity}.png")
        if result.members is not None and mask is not None:
            base = request.output / MEMBERS / findings.identity
            masks = dict(zip(members, result.members, strict=True))
            picture = overlay.compare(radiograph.pixels, masks, mask, findings)
            overlay.save(picture, base.with_name(f"{base.name}.png"))
            save_members(base.with_name(f"{base.name}.npz"), masks)
    except OSError as error:
        return describe_os_error(error)
    except (MemoryError, ValueError) as error:
        return f"{findings.identity}: {error or 'there is not enough memory to draw it'}"
    return ""


def _write_run(
    request: PredictRequest, detector: Detector, summary: RunSummary, seconds: float
) -> None:
    """Write `run.json`: everything that the results can be reproduced from."""
    engine = detector.engine
    ran_int8 = engine.precision == "int8"
    record = {
        "lungbox": __version__,
        "python": platform.python_version(),
        "notice": RESEARCH_USE,
        "images": str(request.images),
        "ensemble": detector.name,
        "members": [
            {
                "name": member.name,
                "architecture": member.weights.architecture,
                "image_size": member.weights.image_size,
                "share": member.weight,
                "sha256": member.sha256,
            }
            for member in engine.config.members
        ],
        "engine": engine.name,
        "precision": engine.precision,
        "chosen": detector.precision_note,
        "int8_sha256": engine.config.int8.sha256 if ran_int8 and engine.config.int8 else None,
        "batch_size": engine.config.batch_size,
        "preparation": engine.config.preparation,
        "flip": engine.config.flip,
        "views": list(engine.config.views),
        "operating_point": vars(detector.point),
        "operating_point_name": request.operating_point or None,
        "calibration": detector.calibration.model_dump() if detector.calibration else None,
        "submission_size": request.submission_size,
        "totals": vars(summary),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    with atomic_write(request.output / RUN) as file:
        file.write(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _report(
    request: PredictRequest,
    detector: Detector,
    summary: RunSummary,
    ids: list[str] | None,
    sources: list[ImageFile],
    console: Console,
) -> None:
    console.print(
        f"{summary.read} radiographs read, {summary.with_boxes} with boxes "
        f"({summary.boxes} in all), {summary.failed} failed. Results in {request.output}/.",
        markup=False,
    )
    if summary.withheld:
        gate = detector.written(detector.point.gate)
        console.print(
            f"On {summary.withheld} more the boxes were withheld because the "
            f"image score is below the gate {gate:.4f}; they are in predictions.jsonl."
        )
    if summary.flagged:
        console.print(
            f"{summary.flagged} may not be frontal chest radiographs, or are rotated or inverted: "
            "see the column flag of images.csv."
        )
    if summary.failed:
        console.print(f"Why files failed: {request.output / 'failed.csv'}", markup=False)
    if summary.without_picture:
        console.print(
            f"Pictures of {summary.without_picture} could not be written, see above; the results "
            "of all files are there."
        )
    if ids is not None:
        absent = len(set(ids) - {source.identity for source in sources})
        if absent:
            console.print(f"Of {len(ids)} ids, {absent} without a file: their rows have no box.")
    console.print(RESEARCH_USE)
