"""AUC against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lungbox.metrics import auc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=60))
def test_equals_scikit_learn(pairs):
    targets, scores = (np.array(values) for values in zip(*pairs, strict=True))
    if targets.all() or not targets.any():
        assert math.isnan(auc(targets, scores))
    else:
        assert auc(targets, scores) == pytest.approx(roc_auc_score(targets, scores))
