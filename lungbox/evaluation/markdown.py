"""`lungbox evaluate`: an ensemble's metrics on a held-out fold, as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich.console import Console

from lungbox.datasets.types import DatasetError
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import (
    DatasetResult,
    EvaluationConfig,
    EvaluationResult,
    all_groups,
    box_estimates_at_own_point,
    evaluate_ensemble,
)
from lungbox.evaluation.findings import FindingsScores, evaluate_findings, has_findings
from lungbox.evaluation.groups import example_cases, recall_by_size
from lungbox.evaluation.image_labels import is_classification, label_tables
from lungbox.evaluation.operating_point import in_brief
from lungbox.evaluation.reliability import BINS, how_calibrated, score_reliability
from lungbox.evaluation.scores import VIEW_ALONE, dataset_estimates

_CASES = 5


def print_evaluation(
    config: EvaluationConfig, console: Console, against: str | None = None
) -> None:
    """Print tables of metrics, example images, and the operating point chosen on the fold.

    The RSNA metrics are cross-fitted: the boxes of each patient come from the operating point
    chosen on the others. An ensemble of several findings is scored at its own point, see
    `findings.evaluate_findings`; one of classification networks alone by the AUC of each label,
    see `image_labels`.

    Args:
        config: the ensemble and the fold.
        console: where progress is shown.
        against: another ensemble; only paired differences are printed.

    Raises:
        LungboxError: the data is missing, the fold is not held out, or an operating point is given
            with `against`, which compares two ensembles at the points chosen for each.
    """
    if against and (config.operating_point or config.gate is not None):
        raise LungboxError(
            "--against compares each ensemble at the points chosen for it; leave out "
            "--operating-point and --gate"
        )
    if is_classification(config.ensemble):
        for title, columns, rows in label_tables(config, console, against):
            print(f"## {title}\n\n{markdown_table(columns, rows)}\n")
        return
    if has_findings(config.class_names):
        _print_findings(config, console, against)
        return
    result = evaluate_ensemble(config, console)
    if against:
        other = evaluate_ensemble(replace(config, ensemble=against), console)
        print("\n".join(_differences(name, result, other) for name in result.parts))
        return
    parts = [f"# {result.ensemble}, fold {result.fold}\n"]
    for name, part in result.parts.items():
        title = f"## {name}, {len(part.predictions.dataset)} images"
        parts.append(_figures(title, dataset_estimates(part.scored)))
    parts += [_at_own_point(result, config), _calibration(result), _groups(result)]
    for name, part in result.parts.items():
        sizes = recall_by_size(part.scored)
        parts.append(_figures(f"## {name}, recall of boxes by their share of the image", sizes))
        parts.append(_cases(name, part))
    print("\n".join([*parts, _named_points(result), _chosen(result)]))


def _print_findings(config: EvaluationConfig, console: Console, against: str | None) -> None:
    """The tables of an ensemble of several findings, or how it differs from another."""
    parts = evaluate_findings(config, console)
    if against:
        other = evaluate_findings(replace(config, ensemble=against), console)
        print("\n".join(_findings_differences(config, against, parts, other)))
        return
    print(f"# {config.ensemble}, fold {config.fold}\n")
    for part in parts:
        print(_figures(f"## {part.title}, {part.images} images", list(part.figures)))
        if part.classes:
            columns = ("class", "boxes", "images", "AP at IoU > 0.4", "AP at IoU 0.5 to 0.95")
            rows = ((row.name, row.boxes, row.images, row.voc, row.coco) for row in part.classes)
            print(f"## {part.title}, by class\n\n{markdown_table(columns, rows)}\n")


def _findings_differences(
    config: EvaluationConfig,
    against: str,
    ours: list[FindingsScores],
    theirs: list[FindingsScores],
) -> Iterator[str]:
    columns = ("figure", config.ensemble, against, "paired difference")
    others = {part.title: part for part in theirs}
    for part in ours:
        other = others.get(part.title)
        if other is None or other.images != part.images:
            raise DatasetError(
                f"{config.ensemble} and {against} are not evaluated on the same images of "
                f"{part.title}, so that nothing can be compared"
            )
        values = {figure.name: figure for figure in other.figures}
        pairs = [(one, values[one.name]) for one in part.figures if one.name in values]
        rows = ((one.name, one, two, one - two) for one, two in pairs)
        title = f"## {part.title}, {part.images} images of fold {config.fold}"
        yield f"{title}\n\n{markdown_table(columns, rows)}\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, without a line end after its last row.

    >>> print(markdown_table(["", "value"], [["AUC", 0.9]]))
    | | value |
    | --- | --- |
    | AUC | 0.9 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "|" + "".join(f" {c} |" if c != "" else " |" for c in cells) for cells in lines
    )


def _figures(title: str, figures: list[MetricEstimate]) -> str:
    columns = ("figure", "value (95 % interval)", "images")
    rows = ((figure.name, figure, figure.images) for figure in figures)
    return f"{title}\n\n{markdown_table(columns, rows)}\n"


def _differences(name: str, one: EvaluationResult, other: EvaluationResult) -> str:
    """Both values of each metric, and the paired difference."""
    ours, theirs = one.parts[name], other.parts[name]
    identities = [
        [image.identity for image in part.predictions.dataset.images] for part in (ours, theirs)
    ]
    if identities[0] != identities[1]:
        raise DatasetError(
            f"{one.ensemble} and {other.ensemble} could not read the same images of {name}, so "
            "that nothing can be compared"
        )
    pairs = zip(dataset_estimates(ours.scored), dataset_estimates(theirs.scored), strict=True)
    rows = ((a.name, a, b, a - b) for a, b in pairs if VIEW_ALONE not in a.name)
    columns = ("figure", one.ensemble, other.ensemble, "paired difference")
    title = f"## {name}, {len(identities[0])} images of fold {one.fold}"
    return f"{title}\n\n{markdown_table(columns, rows)}\n"


def _at_own_point(result: EvaluationResult, config: EvaluationConfig) -> str:
    tables = box_estimates_at_own_point(result).items()
    shown = [_figures(f"### {name}", figures) for name, figures in tables]
    note = "May have been chosen on these very patients; not cross-fitted.\n"
    which = "ensemble's own operating point"
    if config.operating_point:
        which = f"operating point {config.operating_point}"
    title = f"## At the {which}{'' if config.gate is None else f', gate {config.gate:g}'}\n"
    return "\n".join([title, f"{in_brief(result.own)}\n", note, *shown])


def _calibration(result: EvaluationResult) -> str:
    """The expected calibration errors of the image score."""
    mixed = f"{result.challenge.info.title} at the challenge's mix of classes."
    about = f"Expected calibration error, {BINS} bins of equal width over 0-1; {mixed}"
    errors = [one.error for one in score_reliability(result)]
    title = f"## Calibration of the image score\n\n{about} {how_calibrated(result)}"
    return _figures(title, errors)


NAMED_COLUMNS = (
    "operating point", "gate", "calibrated", "sensitivity", "specificity",
    "false positives an image", "images",
)  # fmt: skip


def named_rows(result: EvaluationResult) -> list[tuple[str, ...]]:
    """A row of `NAMED_COLUMNS` for each operating point by name, as it is chosen on this fold."""
    calibration, rows = result.tuned.calibration, []
    for name, entry in result.tuned.named.items():
        if figures := entry.figures:
            written = f"{calibration(entry.gate):.4f}" if calibration else ""
            rates = (figures.sensitivity, figures.specificity, figures.false_positives)
            shown = (f"{rate:.3f}" for rate in rates)
            rows.append((name, f"{entry.gate:.4f}", written, *shown, str(figures.images)))
    return rows


def named_on(result: EvaluationResult) -> str:
    """What the figures of `named_rows` are, and on which images."""
    on = next(entry.figures.on for entry in result.tuned.named.values() if entry.figures)
    return " ".join(
        [
            "Sensitivity and specificity: of images, by whether they get a box. False positives: "
            f"boxes that meet no true box (IoU >= 0.4). On {on}.",
            *result.tuned.notes(),
        ]
    )


def _named_points(result: EvaluationResult) -> str:
    table = markdown_table(NAMED_COLUMNS, named_rows(result))
    return f"## Operating points by name\n\n{named_on(result)}\n\n{table}\n"


def _groups(result: EvaluationResult) -> str:
    columns = (
        "by", "group", "images", "with opacity", "RSNA metric, raw", "recall of boxes",
        "false-positive rate", "image AUC", "AUC of the view alone",
    )  # fmt: skip
    rows = []
    for group in all_groups(result):
        metrics = (group.metric, group.recall, group.false_positives, group.auc)
        view = group.view_auc.rounded
        rows.append((group.by, group.name, group.images, group.positives, *metrics, view))
    return f"## Groups\n\n{markdown_table(columns, rows)}\n"


def _cases(name: str, part: DatasetResult) -> str:
    cases, scored = example_cases(part.scored, _CASES), part.scored
    kinds = {"false positive": cases.false_positives, "missed": cases.missed, "worst": cases.worst}
    rows = []
    for kind, chosen in kinds.items():
        for row in chosen:
            image = scored.dataset.images[row]
            score, metric = scored.image_scores[row], scored.outcomes.parts[row]
            rows.append((kind, image.identity, image.category, f"{score:.3f}", f"{metric:.3f}"))
    columns = ("", "image", "class", "image score before calibration", "part in the metric")
    return f"## {name}, where it goes wrong\n\n{markdown_table(columns, rows)}\n"


def _chosen(result: EvaluationResult) -> str:
    fitted = result.fitted
    lines = ["## Operating point\n", "Chosen on the whole fold, for the manifest:\n", "```toml"]
    lines.append(result.tuned.to_toml(result.ensemble))
    lines.append("```\n\nChosen on the other patients, part by part:\n")
    different = sorted({in_brief(other) for other in fitted.points})
    return "\n".join(lines + [f"- {text}" for text in different])
