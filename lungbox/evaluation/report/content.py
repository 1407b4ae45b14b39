"""The content of a report: metrics as text, curves and radiographs as pictures inside the page."""

import base64
import csv
import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lungbox import __version__
from lungbox.boxes import OperatingPoint
from lungbox.constants import CLASS_NAMES, OPACITY, RESEARCH_USE
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import (
    DatasetResult,
    EvaluationResult,
    all_groups,
    box_estimates_at_own_point,
)
from lungbox.evaluation.groups import Group, example_cases, recall_by_size
from lungbox.evaluation.markdown import NAMED_COLUMNS, named_on, named_rows
from lungbox.evaluation.operating_point import in_brief
from lungbox.evaluation.reliability import ScoreReliability, how_calibrated, score_reliability
from lungbox.evaluation.report import plots
from lungbox.evaluation.report.plots import picture
from lungbox.evaluation.scores import (
    AGAINST_NORMAL,
    AGAINST_NOT_NORMAL,
    AT_MIX,
    RAW,
    VIEW_ALONE,
    dataset_estimates,
)
from lungbox.evaluation.sweep import sweeps
from lungbox.findings import Findings
from lungbox.inference import overlay
from lungbox.metrics.classification import RocCurve, roc_curve
from lungbox.metrics.curves import DetectionCurve
from lungbox.metrics.matching import BoxTable
from lungbox.radiograph import read
from lungbox.weights.manifest import load_manifest

_CURVE_IOU = 0.4
_EACH = 6
_TILE = 300  # pixels
# Figures, and what stands beside them.
_HEADLINES = (
    (AT_MIX, ""),
    (RAW, ""),
    (AGAINST_NORMAL, f"{VIEW_ALONE} against normal"),
    (AGAINST_NOT_NORMAL, f"{VIEW_ALONE} against not normal"),
)


@dataclass(frozen=True)
class Plot:
    """A picture as a data URI, with its title and caption."""

    image: str
    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A radiograph as a data URI, with its scores."""

    image: str
    identity: str
    category: str
    score: float
    metric: str


@dataclass(frozen=True)
class Content:
    """The values of the page's template."""

    title: str
    facts: dict[str, str]
    warning: str
    headlines: list[tuple[MetricEstimate, MetricEstimate | None]]
    tables: dict[str, list[MetricEstimate]]
    at_own_point: dict[str, list[MetricEstimate]]
    own: str
    groups: list[Group]
    forest: Plot
    sizes: dict[str, list[MetricEstimate]]
    curves: list[Plot]
    calibration: list[Plot]
    calibration_errors: list[MetricEstimate]
    calibration_note: str
    sweeps: list[Plot]
    montages: dict[str, dict[str, list[Tile]]]
    named: list[tuple[str, ...]]
    named_columns: tuple[str, ...]
    named_on: str
    point: str
    points: list[str]
    runs: list[Plot]


def collect_content(result: EvaluationResult) -> Content:
    """Compute the metrics and draw the pictures of a report."""
    tables = {name: dataset_estimates(part.scored) for name, part in result.parts.items()}
    by_name = {figure.name: figure for figure in tables[result.challenge.info.title]}
    groups, scores = all_groups(result), score_reliability(result)
    forest = picture(plots.forest, groups, size=plots.forest_size(groups))
    return Content(
        title=f"{result.ensemble} on fold {result.fold}",
        facts=_facts(result),
        warning=RESEARCH_USE,
        headlines=[
            (by_name[name], by_name.get(beside)) for name, beside in _HEADLINES if name in by_name
        ],
        tables=tables,
        at_own_point=box_estimates_at_own_point(result),
        own=in_brief(result.own),
        groups=groups,
        forest=Plot(forest, "", "In brackets: images with opacity, of all."),
        sizes={name: recall_by_size(part.scored) for name, part in result.parts.items()},
        curves=_curves(result),
        calibration=_reliability(scores),
        calibration_errors=[one.error for one in scores],
        calibration_note=how_calibrated(result),
        sweeps=_sweeps(result),
        montages={name: _montage(part) for name, part in result.parts.items()},
        named=named_rows(result),
        named_columns=NAMED_COLUMNS,
        named_on=named_on(result),
        point=result.tuned.to_toml(result.ensemble),
        points=sorted({in_brief(point) for point in result.fitted.points}),
        runs=_runs(result.ensemble),
    )


def _facts(result: EvaluationResult) -> dict[str, str]:
    manifest = load_manifest()
    ensemble = manifest.ensemble(result.ensemble)
    members = (f"{name} ({manifest.weights[name].architecture})" for name in ensemble.members)
    images = ", ".join(
        f"{name} {len(part.predictions.dataset)}" for name, part in result.parts.items()
    )
    return {
        "Networks": ", ".join(members),
        "Images": f"{images}, of patients no network was trained on",
        "Run by": result.ran_on,
        "Made": f"{datetime.now(UTC):%Y-%m-%d} by Lungbox {__version__}",
    }


