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
from lungbox.constants import RESEARCH_USE
from lungbox.engines import EngineName, PrecisionName, computed_by, start
from lungbox.errors import LungboxError
from lungbox.files import replacing, sentence
from lungbox.flow import cores
from lungbox.folder import Source, gather
from lungbox.journal import Journal
from lungbox.pipeline import Detector, Outcome, open_ensemble, terms
from lungbox.progress import bar, downloads
from lungbox.results import (
    MEMBERS,
    OVERLAYS,
    RUN,
    Totals,
    check_place,
    clear_pictures,
    save_members,
    write_results,
)
from lungbox.submission import read_ids

# Outcomes that are written at once.
_FLUSH = 32


class NothingToDoError(LungboxError):
    """There is no file to read."""


@dataclass(frozen=True)
class Request:
    """What was asked for; see the command's own options."""

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


def run(request: Request, say: Console) -> Totals:
    """Read every radiograph in a folder and write the results.

    Raises:
        LungboxError: nothing can be done at all; a file that cannot be read is no such case.
    """
    started = time.monotonic()
    ids = read_ids(request.ids) if request.ids else None
    check_place(request.output, request.images)
    sources = _sources(request, say)
    detector = _detector(request, min(request.batch_size, len(sources)), say)
    with Journal(request.output, _settings(request, detector)) as journal:
        _read_all(request, detector, sources, journal, say)
        totals = write_results(request.output, journal, sources, ids, request.submission_size)
        _write_run(request, detector, totals, time.monotonic() - started)
    say.print(detector.chosen, markup=False)
    _report(request, totals, ids, sources, say)
    return totals


def _read_all(
    request: Request, detector: Detector, sources: list[Source], journal: Journal, say: Console
) -> None:
    """Put an outcome of every source into the journal."""
    finished = journal.done()
    waiting = [source for source in sources if finished.get(source.relative) != source.stamp]
    done = len(sources) - len(waiting)
    if done:
        say.print(f"Continuing: {done} of {len(sources)} are done.")
    else:
        trouble = clear_pictures(request.output, journal.discarded)
        if trouble:
            say.print(trouble, markup=False)
    with bar(say, "Reading", len(sources), done) as progress:
        pictures = request.overlays or request.members
        names = [member.name for member in detector.engine.job.members]
        outcomes = detector.predict_all(waiting, pictures)
        if pictures:
            outcomes = _drawn(outcomes, request, names, say)
        for group in _in_groups(outcomes):
            journal.append(group)
            progress.advance(len(group))


def _detector(request: Request, batch_size: int, say: Console) -> Detector:
    with downloads(say) as watch:
        job, point = open_ensemble(
            request.ensemble, batch_size, watch, request.members, request.precision
        )
    for line in terms(job):
        say.print(line, markup=False)
    with say.status("Starting the networks; the first time they are converted for this machine"):
        return Detector(request.ensemble, start(request.engine, job), point)


def _sources(request: Request, say: Console) -> list[Source]:
    if not request.images.exists():
        raise NothingToDoError(f"{request.images}: there is no such folder or file")
    sources, shared = gather(request.images, request.output)
    if not sources:
        raise NothingToDoError(f"{request.images}: holds no files; give a folder of radiographs")
    if shared:
        say.print(
            f"Some files share a name ({shared[0]} for instance, {len(shared)} in all); they are "
            "called by their paths in the results.",
            markup=False,
        )
    return sources


def _settings(request: Request, detector: Detector) -> dict[str, object]:
    """Everything that decides what a file's outcome is."""
    return {
        "version": __version__,
        "images": str(request.images.resolve()),
        "members": [member.facts for member in detector.engine.job.members],
        "engine": computed_by(detector.engine),
        "preparation": (detector.engine.job.preparation, detector.engine.job.flip),
        "point": vars(detector.point),
        "pictures": (request.overlays, request.members),
    }


def _in_groups(outcomes: Iterator[Outcome]) -> Iterator[list[Outcome]]:
    group: list[Outcome] = []
    for outcome in outcomes:
        group.append(outcome)
        if len(group) == _FLUSH:
            yield group
            group = []
    if group:
        yield group


def _drawn(
    outcomes: Iterator[Outcome], request: Request, members: list[str], say: Console
) -> Iterator[Outcome]:
    """The outcomes in order, each when its pictures are there, and without its pixels. Drawing
    happens in threads, while the networks run."""

    def draw(outcome: Outcome) -> Outcome:
        fault = _draw(outcome, request, members)
        if fault:
            say.print(f"No picture: {fault}", markup=False)
        return replace(outcome, radiograph=None, mask=None, members=None, no_picture=fault)

    threads = cores()
    waiting: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(threads, "draw") as pool:
        for outcome in outcomes:
            waiting.append(pool.submit(draw, outcome))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _draw(outcome: Outcome, request: Request, members: list[str]) -> str:
    """Draw the pictures that were asked for; why one could not be, empty where all are there."""
    findings, radiograph, mask = outcome.findings, outcome.radiograph, outcome.mask
    if findings is None or radiograph is None or mask is None:
        return ""
    from lungbox import overlay  # what it draws with takes a while to import

    try:
        if request.overlays:
            picture = overlay.draw(radiograph.pixels, mask, findings)
            overlay.save(picture, request.output / OVERLAYS / f"{findings.identity}.png")
        if outcome.members is not None:
            base = request.output / MEMBERS / findings.identity
            masks = dict(zip(members, outcome.members, strict=True))
            picture = overlay.compare(radiograph.pixels, masks, mask, findings)
            overlay.save(picture, base.with_name(f"{base.name}.png"))
            save_members(base.with_name(f"{base.name}.npz"), masks)
    except OSError as error:
        return sentence(error)
    except (MemoryError, ValueError) as error:
        return f"{findings.identity}: {error or 'there is not enough memory to draw it'}"
    return ""


def _write_run(request: Request, detector: Detector, totals: Totals, seconds: float) -> None:
    """What produced the results, so that they can be produced again."""
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
                "share": member.share,
                "sha256": member.sha256,
            }
            for member in engine.job.members
        ],
        "engine": engine.name,
        "precision": engine.precision,
        "chosen": detector.chosen,
        "int8_sha256": engine.job.int8.sha256 if ran_int8 and engine.job.int8 else None,
        "batch_size": engine.job.batch_size,
        "preparation": engine.job.preparation,
        "flip": engine.job.flip,
        "operating_point": vars(detector.point),
        "submission_size": request.submission_size,
        "totals": vars(totals),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    with replacing(request.output / RUN) as file:
        file.write(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _report(
    request: Request,
    totals: Totals,
    ids: list[str] | None,
    sources: list[Source],
    say: Console,
) -> None:
    say.print(
        f"{totals.read} radiographs read, {totals.with_boxes} with boxes, "
        f"{totals.failed} failed. Results in {request.output}/.",
        markup=False,
    )
    if totals.flagged:
        say.print(f"{totals.flagged} may not be frontal chest radiographs: see images.csv.")
    if totals.failed:
        say.print(f"Why files failed: {request.output / 'failed.csv'}", markup=False)
    if totals.without_picture:
        say.print(
            f"Pictures of {totals.without_picture} could not be written, see above; the results of "
            "all files are there."
        )
    if ids is not None:
        absent = len(set(ids) - {source.identity for source in sources})
        if absent:
            say.print(f"Of the {len(ids)} ids, {absent} without a file: their rows are empty.")
    say.print(RESEARCH_USE)
