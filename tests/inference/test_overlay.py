"""Pictures: where the heat and the boxes are, and that nothing is drawn that is not there."""

from dataclasses import replace

import numpy as np
import pytest

from lungbox.findings import Findings, WithheldBox
from lungbox.inference import overlay
from lungbox.radiograph import frontal

BOX = (255, 196, 0)


def mask_of(opacity):
    return np.stack([1 - opacity, opacity], axis=-1).astype(np.float32)


def found(size, *boxes):
    return Findings(
        identity="one",
        size=size,
        image_score=0.9,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        labels=("lung opacity",) * len(boxes),
    )


def gray(width, height, level=100):
    return np.full((height, width), level, np.uint8)


def test_a_box_is_drawn_where_it_is():
    picture = np.asarray(
        overlay.draw(
            gray(800, 600), mask_of(np.zeros((64, 64))), found((800, 600), (100, 200, 400, 500))
        )
    )
    drawn = (picture[:600] == BOX).all(axis=-1)
    # The lower half: above its upper edge the box carries its confidence.
    rows, columns = np.nonzero(drawn[350:])
    assert (columns.min(), columns.max()) == pytest.approx((100, 400), abs=2)
    assert rows.max() + 350 == pytest.approx(500, abs=2)
    assert not drawn[:, 420:].any()
    assert (picture[400, 250] == 100).all()


def test_a_box_of_several_classes_carries_its_class():
    """Before its confidence, so that the label above it is wider."""
    widths = []
    for names, label in (
        (("lung opacity",), "lung opacity"), (("ILD", "Nodule/Mass"), "ILD"),
        (("ILD", "Nodule/Mass"), "Nodule/Mass"),
    ):  # fmt: skip
        one = replace(found((800, 600), (100, 200, 700, 500)), labels=(label,), class_names=names)
        picture = np.asarray(overlay.draw(gray(800, 600), mask_of(np.zeros((64, 64))), one))
        columns = np.nonzero((picture[170:195] == BOX).all(axis=-1).any(axis=0))[0]
        assert columns.min() == pytest.approx(100, abs=2)
        widths.append(np.ptp(columns))
    assert 40 < widths[0] < widths[1] - 30
    assert widths[1] < widths[2] - 60


def test_a_withheld_box_is_dashed_gray_and_explained():
    box = WithheldBox("lung opacity", 0.7, (100.0, 200.0, 400.0, 500.0))
    held = replace(found((800, 600)), withheld=(box,), gate=0.95)
    clear = mask_of(np.zeros((64, 64)))
    picture = np.asarray(overlay.draw(gray(800, 600), clear, held))
    plain = np.asarray(overlay.draw(gray(800, 600), clear, found((800, 600))))
    assert not (picture == BOX).all(axis=-1).any()
    drawn = (picture[:600] == (150, 166, 184)).all(axis=-1)
    lower = drawn[350:]  # below the confidence
    rows, columns = np.nonzero(lower)
    assert (columns.min(), columns.max()) == pytest.approx((100, 400), abs=2)
    assert rows.max() + 350 == pytest.approx(500, abs=2)
    assert 0.4 < drawn[500, 101:400].mean() < 0.7  # dashes and gaps
    assert (picture[400, 250] == 100).all()
    assert picture.shape[0] > plain.shape[0]  # a line of the caption more, with the reason


def test_large_radiographs_are_made_smaller_and_boxes_with_them():
    picture = np.asarray(
        overlay.draw(
            gray(4096, 2048),
            mask_of(np.zeros((64, 64))),
            found((4096, 2048), (2048, 1024, 4000, 2000)),
        )
    )
    assert picture.shape[1] == 1024
    rows, columns = np.nonzero((picture[300:512] == BOX).all(axis=-1))
    assert (columns.min(), columns.max()) == pytest.approx((512, 1000), abs=2)
    assert rows.max() + 300 == pytest.approx(500, abs=2)


def test_heat_lies_on_the_mask_alone():
    opacity = np.zeros((64, 64))
    opacity[:, 32:] = 1
    picture = np.asarray(overlay.draw(gray(512, 512), mask_of(opacity), found((512, 512))))
    assert (picture[:512, :240] == 100).all()
    assert (picture[:512, 272:] == (178, 50, 50)).all()  # half of gray, half of red
    assert not (picture == BOX).all(axis=-1).any()


def test_every_picture_says_what_it_is_not():
    """The caption: below the radiograph, more than one line of bright letters."""
    picture = np.asarray(
        overlay.draw(gray(512, 512, 0), mask_of(np.zeros((8, 8))), found((512, 512)))
    )
    bright = (picture[512:] > 150).any(axis=(1, 2))
    lines = np.flatnonzero(np.diff(np.concatenate([[0], bright, [0]])) == 1)
    assert len(lines) >= 2


def lines_below(picture, height):
    """Lines of bright letters in the caption."""
    bright = (np.asarray(picture)[height:] > 150).any(axis=(1, 2))
    return int((np.diff(np.concatenate([[0], bright, [0]])) == 1).sum())


@pytest.mark.parametrize("side", [96, 512])
def test_a_flag_has_a_line_of_its_own(side):
    """It is as long as any, and must not run out of the picture."""
    mask, findings = mask_of(np.zeros((8, 8))), found((side, side))
    flagged = replace(findings, flag=max(frontal.FLAGS, key=len))
    height = max(side, 384)
    without = overlay.draw(gray(side, side, 0), mask, findings)
    picture = overlay.draw(gray(side, side, 0), mask, flagged)
    assert lines_below(picture, height) == lines_below(without, height) + 1
    assert (np.asarray(picture)[height:, -10:] < 60).all()  # nothing is cut off at the right


def test_members_stand_side_by_side_and_the_ensemble_last():
    clear, full = mask_of(np.zeros((16, 16))), mask_of(np.ones((16, 16)))
    half = (clear + full) / 2
    picture = np.asarray(
        overlay.compare(
            gray(300, 300), {"a": clear, "b": full}, half, found((300, 300), (150, 150, 250, 250))
        )
    )
    tiles = [picture[24 : 24 + 384, left : left + 384] for left in (0, 388, 776)]
    assert (tiles[0] == 100).all()
    assert (tiles[1] == (178, 50, 50)).all()
    assert not (tiles[0] == BOX).all(axis=-1).any()
    assert not (tiles[1] == BOX).all(axis=-1).any()
    rows, columns = np.nonzero((tiles[2] == BOX).all(axis=-1))
    assert columns.min() == pytest.approx(192, abs=2)
    assert rows.max() == pytest.approx(320, abs=2)


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000)])
def test_odd_shapes(tmp_path, size):
    width, height = size
    picture = overlay.draw(gray(width, height), mask_of(np.ones((8, 8))), found(size))
    overlay.save(picture, tmp_path / "sub/one.png")
    assert (tmp_path / "sub/one.png").stat().st_size > 100


def test_truth_is_drawn_beside_what_was_found():
    truth = np.array([(20, 20, 80, 160)], np.float32)
    picture = np.asarray(
        overlay.beside_truth(
            gray(200, 200),
            mask_of(np.zeros((64, 64))),
            found((200, 200), (120, 40, 180, 160)),
            truth,
            side=400,
        )
    )
    assert picture.shape == (400, 400, 3)
    rows, columns = np.nonzero((picture == (64, 224, 255)).all(axis=-1))
    assert (columns.min(), columns.max()) == pytest.approx((40, 160), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((40, 320), abs=2)
    _, columns = np.nonzero((picture[200:] == BOX).all(axis=-1))
    assert (columns.min(), columns.max()) == pytest.approx((240, 360), abs=2)
