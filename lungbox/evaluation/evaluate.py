"""`lungbox evaluate`: an ensemble's figures on a fold it was not trained on, as Markdown."""

from dataclasses import replace

from rich.console import Console

from lungbox.datasets.types import DatasetError
from lungbox.evaluation.assess import (
    Assessment,
    Part,
    Subject,
    all_groups,
    assess,
    box_figures_as_it_is,
    figures_of,
)
from lungbox.evaluation.cases import telling_cases
from lungbox.evaluation.figures import Figure
from lungbox.evaluation.groups import recall_by_size
from lungbox.evaluation.operating_point import CrossFit, as_toml, in_brief
from lungbox.evaluation.scores import VIEW_ALONE

_CASES = 5


def run(subject: Subject, say: Console, against: str | None = None) -> None:
    """Print tables of figures, the images that say most, and the operating point that fits best.

    The RSNA figures are cross-fitted: the boxes of each patient come from the operating point
    chosen on the others.

    Args:
        subject: what is assessed.
        say: where progress is shown.
        against: another ensemble, to print no more than how the two differ.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    found = assess(subject, say)
    if against:
        other = assess(replace(subject, ensemble=against), say)
        print("\n".join(_differences(name, found, other) for name in found.parts))
        return
    parts = [f"# {found.ensemble}, fold {found.fold}\n"]
    for name, part in found.parts.items():
        title = f"## {name}, {len(part.maps.dataset)} images"
        parts.append(_figures(title, figures_of(name, part.judged)))
    parts += [_as_it_is(found), _groups(found)]
    for name, part in found.parts.items():
        sizes = recall_by_size(part.judged)
        parts.append(_figures(f"## {name}, recall of boxes by their share of the image", sizes))
        parts.append(_cases(name, part))
    print("\n".join([*parts, _chosen(found.fitted)]))


def _figures(title: str, figures: list[Figure]) -> str:
    lines = [f"{title}\n", "| figure | value (95 % interval) | images |", "| --- | --- | --- |"]
    lines += [f"| {figure.name} | {figure} | {figure.images} |" for figure in figures]
    return "\n".join(lines) + "\n"


def _differences(name: str, one: Assessment, other: Assessment) -> str:
    """Figure by figure, and the paired difference."""
    ours, theirs = one.parts[name], other.parts[name]
    identities = [[image.identity for image in part.maps.dataset.images] for part in (ours, theirs)]
    if identities[0] != identities[1]:
        raise DatasetError(
            f"{one.ensemble} and {other.ensemble} could not read the same images of {name}, so "
            "that nothing can be compared"
        )
    lines = [
        f"## {name}, {len(identities[0])} images of fold {one.fold}\n",
        f"| figure | {one.ensemble} | {other.ensemble} | paired difference |",
        "| --- | --- | --- | --- |",
    ]
    pairs = zip(figures_of(name, ours.judged), figures_of(name, theirs.judged), strict=True)
    lines += [f"| {a.name} | {a} | {b} | {a - b} |" for a, b in pairs if VIEW_ALONE not in a.name]
    return "\n".join(lines) + "\n"


def _as_it_is(found: Assessment) -> str:
    tables = box_figures_as_it_is(found).items()
    shown = [_figures(f"### {name}", figures) for name, figures in tables]
    note = "May have been chosen on these very patients; not cross-fitted.\n"
    title = "## At the ensemble's own operating point\n"
    return "\n".join([title, f"{in_brief(found.own)}\n", note, *shown])


def _groups(found: Assessment) -> str:
    lines = [
        "## Groups\n",
        "| by | group | images | with opacity | RSNA metric, raw | recall of boxes "
        "| false-positive rate | image AUC | AUC of the view alone |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for group in all_groups(found):
        figures = (group.metric, group.recall, group.false_positives, group.auc)
        view = group.view_auc.rounded
        cells = (group.by, group.name, group.images, group.positives, *figures, view)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _cases(name: str, part: Part) -> str:
    cases, judged = telling_cases(part.judged, _CASES), part.judged
    lines = [
        f"## {name}, where it goes wrong\n",
        "| | image | class | image score | part in the metric |",
        "| --- | --- | --- | --- | --- |",
    ]
    kinds = {"false positive": cases.false_positives, "missed": cases.missed, "worst": cases.worst}
    for kind, rows in kinds.items():
        for row in rows:
            image = judged.dataset.images[row]
            score, worth = judged.image_scores[row], judged.outcomes.parts[row]
            lines.append(
                f"| {kind} | {image.identity} | {image.category} | {score:.3f} | {worth:.3f} |"
            )
    return "\n".join(lines) + "\n"


def _chosen(fitted: CrossFit) -> str:
    lines = ["## Operating point\n", "Chosen on the whole fold, for the manifest:\n", "```toml"]
    lines.append(as_toml(fitted.point))
    lines.append("```\n\nChosen on the other patients, part by part:\n")
    different = sorted({in_brief(other) for other in fitted.points})
    return "\n".join(lines + [f"- {text}" for text in different])
