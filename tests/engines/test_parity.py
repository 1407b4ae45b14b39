"""The default weights on real radiographs: every engine draws the same boxes."""

from dataclasses import replace

import numpy as np
import pytest

import lungbox
from lungbox.folder import gather

# Boxes of two engines may differ where a probability lies on the threshold; nowhere else.
_PIXEL = 1.0


@pytest.mark.real
@pytest.mark.slow
def test_keras_and_openvino_draw_the_same_boxes_on_300_real_radiographs(shared):
    sources = gather(shared / "rsna" / "images")[0][::6][:300]
    assert len(sources) == 300
    found = []
    for engine in ("keras", "openvino"):
        detector = lungbox.load("default", engine, batch_size=8, precision="float32")
        # Without the gate: every region there is becomes a box, not the few that are sure.
        detector.point = replace(detector.point, gate=0.0)
        found.append([outcome.findings for outcome in detector.predict_all(sources)])
    boxes = 0
    for keras, openvino in zip(*found, strict=True):
        assert abs(keras.image_score - openvino.image_score) < 1e-4
        assert len(keras.boxes) == len(openvino.boxes), keras.identity
        assert np.abs(keras.boxes - openvino.boxes).max(initial=0) <= _PIXEL, keras.identity
        assert np.abs(keras.scores - openvino.scores).max(initial=0) < 1e-3
        boxes += len(keras.boxes)
    assert boxes > 150
