"""The default weights on real radiographs: every engine draws the same boxes, and 8-bit integers
nearly so."""

from dataclasses import replace

import numpy as np
import pytest

import lungbox
from lungbox.boxes.geometry import iou
from lungbox.engines.openvino import fastest
from lungbox.findings import Findings
from lungbox.inference.files import ImageFile, find_image_files
from lungbox.weights.entries import MIN_SAME_COUNT

MANY = (pytest.mark.long("reads 300 radiographs twice"), pytest.mark.release)
# Boxes of two engines may differ where a probability lies on the threshold; nowhere else.
_PIXEL = 1.0


@pytest.mark.real
@pytest.mark.parametrize("count", [30, pytest.param(300, marks=MANY)])
def test_keras_and_openvino_draw_the_same_boxes_on_real_radiographs(shared, count):
    sources = find_image_files(shared / "rsna" / "images")[0][:: 1800 // count][:count]
    assert len(sources) == count
    found = []
    for engine in ("keras", "openvino"):
        detector = lungbox.load("default", engine, batch_size=8, precision="float32")
        # Without the gate: every region there is becomes a box, not the few that are sure.
        detector.point = replace(detector.point, gate=0.0)
        found.append([outcome.findings for outcome in detector.predict_all(sources)])
    differences = []
    for keras, openvino in zip(*found, strict=True):
        assert abs(keras.image_score - openvino.image_score) < 1e-4
        assert len(keras.boxes) == len(openvino.boxes), keras.identity
        assert np.abs(keras.boxes - openvino.boxes).max(initial=0) <= _PIXEL, keras.identity
        differences += np.abs(keras.scores - openvino.scores).tolist()
    assert len(differences) > count / 2
    # A score is a mean over a region, which a pixel on the threshold joins or not.
    assert np.mean(np.array(differences) < 1e-3) > 0.99
    assert max(differences) < 0.01


# Others add products of 8-bit integers up in 16 bits, which may overflow; `auto` never does so.
exact_integers = pytest.mark.skipif(
    fastest(("int8", "float32")) != "int8", reason="needs a processor with VNNI"
)


def found(sources: list[ImageFile], precision: str) -> list[Findings]:
    detector = lungbox.load("default", "openvino", batch_size=8, precision=precision)
    return [outcome.findings for outcome in detector.predict_all(sources)]


@exact_integers
def test_eight_bits_draw_nearly_the_same_boxes(examples):
    sources = find_image_files(examples)[0]
    pairs = list(zip(found(sources, "float32"), found(sources, "int8"), strict=True))
    assert [len(exact.boxes) for exact, _ in pairs] == [len(rough.boxes) for _, rough in pairs]
    for exact, rough in pairs:
        assert abs(exact.image_score - rough.image_score) < 0.1
        if len(exact.boxes):
            # An edge may move by two of the mask's pixels, eight of the radiograph's each.
            assert iou(exact.boxes, rough.boxes).max(axis=1).min() > 0.6, exact.identity
    assert any(exact.image_score != rough.image_score for exact, rough in pairs)


@exact_integers
@pytest.mark.real
@pytest.mark.parametrize("count", [30, pytest.param(300, marks=MANY)])
def test_eight_bits_keep_the_number_of_boxes_on_real_radiographs(shared, count):
    sources = find_image_files(shared / "rsna" / "images")[0][:: 1800 // count][:count]
    pairs = zip(found(sources, "float32"), found(sources, "int8"), strict=True)
    assert (
        np.mean([len(exact.boxes) == len(rough.boxes) for exact, rough in pairs]) >= MIN_SAME_COUNT
    )