def _curves(result: EvaluationResult) -> list[Plot]:
    detections = {name: _ungated(part, result.fitted.point) for name, part in result.parts.items()}
    ranked = "boxes without the gate, ranked by image score times confidence"
    return [
        Plot(
            picture(plots.roc, _roc_curves(result), result.fitted.point.gate),
            "ROC of the image score",
            "dots: at the gate",
        ),
        Plot(
            picture(plots.precision_recall, detections),
            f"Precision and recall, IoU >= {_CURVE_IOU}",
            ranked,
        ),
        Plot(picture(plots.free_response, detections), f"FROC, IoU >= {_CURVE_IOU}", ranked),
    ]


def _reliability(found: list[ScoreReliability]) -> list[Plot]:
    """A reliability diagram for each data set: image scores as they are, and calibrated."""
    diagrams = []
    for name in dict.fromkeys(one.dataset for one in found):
        shown = [one for one in found if one.dataset == name]
        errors = (f"{one.kind} {one.error}" for one in shown)
        text = f"bars: how many images; expected calibration error: {', '.join(errors)}"
        diagram = picture(plots.calibration, {one.kind: one.bins for one in shown})
        diagrams.append(Plot(diagram, f"Reliability, {name}", text))
    return diagrams


def _scored(part: DatasetResult) -> tuple[np.ndarray, np.ndarray]:
    return part.scored.outcomes.truths > 0, part.scored.image_scores


def _roc_curves(result: EvaluationResult) -> dict[str, RocCurve]:
    truth, scores = _scored(result.challenge)
    info = result.challenge.info
    category = np.array([image.category for image in result.challenge.scored.dataset.images])
    curves = {
        f"{info.title}, against {name.lower()}": roc_curve(truth[chosen], scores[chosen])
        for name in info.negatives.values()
        for chosen in [truth | (category == name)]
    }
    return curves | {title: roc_curve(*_scored(part)) for title, part in result.others.items()}


def _ungated(part: DatasetResult, point: OperatingPoint) -> DetectionCurve:
    """All boxes at a point without its gate."""
    open_point = replace(point, gate=0.0)
    images = part.predictions.dataset.images
    decisions = [part.predictions.boxes(row, open_point) for row in range(len(images))]
    boxes = [decision.boxes for decision in decisions]
    pairs = zip(decisions, part.predictions.scores, strict=True)
    scores = [decision.scores * score for decision, score in pairs]
    truth = BoxTable.of([image.boxes for image in images])
    return DetectionCurve.of(truth, BoxTable.of(boxes, scores), len(images), _CURVE_IOU)


def _sweeps(result: EvaluationResult) -> list[Plot]:
    point = result.fitted.point
    return [
        Plot(picture(plots.sweep, curve, getattr(point, curve.key), size=plots.LOW), "", curve.key)
        for curve in sweeps(result.challenge.predictions, point)
    ]


def _montage(part: DatasetResult) -> dict[str, list[Tile]]:
    cases = example_cases(part.scored, _EACH)
    kinds = {
        "Best": cases.best,
        "Worst boxes": cases.worst,
        "False positives": cases.false_positives,
        "Missed": cases.missed,
    }
    return {kind: [_tile(part, int(row)) for row in rows] for kind, rows in kinds.items()}


def _tile(part: DatasetResult, row: int) -> Tile:
    image = part.scored.dataset.images[row]
    boxes, scores, _ = part.scored.found[row]
    score = float(part.scored.image_scores[row])
    findings = Findings(
        identity=image.identity,
        size=image.size,
        image_score=score,
        boxes=boxes,
        scores=scores,
        labels=(CLASS_NAMES[OPACITY],) * len(scores),
    )
    pixels = read(image.path).pixels
    drawn = overlay.beside_truth(
        pixels, part.predictions.prediction(row).mask, findings, image.boxes, _TILE
    )
    buffer = io.BytesIO()
    drawn.save(buffer, format="JPEG", quality=80)
    metric = part.scored.outcomes.parts[row]
    return Tile(
        image="data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
        identity=image.identity,
        category=image.category,
        score=score,
        metric="–" if np.isnan(metric) else f"{metric:.2f}",
    )


def _runs(ensemble: str) -> list[Plot]:
    """Losses of the members' training runs, where their files are in a run's folder."""
    manifest, runs = load_manifest(), []
    for name in manifest.ensemble(ensemble).members:
        for source in manifest.weights[name].sources:
            log = Path(source.removeprefix("file:")).parent / "log.csv"
            columns = _columns(log) if source.startswith("file:") else {}
            if columns:
                drawn = picture(plots.training, columns, size=plots.WIDE_GRID)
                runs.append(Plot(drawn, name, f"losses of {name} by epoch"))
    return runs


def _columns(log: Path) -> dict[str, list[float]]:
    """The columns of a run's `log.csv`; none where it cannot be read."""
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError):
        return {}
    return columns if "epoch" in columns else {}
