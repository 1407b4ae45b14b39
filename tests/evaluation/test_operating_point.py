"""Choosing an operating point: fast as it is, it equals the slow way, and does not look ahead."""

from dataclasses import replace

import numpy as np
import pytest

from lungbox.boxes import OperatingPoint, geometry
from lungbox.constants import RSNA_CLASS_MIX, RSNA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation import operating_point
from lungbox.evaluation.operating_point import (
    SearchGrid,
    _Search,
    as_toml,
    cross_fit,
    image_scores,
    mix_weights,
    patient_parts,
)
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.evaluation.scores import AT_MIX, VIEW_ALONE, dataset_estimates, score_predictions
from lungbox.metrics import rsna_score
from lungbox.weights.manifest import load_manifest
from tests.conftest import ROOT
from tests.evaluation.drawn import drawn_maps
from tests.training.keys import labelled

# How the manifest and docs/evaluation.md describe the choice.
HOW_CHOSEN = (
    f"the median of the gates that are best on {operating_point.RESAMPLES} resamples of the "
    "patients at the challenge's mix of classes; the other values are those best behind it on "
    "average"
)
GRID = SearchGrid(thresholds=(0.3, 0.6), min_areas=(0.001, 0.05), shrinks=(0.05,), gates=8)


@pytest.fixture(scope="module")
def predictions():
    return drawn_maps()


def test_the_chosen_point_is_about_the_best_of_the_grid(predictions):
    """Every combination tried one by one finds little better."""
    weights = mix_weights(predictions.dataset)
    chosen = cross_fit(predictions, GRID).point
    gates = np.unique(np.round(np.quantile(predictions.scores, np.linspace(0, 0.98, 8)), 4))
    candidates = [replace(p, gate=float(g)) for p in GRID.points() for g in gates]
    count = len(predictions.dataset)
    values = [
        rsna_score(image_scores(predictions, [point] * count), weights) for point in candidates
    ]
    worth = rsna_score(image_scores(predictions, [chosen] * count), weights)
    assert worth > max(values) - 0.02
    assert worth > np.median(values) + 0.05


def test_resamples_draw_patients_not_images(predictions, monkeypatch):
    """Copies of one patient's image make that patient no more likely to be drawn."""
    images = predictions.dataset.images
    copies = 60
    many = replace(
        predictions,
        dataset=Dataset(images + (images[0],) * copies),
        opacity=np.concatenate(
            [predictions.opacity, np.repeat(predictions.opacity[:1], copies, axis=0)]
        ),
        scores=np.concatenate([predictions.scores, np.repeat(predictions.scores[:1], copies)]),
    )
    seen = []
    original = operating_point.mix_weights

    def watched(dataset, counts=None):
        if counts is not None:
            seen.append(np.asarray(counts))
        return original(dataset, counts)

    monkeypatch.setattr(operating_point, "mix_weights", watched)
    cross_fit(many, GRID)
    drawn = np.array([counts[0] for counts in seen])
    assert np.mean(drawn[drawn >= 0]) == pytest.approx(1, abs=0.2)
    assert all(len(set(counts[-copies:])) == 1 for counts in seen)  # all of a patient together


def test_every_part_has_its_share_of_each_class(predictions):
    few = [
        row for row, i in enumerate(predictions.dataset.images) if i.category == RSNA_CLASSES[1]
    ][8:]
    rows = [row for row in range(90) if row not in few]  # eight of that class are left
    dataset = Dataset(tuple(predictions.dataset.images[row] for row in rows))
    for seed in range(5):
        parts = patient_parts(dataset, 4, seed)
        of_class = np.array([image.category == RSNA_CLASSES[1] for image in dataset.images])
        assert sorted(np.bincount(parts[of_class], minlength=4)) == [2, 2, 2, 2]


def test_the_mix_is_kept_on_any_part(predictions):
    counts = np.random.default_rng(0).integers(0, 3, 90)
    weights = mix_weights(predictions.dataset, counts)
    for category, share in RSNA_CLASS_MIX.items():
        rows = [image.category == category for image in predictions.dataset.images]
        assert weights[rows].sum() == pytest.approx(share)
    assert np.all((weights > 0) == (counts > 0))


