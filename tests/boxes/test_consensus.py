"""Several readers' boxes are one truth, class by class, and their agreement is counted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes.consensus import confirmed, consensus
from lungbox.boxes.geometry import as_boxes, iou

BOXES = as_boxes([[0, 0, 10, 10], [0, 6, 10, 16], [1, 6, 10, 16], [0, 0, 10, 9], [0, 0, 10, 11]])
LABELS = ["ILD", "ILD", "ILD", "Nodule/Mass", "ILD"]


def test_boxes_that_overlap_too_little_are_two_findings():
    readers = ["a", "b", "c", "b", "b"]
    boxes, labels, counts = consensus(BOXES, readers, LABELS)
    assert boxes.tolist() == [[0, 0, 10, 10.5], [0.5, 6, 10, 16], [0, 0, 10, 9]]
    assert labels == ("ILD", "ILD", "Nodule/Mass")
    assert counts.tolist() == [2, 2, 1]
    boxes, labels, _ = consensus(BOXES, readers, LABELS, min_readers=2)
    assert (labels, boxes[0, 3]) == (("ILD", "ILD"), 10.5)
    # 10 of 11 rows are shared: 0.909; 9 of 10 columns: 0.9.
    assert consensus(BOXES, readers, LABELS, iou_threshold=0.905).counts.tolist() == [2, 1, 1, 1]
    assert len(consensus(BOXES[:0], [], []).boxes) == 0


def test_a_reader_who_draws_a_finding_twice_counts_once():
    truth = consensus(BOXES, ["a"] * 5, LABELS, min_readers=1)
    assert truth.counts.tolist() == [1, 1, 1]
    assert len(consensus(BOXES, ["a"] * 5, LABELS, min_readers=2).boxes) == 0
    assert not confirmed(BOXES, ["a"] * 5, LABELS).any()


def test_a_box_is_confirmed_by_another_readers_of_its_class():
    found = confirmed(BOXES, ["a", "b", "c", "b", "b"], LABELS)
    assert found.tolist() == [True, True, True, False, True]
    assert confirmed(BOXES, ["a", "b", "b", "b", "c"], LABELS).tolist() == [
        True, False, False, False, True,
    ]  # fmt: skip
    assert confirmed(BOXES[:0], [], []).shape == (0,)


@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.sampled_from([0.2, 0.4, 0.7]))
def test_one_class_does_not_touch_another(seed, count, iou_threshold):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 300, (count, 2))
    boxes = as_boxes(np.hstack([corner, corner + random.uniform(20, 200, (count, 2))]))
    readers = random.choice(["R8", "R9", "R10"], count).tolist()
    labels = random.choice(["Cardiomegaly", "ILD"], count).tolist()
    merged = consensus(boxes, readers, labels, iou_threshold=iou_threshold)
    for name in ("Cardiomegaly", "ILD"):
        rows = [row for row, label in enumerate(labels) if label == name]
        alone = consensus(
            boxes[rows],
            [readers[row] for row in rows],
            [name] * len(rows),
            iou_threshold=iou_threshold,
        )
        mine = [row for row, label in enumerate(merged.labels) if label == name]
        assert merged.boxes[mine].tolist() == alone.boxes.tolist()
        # Every reader's box is in a truth of its class.
        assert (alone.boxes.min(axis=0) >= boxes[rows].min(axis=0) - 1e-3).all() if rows else True
    # The readers of all truths are those who drew, and no box is counted twice.
    assert len(set(readers)) <= merged.counts.sum() <= count


def test_a_box_is_confirmed_as_a_plain_loop_has_it():
    random = np.random.default_rng(3)
    corner = random.uniform(0, 100, (60, 2))
    boxes = as_boxes(np.hstack([corner, corner + random.uniform(20, 90, (60, 2))]))
    readers, labels = random.integers(0, 3, 60).astype(str), random.integers(0, 4, 60).astype(str)
    expected = [
        any(
            readers[one] != readers[other]
            and labels[one] == labels[other]
            and iou(boxes[one][None], boxes[other][None])[0, 0] > 0.4
            for other in range(60)
        )
        for one in range(60)
    ]
    assert 10 < sum(expected) < 50
    assert confirmed(boxes, readers.tolist(), labels.tolist()).tolist() == expected
