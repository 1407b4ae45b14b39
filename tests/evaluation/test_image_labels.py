"""AUC by label on a held-out fold."""

import numpy as np
import pytest
from rich.console import Console

from lungbox import datasets
from lungbox.datasets.findings import FINDINGS
from lungbox.datasets.label_sets import LABEL_SETS
from lungbox.datasets.phantom import write_rsna
from lungbox.datasets.types import Dataset
from lungbox.errors import LungboxError
from lungbox.evaluation.evaluator import EvaluationConfig, TrainedOnError
from lungbox.evaluation.image_labels import MEAN, _estimates, label_estimates, mean_auc
from lungbox.evaluation.markdown import print_evaluation
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics import auc
from lungbox.weights.entries import Ensemble
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import register
from tests.small import small_classifier
from tests.tiny import weights_of
from tests.training.keys import labelled

NIH = LABEL_SETS["nih"]


def of_nih(count=60, seed=3):
    """Images of 20 patients with NIH's findings, some of which are not known of some images; no
    image has a hernia. Probabilities that are right more often than not."""
    random = np.random.default_rng(seed)
    images, probabilities = [], []
    for number in range(count):
        values = (random.random(14) < 0.3).astype(float)
        values[-1] = 0
        known = random.random(14) < 0.8
        findings = tuple(
            (name, value)
            for name, value, there in zip(NIH.findings, values, known, strict=True)
            if there
        )
        images.append(labelled(number, findings=findings, patient=f"p{number % 20}"))
        probabilities.append(np.clip(random.normal(0.3 + 0.3 * values, 0.2), 0, 1))
    return Dataset(tuple(images)), np.array(probabilities, np.float32)


def test_each_label_is_scored_on_the_images_of_which_it_is_known():
    dataset, probabilities = of_nih()
    expected = []
    for column, name in enumerate(NIH.findings):
        rows = [
            (dict(image.findings)[name], probabilities[row, column])
            for row, image in enumerate(dataset.images)
            if name in dict(image.findings)
        ]
        targets, scores = zip(*rows, strict=True)
        expected.append((auc(targets, scores), len(rows), int(sum(targets))))
    *found, mean = label_estimates(NIH, dataset, probabilities)
    for figure, name, (value, images, positive) in zip(
        found, NIH.class_names, expected, strict=True
    ):
        assert figure.name == f"{name}, {positive} positive"
        assert figure.images == images
        assert figure.value == pytest.approx(value, nan_ok=True)
    assert str(found[-1]) == "–"  # hernia
    values = [value for value, *_ in expected[:-1]]
    assert mean.name == MEAN
    assert mean.value == pytest.approx(np.mean(values))
    assert mean_auc(NIH, dataset, probabilities) == pytest.approx(np.mean(values))
    # The mean of thirteen labels varies less than each.
    assert 0 < mean.high - mean.low < min(figure.high - figure.low for figure in found[:-1])
    assert all(figure.low <= figure.value <= figure.high for figure in [*found[:-1], mean])


def test_the_image_score_is_of_any_finding():
    dataset, probabilities = of_nih()
    scores = probabilities.max(axis=1)
    part = DatasetPredictions(dataset, None, scores, classes=probabilities)
    *_, mean, found = _estimates(NIH, part)
    any_of_them = [max(value for _, value in image.findings) for image in dataset.images]
    assert mean.name == MEAN
    assert found.name == f"image score, any finding, {int(sum(any_of_them))} positive"
    assert found.value == pytest.approx(auc(any_of_them, scores))


def test_nothing_to_tell_apart():
    dataset = Dataset((labelled(0), labelled(1)))
    assert np.isnan(mean_auc(NIH, dataset, np.zeros((2, 14))))
    (only,) = label_estimates(LABEL_SETS["abnormal"], dataset, np.zeros((2, 1)))
    assert (only.name, only.images, str(only)) == ("abnormal, 0 positive", 0, "–")


def registered(folder, name, class_names, seed=0, folds=(1, 2, 3, 4)):
    import keras

    keras.utils.set_random_seed(seed)
    path = folder / f"{name}.safetensors"
    save_weights(small_classifier(64, len(class_names)), path)
    entry = weights_of(
        path, network="small_classifier", kind="classification", class_names=class_names,
        folds=folds,
    )  # fmt: skip
    register(name, entry, Ensemble(members=(name,)))


@pytest.mark.usefixtures("small_networks")
def test_evaluate_prints_the_auc_of_each_label(tmp_path, capsys):
    write_rsna(tmp_path / "data", count=40, size=64)
    three = LABEL_SETS["three"].class_names
    for seed, name in enumerate(("one", "other")):
        registered(tmp_path, name, three, seed)
    config = EvaluationConfig(tmp_path / "data", 0, "one")
    print_evaluation(config, Console(quiet=True))
    text = capsys.readouterr().out
    assert "## RSNA, 8 images of fold 0\n\n| AUC of | value (95 % interval) | images |" in text
    fold = datasets.load(tmp_path / "data").folds([0])
    counts = [sum(image.category == name for image in fold.images) for name in three]
    for name, count in zip(three, counts, strict=True):
        assert f"| {name}, {count} positive | " in text
    assert f"| {MEAN} | " in text
    print_evaluation(config, Console(quiet=True), against="other")
    text = capsys.readouterr().out
    assert "| AUC of | one | other | paired difference |" in text
    registered(tmp_path, "findings", NIH.class_names)
    with pytest.raises(LungboxError, match="no image of fold 0 has a label of findings"):
        print_evaluation(config, Console(quiet=True), against="findings")
    registered(tmp_path, "seen", three, folds=(0, 1))
    with pytest.raises(TrainedOnError, match="seen was trained on fold 0"):
        print_evaluation(EvaluationConfig(tmp_path / "data", 0, "seen"), Console(quiet=True))
    registered(tmp_path, "others", ("cat", "dog"))
    with pytest.raises(LungboxError, match="no data set has labels of its classes, cat, dog"):
        print_evaluation(EvaluationConfig(tmp_path / "data", 0, "others"), Console(quiet=True))


def test_every_finding_is_in_a_label_set():
    known = {name for labels in LABEL_SETS.values() for name in labels.findings}
    assert known == set(FINDINGS)
