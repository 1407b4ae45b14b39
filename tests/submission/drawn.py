"""Findings as hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.constants import CLASS_NAMES, OPACITY
from lungbox.findings import Findings

_SHARE = st.floats(0, 0.5)


@st.composite
def findings(draw, labels=(CLASS_NAMES[OPACITY],)):
    """Any radiograph of 64 to 4,000 pixels a side with up to four boxes, tiny ones among them."""
    width, height = draw(st.integers(64, 4000)), draw(st.integers(64, 4000))
    boxes = draw(st.lists(st.tuples(_SHARE, _SHARE, st.floats(1e-4, 0.5)), max_size=4))
    corners = [(x * width, y * height, (x + s) * width, (y + s) * height) for x, y, s in boxes]
    count = len(boxes)
    scores = draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    names = draw(st.lists(st.sampled_from(labels), min_size=count, max_size=count))
    identity = draw(st.from_regex(r"[a-z0-9.\-]{1,12}", fullmatch=True))
    clipped = geometry.clip(geometry.as_boxes(corners), (width, height))
    return Findings(
        identity, (width, height), 0.5, clipped, np.array(scores, np.float32), tuple(names)
    )
