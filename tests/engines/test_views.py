"""Views of test-time augmentation: what a network sees, and how its answer is mapped back."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from lungbox.engines import BatchPrediction, EngineConfig, predict_with_tta, start
from lungbox.engines.views import show
from lungbox.radiograph import equalise
from lungbox.weights.entries import Ensemble
from lungbox.weights.views import View, all_views
from tests.engines.test_kinds import images, members  # noqa: F401  fixtures

SIDE = 64


def chest(seed=0):
    """`(1, S, S)` uint8: smooth, bright below and to the right, with an opacity right of the
    centre."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    blob = 90 * np.exp(-((columns - 40) ** 2 + (rows - 26) ** 2) / 60)
    noise = np.random.default_rng(seed).normal(0, 2, (SIDE, SIDE))
    return np.clip(20 + rows + columns / 2 + blob + noise, 0, 255).astype(np.uint8)[None]


class Seeing:
    """An engine whose mask is every second pixel of the image, whose box is around the pixels above
    130 and whose score is their share; it keeps the images."""

    name, precision = "seeing", "float32"

    def __init__(self, **settings):
        self.config = EngineConfig("seeing", (), batch_size=4, preparation="nearest", **settings)
        self.given = []

    def predict(self, given):
        self.given.append(given)
        opacity = given.astype(np.float32)[:, ::2, ::2, None] / 255
        masks = np.concatenate([1 - opacity, opacity], axis=-1)
        high = given > 130
        rows, columns = (np.flatnonzero(high[0].any(axis=axis)) for axis in (1, 0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32) / SIDE
        scores = high.mean(axis=(1, 2)).astype(np.float32)
        return BatchPrediction(
            masks=masks,
            scores=scores,
            members=np.stack([masks, masks / 2], axis=1),
            detections=((box[None, None], scores[:, None, None], 0.6),),
            classes=np.stack([scores, 1 - scores], axis=-1),
        )


def test_what_each_view_shows():
    image = chest()
    assert np.array_equal(show(image, View()), image)
    assert np.array_equal(show(image, View(flip=True)), image[:, :, ::-1])
    assert np.array_equal(show(image, View(invert=True)), 255 - image)
    # Magnified by 2, the middle half, by linear interpolation about the centre.
    found = show(image, View(zoom=2), "nearest")[0]
    centre = cv2.resize(image[0], (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_LINEAR)
    expected = centre[SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2]
    assert np.abs(found.astype(int) - expected).max() <= 2
    # At a half, the image in the middle and its edge around it.
    found = show(image, View(zoom=0.5), "nearest")[0].astype(int)
    assert np.abs(found[32:34, 32:34] - image[0, 31:36, 31:36].mean()).max() < 20
    assert np.abs(np.diff(found[SIDE // 2, :15])).max() == 0  # the left edge, repeated
    assert np.abs(found[0, 0] - image[0, 0, 0]) <= 2
    # The histogram is equalised after a zoom, and the inversion comes last.
    both = show(image, View(invert=True, zoom=1.2))
    zoomed = show(image, View(zoom=1.2), "nearest")[0]
    assert np.array_equal(both[0], 255 - equalise(zoomed))
    padded = show(image, View(invert=True, zoom=1.2), "padded")
    assert np.array_equal(padded, both)


def test_flip_alone_is_what_it_was():
    image = chest()
    found = predict_with_tta(Seeing(flip=True), image)
    engine = Seeing()
    plain, mirrored = engine.predict(image), engine.predict(image[:, :, ::-1])
    half = np.float32(0.5)
    assert np.array_equal(found.masks, half * (plain.masks + mirrored.masks[:, :, ::-1]))
    assert np.array_equal(found.members, half * (plain.members + mirrored.members[..., ::-1, :]))
    assert np.array_equal(found.scores, half * (plain.scores + mirrored.scores))
    assert np.array_equal(found.classes, half * (plain.classes + mirrored.classes))
    written = predict_with_tta(Seeing(views=("flip",)), image)
    assert all(np.array_equal(found.arrays()[k], v) for k, v in written.arrays().items())


@pytest.mark.parametrize("zoom", ["zoom 1.25", "zoom 0.8", "flip + zoom 1.1"])
def test_masks_and_boxes_are_mapped_back(zoom):
    """What is seen in every view is where it was: the mean of the masks is the mask, but for the
    interpolation, and each view's box is the same."""
    image = np.zeros((1, SIDE, SIDE), np.uint8)
    image[0, 18:34, 34:50] = 255
    image = np.stack([cv2.GaussianBlur(one, (0, 0), 2) for one in image])
    engine = Seeing(views=(zoom,))
    plain = Seeing().predict(image)
    found = predict_with_tta(engine, image)
    assert len(engine.given) == 2
    assert not np.array_equal(*engine.given)
    assert np.abs(found.masks - plain.masks).max() < 0.1
    assert np.abs(found.members - plain.members).max() < 0.1
    (box, _, weight), (again, _, other) = found.detections
    assert weight == other == 0.3
    assert again == pytest.approx(box, abs=1.5 / SIDE)
    centre = (again[..., :2] + again[..., 2:]) / 2
    assert centre == pytest.approx((box[..., :2] + box[..., 2:]) / 2, abs=1 / SIDE)


def test_what_a_magnified_view_does_not_show_is_not_averaged():
    """At the margin the mask is that of the plain view; also of the border's corners."""
    image = chest()
    plain, found = (predict_with_tta(Seeing(views=v), image).masks for v in ((), ("zoom 1.6",)))
    margin = np.ones((32, 32), bool)
    margin[6:26, 6:26] = False  # 32 / 1.6 = 20 pixels are seen
    assert np.array_equal(found[0, margin], plain[0, margin])
    assert not np.array_equal(found[0, ~margin], plain[0, ~margin])
    assert found[..., 1] == pytest.approx(1 - found[..., 0], abs=1e-6)


def test_boxes_outside_are_clipped():
    """Of a view that is padded: to the radiograph."""
    image = np.full((1, SIDE, SIDE), 255, np.uint8)
    _, (boxes, _, _) = predict_with_tta(Seeing(views=("zoom 0.5",)), image).detections
    assert boxes.tolist() == [[[0, 0, 1, 1]]]


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_the_mean_of_all_views_on_both_engines(members, images, engine):  # noqa: F811
    views = ("flip", "invert", "zoom 1.1", "zoom 0.9", "flip + zoom 1.1")
    config = EngineConfig("all", tuple(members.values()), batch_size=4)
    running = start(engine, replace(config, views=views))
    found = predict_with_tta(running, images)
    each = [running.predict(show(images, View.parse(view))) for view in views]
    each = [running.predict(images), *each]
    assert found.scores == pytest.approx(np.mean([one.scores for one in each], axis=0), abs=1e-6)
    assert found.classes == pytest.approx(np.mean([one.classes for one in each], axis=0), abs=1e-6)
    assert len(found.detections) == 6
    assert sum(weight for *_, weight in found.detections) == pytest.approx(0.25)
    assert replace(config, views=views).key != config.key


def test_views_of_the_manifest():
    assert all_views(True, ("flip", "zoom 1.1+flip")) == (
        View(), View(flip=True), View(flip=True, zoom=1.1),
    )  # fmt: skip
    assert Ensemble(members=("a",), views=("invert", "zoom 0.9")).views == ("invert", "zoom 0.9")
    for wrong in ("mirror", "zoom", "zoom x", "zoom 3", "flip 2", "flip + flip", "", "zoom 1 1"):
        with pytest.raises(ValidationError, match=r"views: .* is no view; give flip, invert"):
            Ensemble(members=("a",), views=(wrong,))


def test_an_engine_without_views_is_asked_once():
    engine = Seeing()
    predict_with_tta(engine, chest())
    assert len(engine.given) == 1