def test_every_resample_that_decides_has_the_mix(predictions, monkeypatch):
    """Also where a class has only one patient, who is missing from every third resample."""
    hard = RSNA_CLASSES[1]
    rows = [
        row for row, image in enumerate(predictions.dataset.images) if image.category != hard
    ] + [4]
    few = replace(
        predictions,
        dataset=Dataset(tuple(predictions.dataset.images[row] for row in rows)),
        opacity=predictions.opacity[rows],
        scores=predictions.scores[rows],
    )
    categories = np.array([image.category for image in few.dataset.images])
    seen = []
    original = _Search.values

    def watched(self, weights):
        seen.append([weights[categories == name].sum() for name in RSNA_CLASSES])
        return original(self, weights)

    monkeypatch.setattr(_Search, "values", watched)
    _Search.over(few, GRID, lambda: None).choose(np.ones(len(rows), bool))
    assert len(seen) == 100
    assert np.array(seen) == pytest.approx(
        np.tile([RSNA_CLASS_MIX[name] for name in RSNA_CLASSES], (100, 1))
    )
    # Without that patient no weights make the mix, and all images count alike.
    seen.clear()
    _Search.over(few, GRID, lambda: None).choose(categories != hard)
    assert len(seen) == 100
    assert all(shares[1] == 0 and sum(shares) == int(sum(shares)) > 40 for shares in seen)


def test_the_gate_is_the_median_of_those_that_are_best(predictions, monkeypatch):
    """Neither the most frequent, nor the mean, nor the lowest that is nearly as good as the best;
    the other values are the best behind it on average."""
    search = _Search.over(predictions, GRID, lambda: None)
    order = iter(np.random.default_rng(1).permutation(np.repeat([1, 2, 7], [45, 10, 45])))

    def values(self, weights):
        table = np.zeros((len(self.points), len(self.gates)))
        table[0, next(order)] = 1
        table[3, 2] = 0.2
        return table

    monkeypatch.setattr(_Search, "values", values)
    chosen = search.choose(np.ones(90, bool))
    assert chosen == replace(search.points[3], gate=float(search.gates[2]))


def test_what_the_manifest_and_the_documentation_say_of_the_choice_is_what_is_done():
    of_gate = HOW_CHOSEN.partition(";")[0]
    assert f"the gate is {of_gate};" in load_manifest().ensembles["default"].note
    text = " ".join((ROOT / "docs/evaluation.md").read_text(encoding="utf-8").split())
    assert f"it is {HOW_CHOSEN}." in text


def test_points_that_say_more_are_tried_as_they_are_used(predictions):
    """The search finds regions once for many points; each row is what the point itself gives."""
    grid = replace(
        GRID, thresholds=(0.2, 0.5, 0.8), shrinks=(0.0, 0.2), max_one_box_per_lung=(False, True)
    )
    some = replace(predictions, dataset=Dataset(predictions.dataset.images[:30]))
    calls = []
    search = _Search.over(some, grid, lambda: calls.append(1))
    assert len(calls) == len(search.points) == 3 * 2 * 2 * 2
    for row in range(0, len(search.points), 3):
        expected = image_scores(some, [search.points[row]] * 30)
        assert np.allclose(search.table[row], expected, equal_nan=True)
    assert len({row.tobytes() for row in search.table}) > 4


def test_a_patients_point_does_not_depend_on_the_patient(predictions):
    """Changing what is known of one patient leaves the point it is judged by."""
    before = cross_fit(predictions, GRID)
    images = list(predictions.dataset.images)
    images[0] = replace(images[0], boxes=geometry.as_boxes([(0, 0, 31, 31)]), target=True)
    after = cross_fit(replace(predictions, dataset=Dataset(tuple(images))), GRID)
    assert after.points[0] == before.points[0]


def test_parts_keep_patients_together(predictions):
    parts = patient_parts(predictions.dataset, 5, seed=1)
    of_patient = {}
    for image, part in zip(predictions.dataset.images, parts, strict=True):
        assert of_patient.setdefault(image.patient, part) == part
    assert set(parts) == set(range(5))


