"""A classification network as the only gate of a segmentation network's boxes."""

import keras
import numpy as np
import pytest
from PIL import Image

from lungbox.datasets.phantom import draw
from lungbox.inference.predictor import load
from lungbox.weights.entries import Ensemble
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import load_manifest, register
from tests.small import small_classifier
from tests.tiny import SIDE, enter_tiny, weights_of

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.fromarray(draw(80, number % 3, np.random.default_rng(number)).pixels).save(path)
    return paths


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_a_classifier_withholds_the_boxes_of_a_mask(own_home, tmp_path, pictures, engine):
    """Its score is the image score, whatever the mask; where it is below the gate, the boxes are
    those that are withheld."""
    enter_tiny(tmp_path, "masks")
    keras.utils.set_random_seed(3)
    model = small_classifier(SIDE)
    kernel = model.get_layer("classes_logits").kernel
    kernel.assign(np.random.default_rng(0).normal(0, 20, kernel.shape))
    save_weights(model, tmp_path / "gate.safetensors")
    entry = weights_of(
        tmp_path / "gate.safetensors", network="small_classifier", kind="classification",
        class_names=("abnormal",), folds=(1, 2, 3, 4),
    )  # fmt: skip
    register("gate", entry, Ensemble(members=("gate",)))
    alone = load("gate", engine=engine, precision="float32")
    ungated = load("masks", engine=engine, precision="float32")
    scores = [alone.predict(path).image_score for path in pictures]
    cut = float(np.median(scores))
    assert min(scores) < cut < max(scores)
    gated = Ensemble(members=("masks", "gate"), gates=("gate",), gate=cut, min_area=0)
    register("gated", load_manifest().weights["gate"], gated)
    both = load("gated", engine=engine, precision="float32")
    for path, score in zip(pictures, scores, strict=True):
        findings, free = both.predict(path), ungated.predict(path)
        assert findings.image_score == pytest.approx(score, abs=1e-5)
        assert len(free.boxes) > 0
        if score < cut:
            assert len(findings.boxes) == 0
            assert len(findings.withheld) == len(free.boxes)
        else:
            assert np.allclose(findings.boxes, free.boxes, atol=0.5)
        assert [name for name, _ in findings.class_scores] == ["abnormal"]
