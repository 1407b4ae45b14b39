"""`lungbox tune`: the operating point an ensemble does best at, and what that is worth."""

from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from lungbox.boxes import OperatingPoint
from lungbox.constants import RSNA_CLASS_MIX
from lungbox.datasets.types import DatasetError
from lungbox.engines import Engine
from lungbox.errors import LungboxError
from lungbox.evaluation.assess import Subject, maps_shown
from lungbox.evaluation.figures import with_interval
from lungbox.evaluation.maps import Maps
from lungbox.evaluation.operating_point import (
    WIDE,
    Grid,
    as_toml,
    cross_fit,
    has_mix,
    image_scores,
)
from lungbox.metrics.bootstrap import Draws, Estimate
from lungbox.progress import bar
from lungbox.weights.manifest import (
    Ensemble,
    check_name,
    enter_ensemble,
    load_manifest,
    read_manifest,
    shipped_path,
)

# What costs more, in sense or in time, must be worth it: a fold's noise is larger than less.
MIN_GAIN = 0.01


@dataclass(frozen=True)
class Choice:
    """One way to choose, and what it comes to.

    Attributes:
        name: in words.
        point: the operating point chosen on all images.
        flip: whether radiographs are also read mirrored.
        worth: the RSNA metric at the challenge's mix; of a choice made here, cross-fitted.
    """

    name: str
    point: OperatingPoint
    flip: bool
    worth: Estimate


def run(subject: Subject, save: str | None, say: Console) -> Choice:
    """Search, show what each way to choose is worth, and enter the best under a name.

    Args:
        subject: the ensemble, and the fold it is tuned on.
        save: the name of the ensemble to enter; the ensemble's own where None, unless it is one
            of Lungbox's own, which is then only shown.
        say: where progress is shown.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    ensemble, fold = subject.ensemble, subject.fold
    known = load_manifest().ensemble(ensemble)
    if known.compatibility == "reference":
        raise LungboxError(f"{ensemble} repeats the reference system, whose values are fixed")
    if save:
        check_name(save)  # before the search, not after it
    choices = _choices(_both_maps(subject, say), known, say)
    _show(choices, fold)
    best = pick(choices)
    print(f"\nChosen: {best.name}\n\n{as_toml(best.point)}")
    if best.flip:
        print("flip = true")
    name = save or (None if ensemble in _shipped() else ensemble)
    if (best.worth - choices[0].worth).interval[1] < 0 and not save:
        say.print(f"It is worth less than what {ensemble} has, which stays.", markup=False)
    elif name is None:
        say.print(f"{ensemble} is Lungbox's own; --save NAME enters this as one of yours.")
    else:
        enter_ensemble(name, _tuned(known, best, fold))
        say.print(f"Entered: python -m lungbox predict IMAGE_DIR --ensemble {name}", markup=False)
    return best


def pick(choices: list[Choice]) -> Choice:
    """The first after the present one, unless a later one is worth at least 0.01 more."""
    best = choices[1]
    for choice in choices[2:]:
        if choice.worth.value - best.worth.value >= MIN_GAIN:
            best = choice
    return best


def _choices(maps: tuple[Maps, Maps], known: Ensemble, say: Console) -> list[Choice]:
    plain, mirrored = maps
    images = plain.dataset.images
    draws = Draws.over([image.patient for image in images])
    categories = [image.category for image in images]

    def worth(of: Maps, points: tuple[OperatingPoint, ...]) -> Estimate:
        parts = image_scores(of, points)
        counted = ~np.isnan(parts)
        return draws.mix_ratio(np.nan_to_num(parts), counted, categories, RSNA_CLASS_MIX)

    now = (known.point,) * len(images)
    found = [
        Choice("as it is", known.point, known.flip, worth(mirrored if known.flip else plain, now))
    ]
    for name, of, grid, flip in (
        ("threshold, area, shrink, gate", plain, Grid(), False),
        ("everything", plain, WIDE, False),
        ("everything, mirrored reading", mirrored, WIDE, True),
    ):
        with bar(say, f"Searching: {name}", len(grid.points())) as progress:
            fitted = cross_fit(of, grid, advance=progress.advance)
        found.append(Choice(name, fitted.point, flip, worth(of, fitted.points)))
    return found


def _both_maps(subject: Subject, say: Console) -> tuple[Maps, Maps]:
    """RSNA's images of the fold, read as they are, and mirrored as well."""
    dataset = subject.images().of_source("rsna")
    if not has_mix(dataset):
        raise DatasetError(
            f"{subject.data}: fold {subject.fold} lacks one of RSNA's three classes, so there is "
            "no challenge's mix to tune for"
        )
    started = subject.start(say)

    def maps(flip: bool) -> Maps:
        reading: Engine = started
        reading.job = replace(reading.job, flip=flip)
        return maps_shown(dataset, reading, say)

    return maps(False), maps(True)


def _show(choices: list[Choice], fold: int) -> None:
    table = Table(title=f"RSNA metric at the challenge's mix, fold {fold}")
    for header in ("searched over", "metric (95 % interval)", "difference to as it is"):
        table.add_column(header)
    for choice in choices:
        change = choice.worth - choices[0].worth
        table.add_row(choice.name, _text(choice.worth), _text(change) if change.value else "")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "What is searched here is cross-fitted: each patient's boxes come from the point chosen on "
        "the others. What is as it is may have been chosen on these very patients."
    )


def _text(estimate: Estimate) -> str:
    return with_interval(estimate.value, *estimate.interval)


def _tuned(known: Ensemble, best: Choice, fold: int) -> Ensemble:
    note = (
        f"`python -m lungbox tune` on fold {fold}: {_text(best.worth)}, cross-fitted, the best of "
        "three searches"
    )
    return known.model_copy(update=vars(best.point) | {"flip": best.flip, "note": note})


def _shipped() -> set[str]:
    return set(read_manifest(shipped_path()).ensembles)