def test_mix_gives_classes_their_shares(predictions):
    weights = mix_weights(predictions.dataset)
    assert weights.sum() == pytest.approx(1)
    for category, share in RSNA_CLASS_MIX.items():
        rows = [image.category == category for image in predictions.dataset.images]
        assert weights[rows].sum() == pytest.approx(share)


def test_the_figure_at_the_mix_has_the_mix_in_every_resample(predictions):
    """Were every opacity hit by half and all others boxed, the figure would be half the share of
    opacities, whoever is drawn: only a weight that is not the class's share can change it."""
    scored = score_predictions(predictions, [replace(GRID.points()[0], gate=2.0)] * 90)
    positive = scored.outcomes.truths > 0
    parts = np.where(positive, 0.5, 0.0)
    scored = replace(scored, outcomes=replace(scored.outcomes, parts=parts))
    figure = next(figure for figure in dataset_estimates(scored) if figure.name == AT_MIX)
    expected = 0.5 * RSNA_CLASS_MIX[RSNA_CLASSES[2]]
    assert [figure.low, figure.value, figure.high] == pytest.approx([expected] * 3)


def test_figures_lie_in_their_intervals(predictions):
    fitted = cross_fit(predictions, GRID)
    figures = {
        figure.name: figure
        for figure in dataset_estimates(score_predictions(predictions, fitted.points))
    }
    for figure in figures.values():
        assert 0 <= figure.low <= figure.value <= figure.high <= 1, figure.name
    assert figures["image AUC against normal"].images == 60
    assert figures["RSNA metric, raw"].images == 90
    for against in ("normal", "not normal", "both"):
        view = figures[f"{VIEW_ALONE} against {against}"]
        assert view.value == pytest.approx(0.5, abs=0.05)
        assert view.images == figures[f"image AUC against {against}"].images


def test_the_fusion_is_not_searched_but_kept(predictions):
    """That of the ensemble, for every point, and in what is printed for the manifest."""
    point = OperatingPoint(fusion="percentile", fusion_iou=0.3, nms_iou=0.4, gate=0.7, shrink=0.1)
    grid = SearchGrid(thresholds=(0.3, 0.5)).fusing_as(point)
    found = {(one.fusion, one.fusion_iou, one.nms_iou, one.gate) for one in grid.points()}
    assert found == {("percentile", 0.3, 0.4, 0.0)}
    assert {one.threshold for one in grid.points()} == {0.3, 0.5}
    chosen = cross_fit(predictions, replace(grid, gates=3, min_areas=(0.005,))).point
    assert 'fusion = "percentile"' in as_toml(chosen)


def test_the_grid_of_detection_networks(monkeypatch):
    """Least scores are searched where there are detections, thresholds where there is a mask; the
    least score that keeps true boxes alone is found."""
    boxes = np.float32([[[0.1, 0.2, 0.4, 0.6], [0.5, 0.1, 0.9, 0.5]]] * 60)
    scores = np.tile(np.float32([[[0.8], [0.3]]]), (60, 1, 1))
    size = np.float32([300, 400, 300, 400])
    images = tuple(labelled(n, boxes=[tuple(boxes[0, 0] * size)]) for n in range(60))
    mask = np.zeros((60, 8, 8), np.uint8)
    grid = SearchGrid(thresholds=(0.3, 0.6), min_areas=(0.001,), shrinks=(0.0,), gates=3)
    image_score = np.full(60, 0.5, np.float32)
    both = DatasetPredictions(Dataset(images), mask, image_score, ((boxes, scores, 1.0),))
    alone, without = replace(both, opacity=None), replace(both, detections=())
    thresholds = {p.threshold for p in grid.fitting(without).points()}
    assert (thresholds, len(grid.fitting(without).points())) == ({0.3, 0.6}, 2)
    least = [p.min_score for p in grid.fitting(alone).points()]
    assert least == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6]
    assert len(grid.fitting(both).points()) == 20
    own = replace(grid, min_scores=(0.1, 0.9))
    assert [p.min_score for p in own.fitting(alone).points()] == [0.1, 0.9]
    monkeypatch.setattr(operating_point, "RESAMPLES", 3)
    assert cross_fit(alone, grid).point.min_score == 0.35
