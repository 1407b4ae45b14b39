"""Losses and mask metrics, worked out by hand or as their papers write them; and they survive
being saved. Values and gradients are the same on the other backend and under its compilers."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lungbox.metrics import (
    F1,
    IoUBinaryCrossentropy,
    MaskLoss,
    MeanIoU,
    PixelAccuracy,
    ReferenceMeanIoU,
    binary_focal,
    losses,
    lovasz_softmax,
    soft_dice,
    soft_iou,
)


def masks(*opacities):
    """`(B, h, w, 2)` from opacity maps `(h, w)`."""
    opacity = np.asarray(opacities, np.float32)
    return np.stack([1 - opacity, opacity], axis=-1)


TRUTH = masks([[1, 1], [0, 0]], [[0, 0], [0, 0]])
GUESS = masks([[1, 0.5], [0.5, 0]], [[0, 0], [0, 0.5]])


def value(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_soft_iou_over_the_batch_and_both_channels():
    # Opacity: I = 1.5, sums 2 and 2.5. Background: I = 1.5 + 3.5, sums 6 and 5.5.
    expected = (1.5 + 5 + 1) / (2 + 2.5 + 6 + 5.5 - 6.5 + 1)
    assert value(soft_iou(TRUTH, GUESS)) == pytest.approx(expected)


def test_soft_iou_of_the_foreground():
    found = value(soft_iou(TRUTH, GUESS, channels="foreground"))
    assert found == pytest.approx((1.5 + 1) / (2 + 2.5 - 1.5 + 1))


def test_soft_iou_of_each_image():
    found = value(soft_iou(TRUTH, GUESS, over="image", channels="foreground"))
    # The second image has no opacity: (0 + 1) / (0 + 0.5 + 1).
    assert found == pytest.approx(((1.5 + 1) / (2 + 2 - 1.5 + 1) + 1 / 1.5) / 2)


def test_empty_masks_agree():
    empty = masks([[0, 0]])
    assert value(soft_iou(empty, empty, channels="foreground")) == 1


def test_loss_is_half_and_half():
    crossentropy = np.mean(-np.log([1, 0.5, 0.5, 1, 1, 1, 1, 0.5]))
    overlap = value(soft_iou(TRUTH, GUESS))
    loss = IoUBinaryCrossentropy()(TRUTH, GUESS)
    assert value(loss) == pytest.approx(0.5 * crossentropy + 0.5 * (1 - overlap), abs=1e-5)


def test_weights_choose_the_terms():
    assert value(IoUBinaryCrossentropy(bce=0, iou=2)(TRUTH, GUESS)) == pytest.approx(
        2 * (1 - value(soft_iou(TRUTH, GUESS)))
    )
    assert value(IoUBinaryCrossentropy(bce=1, iou=0)(TRUTH, TRUTH)) == pytest.approx(0, abs=1e-5)


def test_loss_is_serialisable():
    loss = IoUBinaryCrossentropy(0.3, 0.7, smooth=2, over="image", channels="foreground")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert value(again(TRUTH, GUESS)) == pytest.approx(value(loss(TRUTH, GUESS)))
    assert again.get_config() == loss.get_config()


# Classes: truth 2 opacity and 6 background; predicted opacity at one right and one wrong pixel.
HARD = masks([[0.9, 0.4], [0.6, 0]], [[0, 0], [0, 0.5]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (PixelAccuracy, 6 / 8),
        (MeanIoU, (1 / 3 + 5 / 7) / 2),
        # Both channels of an image are one set: 2 of 4 pixels right, and 3 of 4, for 0.5 is
        # rounded to 0 in both channels.
        (ReferenceMeanIoU, ((2 + 1) / (6 + 1) + (3 + 1) / (4 + 1)) / 2),
        (F1, 2 / (2 + 2)),
    ],
)
def test_metrics_by_hand(metric, expected):
    whole = metric()
    whole.update_state(TRUTH, HARD)
    assert value(whole.result()) == pytest.approx(expected)
    parts = metric()
    for image in range(2):
        parts.update_state(TRUTH[image : image + 1], HARD[image : image + 1])
    assert value(parts.result()) == pytest.approx(expected)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(whole))
    assert again.name == whole.name


def test_the_references_mean_iou_rounds_each_channel_by_itself():
    """As its own code has it, on sigmoids that are of both classes or of none, image by image."""
    random = np.random.default_rng(8)
    opacity = random.random((5, 12, 9)) < 0.3
    truth = np.stack([1 - opacity, opacity], axis=-1).astype(np.float32)
    guess = random.random(truth.shape).astype(np.float32)
    expected = []
    for image, found in zip(truth, guess.round(), strict=True):
        both = (image * found).sum()
        expected.append((both + 1) / (image.sum() + found.sum() - both + 1))
    metric = ReferenceMeanIoU()
    for part in (slice(0, 2), slice(2, 5)):
        metric.update_state(truth[part], guess[part])
    assert value(metric.result()) == pytest.approx(np.mean(expected))
    keras_own = MeanIoU()
    keras_own.update_state(truth, guess)
    assert abs(value(keras_own.result()) - np.mean(expected)) > 0.005


def test_metrics_before_and_after_a_reset():
    metric = F1()
    assert value(metric.result()) == 0
    metric.update_state(TRUTH, TRUTH)
    assert value(metric.result()) == 1
    metric.reset_state()
    assert value(metric.result()) == 0


def test_sample_weights_leave_images_out():
    metric = PixelAccuracy()
    metric.update_state(TRUTH, HARD, sample_weight=np.array([0.0, 1.0]))
    assert value(metric.result()) == 1


# The papers' formulas in float64, one pixel after the other where they have it so.


def of_each(formula, truth, guess, over, channels):
    """The mean of a formula of two vectors, over what `over` and `channels` set apart."""
    truth, guess = np.float64(truth), np.float64(guess)
    images = [(truth, guess)] if over == "batch" else list(zip(truth, guess, strict=True))
    kept = {"all": [slice(None)], "foreground": [1], "each": [0, 1]}[channels]
    return np.mean([formula(t[..., c].ravel(), g[..., c].ravel()) for t, g in images for c in kept])


def jaccard_loss(truth, guess):
    """1 - IoU of two sets of pixels, given as sets."""
    return 1 - len(truth & guess) / len(truth | guess) if truth | guess else 0.0


def lovasz_extension(truth, errors):
    """Berman et al., equations 6, 8 and 9: the set function's steps at the errors, largest first;
    a set of wrong pixels stands for the prediction that is wrong there and right elsewhere."""
    truth = set(np.flatnonzero(truth).tolist())
    wrong, value, steps = set(), 0.0, np.zeros(len(errors))
    for pixel in np.argsort(-errors, kind="stable").tolist():
        before = jaccard_loss(truth, truth ^ wrong)
        wrong.add(pixel)
        steps[pixel] = jaccard_loss(truth, truth ^ wrong) - before
        value += errors[pixel] * steps[pixel]
    return value, steps


def focal_pixel(y, p, alpha, gamma):
    """Lin et al., equations 2 and 5, for y = 1 and y = 0; logarithms stop at 1e-7."""
    p_t, alpha_t = (p, alpha) if y == 1 else (1 - p, 1 - alpha)
    p_t = min(max(p_t, 1e-7), 1.0)
    return -alpha_t * (1 - p_t) ** gamma * np.log(p_t)


# Gradients and compilation are the backend's: Keras has none of its own.


def gradient(loss, truth, guess):
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda given: loss(truth, given))(guess))
    import tensorflow as tf

    given = tf.constant(guess)
    with tf.GradientTape() as tape:
        tape.watch(given)
        found = loss(tf.constant(truth), given)
    return tape.gradient(found, given).numpy()


def compiled(loss, jit):
    """The same function as a graph: of unknown batch on TensorFlow, always by XLA on JAX."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(loss)
    import tensorflow as tf

    shape = tf.TensorSpec(None if jit else (None, 6, 5, 2))
    return tf.function(loss, input_signature=None if jit else [shape] * 2, jit_compile=jit)


# Below 1e-38 is no number of float32 on a CPU that is told so, as TensorFlow does.
SHARES = st.floats(0, 1, width=32, allow_subnormal=False)
OVER = st.sampled_from(["batch", "image"])
CHANNELS = st.sampled_from(["all", "foreground", "each"])


@st.composite
def drawn(draw, truth=SHARES, guess=SHARES):
    """Truth and prediction, `(B, h, w, 2)`, whose channels need not be each other's rest."""
    shape = (*draw(st.tuples(*[st.integers(1, 3)] * 3)), 2)
    return tuple(draw(hnp.arrays(np.float32, shape, elements=e)) for e in (truth, guess))


HARD_SHARES = st.sampled_from([0.0, 1.0])
some = settings(deadline=None)


@some
@given(drawn(), OVER, CHANNELS, st.booleans(), st.sampled_from([0.5, 1, 10]))
def test_dice_is_the_papers(pair, over, channels, squared, smooth):
    def dice(g, p):
        power = 2 if squared else 1
        return (2 * np.sum(p * g) + smooth) / (np.sum(p**power) + np.sum(g**power) + smooth)

    found = value(soft_dice(*pair, smooth, over, channels, squared))
    assert found == pytest.approx(of_each(dice, *pair, over, channels), abs=2e-6)


def test_v_nets_gradient():
    """Milletari et al., section 3, give it themselves."""
    random = np.random.default_rng(1)
    truth, guess = masks(random.random((1, 4, 4)) < 0.4), masks(random.random((1, 4, 4)))
    truth, guess = truth[0], guess[0]
    g, p = np.float64(truth[..., 1]), np.float64(guess[..., 1])
    sizes = np.sum(p**2) + np.sum(g**2)
    expected = 2 * (g * sizes - 2 * p * np.sum(p * g)) / sizes**2
    loss = MaskLoss(0, 0, dice=1, smooth=0, channels="foreground")
    found = gradient(loss, truth, guess)
    assert np.allclose(found[..., 1], -expected, atol=1e-6)
    assert np.all(found[..., 0] == 0)


def test_squares_and_sums_differ_where_masks_are_soft():
    half = masks([[0.5, 0.5]])
    assert value(soft_dice(half, half, smooth=0)) == 1
    assert value(soft_dice(half, half, smooth=0, squared=False)) == 0.5


@some
@given(drawn(HARD_SHARES, HARD_SHARES), CHANNELS, st.booleans(), st.sampled_from([0, 1]))
def test_dice_of_hard_masks_follows_from_iou(pair, channels, squared, smooth):
    # Of one pair of masks: a mean of ratios does not follow from the other mean.
    for image in range(len(pair[0])):
        for kept in ([0], [1]) if channels == "each" else ([0, 1],):
            truth, guess = (np.zeros_like(m[:1]) for m in pair)
            truth[..., kept], guess[..., kept] = (m[image : image + 1][..., kept] for m in pair)
            options = ("image", "all" if channels == "each" else channels)
            iou = value(soft_iou(truth, guess, smooth, *options))
            # 2 I + s over T + P + s is that of an IoU smoothed by half of it.
            dice = value(soft_dice(truth, guess, 2 * smooth, *options, squared))
            assert dice == pytest.approx(2 * iou / (1 + iou), abs=1e-6)


@some
@given(drawn(HARD_SHARES), st.sampled_from([0.1, 0.25, 1]), st.sampled_from([0, 0.5, 1, 2, 5]))
def test_focal_is_the_papers(pair, alpha, gamma):
    opacity = (np.float64(mask[..., 1]).ravel() for mask in pair)
    expected = np.mean([focal_pixel(y, p, alpha, gamma) for y, p in zip(*opacity, strict=True)])
    assert value(binary_focal(*pair, alpha, gamma)) == pytest.approx(expected, rel=1e-4, abs=2e-6)


@some
@given(drawn(guess=st.floats(2**-10, 1 - 2**-10, width=32)), st.sampled_from([0.25, 0.5, 0.9]))
def test_focal_of_gamma_0_is_weighted_crossentropy(pair, alpha):
    y, p = (np.float64(mask[..., 1]) for mask in pair)
    expected = -np.mean(alpha * y * np.log(p) + (1 - alpha) * (1 - y) * np.log(1 - p))
    assert value(binary_focal(*pair, alpha, 0)) == pytest.approx(expected, abs=1e-5)


def test_focal_of_half_is_half_of_keras_crossentropy():
    crossentropy = value(keras.ops.mean(keras.losses.binary_crossentropy(TRUTH, GUESS)))
    assert value(binary_focal(TRUTH, GUESS, 0.5, 0)) == pytest.approx(crossentropy / 2, abs=1e-5)


@some
@given(drawn(), OVER)
def test_lovasz_is_the_papers(pair, over):
    def of(truth, guess):
        hard = truth > 0.5
        return lovasz_extension(hard, np.abs(hard - guess))[0]

    expected = of_each(of, *pair, over, "foreground")
    assert value(lovasz_softmax(*pair, over)) == pytest.approx(expected, abs=2e-6)


@some
@given(drawn(HARD_SHARES, HARD_SHARES), OVER)
def test_lovasz_of_a_hard_prediction_is_1_less_iou(pair, over):
    def of(truth, guess):
        return jaccard_loss(*(set(np.flatnonzero(mask)) for mask in (truth, guess)))

    expected = of_each(of, *pair, over, "foreground")
    assert value(lovasz_softmax(*pair, over)) == pytest.approx(expected, abs=1e-6)
    assert 1 - value(soft_iou(*pair, 0, over, "foreground")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_lovasz_gradient_is_the_extensions(share):
    random = np.random.default_rng(2)
    truth = masks(*(random.random((2, 4, 4)) < share))
    # No two errors are equal: there the extension has a corner.
    guess = masks(*(random.permutation(32).reshape(2, 4, 4) + 0.7) / 40)
    found = gradient(lovasz_softmax, truth, guess)
    y, p = truth[..., 1].ravel(), guess[..., 1].ravel()
    _, steps = lovasz_extension(y, np.abs(y - p))
    assert np.allclose(found[..., 1].ravel(), np.where(y == 1, -steps, steps), atol=1e-6)
    assert np.all(found[..., 0] == 0)


def test_lovasz_of_a_million_pixels():
    """Where the steps are smaller than float32 tells apart beside 1, they are still exact."""
    truth, guess = np.zeros((2, 1, 1024, 1024, 2), np.float32)
    truth[0, :, :1000, 1] = 1
    random = np.random.default_rng(3)
    # A quarter, so that no missed pixel's error is that of a false one.
    guess[..., 1] = (random.permutation(2**20).reshape(1, 1024, 1024) + 0.25) / 2**20
    y, p = (np.float64(mask[..., 1]).ravel() for mask in (truth, guess))
    order = np.argsort(-np.abs(y - p))
    # Algorithm 1.
    jaccard = 1 - (y.sum() - np.cumsum(y[order])) / (y.sum() + np.cumsum(1 - y[order]))
    steps = np.diff(jaccard, prepend=0)
    expected = np.empty_like(y)
    expected[order] = np.where(y[order] == 1, -steps, steps)
    found = gradient(lovasz_softmax, truth, guess)[..., 1].ravel()
    assert np.allclose(found, expected, rtol=1e-4, atol=0)


def test_lovasz_rounds_soft_truth():
    soft, hard = masks([[0.51, 0.5], [0.2, 0]]), masks([[1, 0], [0, 0]])
    guess = masks([[0.7, 0.4], [0.1, 0.9]])
    assert value(lovasz_softmax(soft, guess)) == value(lovasz_softmax(hard, guess))


TERMS = ("bce", "iou", "dice", "focal", "lovasz")


def one(term, **options):
    return MaskLoss(**{**dict.fromkeys(TERMS, 0), term: 1}, **options)


# One line a way a loss can be set.
SET = {
    **{term: one(term) for term in TERMS},
    "iou foreground": one("iou", smooth=0, over="image", channels="foreground"),
    "dice foreground": one("dice", smooth=0, over="image", channels="foreground"),
    "soft f1": one("dice", smooth=0, channels="each", squared=False),
    "focal steep": one("focal", gamma=0.5),
    "focal flat": one("focal", gamma=0),
    "lovasz image": one("lovasz", over="image"),
    "all": MaskLoss(0.1, 0.2, 0.3, 0.4, 0.5, over="image", channels="foreground"),
}


@pytest.mark.parametrize("name", SET)
@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("guess", [0, 1, 1e-20, 0.5])
def test_values_and_gradients_are_finite_at_the_ends(name, truth, guess):
    # A whole batch of these, and one in which every value meets every other.
    whole = [np.full((2, 2, 2), share) for share in (truth, guess)]
    mixed = np.array([[[truth, guess], [0.5, 1]], [[truth, truth], [guess, 0]]])
    for opacities in (whole, [mixed, mixed[::-1]]):
        pair = [masks(*opacity) for opacity in opacities]
        assert np.isfinite(value(SET[name](*pair)))
        assert np.all(np.isfinite(gradient(SET[name], *pair)))


@pytest.mark.parametrize("name", SET)
def test_a_perfect_prediction_costs_nothing(name):
    assert value(SET[name](TRUTH, TRUTH)) == pytest.approx(0, abs=1e-5)
    assert value(SET[name](TRUTH, 1 - TRUTH)) > 0.5


def test_the_loss_is_the_weighted_sum_of_its_terms():
    options = {"over": "image", "channels": "foreground"}
    weights = dict(zip(TERMS, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    parts = [weight * value(one(term, **options)(TRUTH, GUESS)) for term, weight in weights.items()]
    assert min(parts) > 0
    assert value(SET["all"](TRUTH, GUESS)) == pytest.approx(sum(parts))
    assert value(MaskLoss()(TRUTH, GUESS)) == value(IoUBinaryCrossentropy()(TRUTH, GUESS))


def test_settings_reach_the_terms():
    overlap = {"smooth": 2.0, "over": "image", "channels": "foreground"}
    squared, focal = {"squared": False}, {"alpha": 0.6, "gamma": 3.0}
    every = {**overlap, **squared, **focal}
    pair = masks(*np.linspace(0.1, 1, 8).reshape(2, 2, 2) > 0.5), GUESS
    for term, function, options in (
        ("iou", soft_iou, overlap),
        ("dice", soft_dice, {**overlap, **squared}),
        ("focal", binary_focal, focal),
        ("lovasz", lovasz_softmax, {"over": "image"}),
    ):
        found, alone = value(one(term, **every)(*pair)), value(function(*pair, **options))
        assert found == pytest.approx(1 - alone if term in ("iou", "dice") else alone), term
        # Each matters here: with any one left at its default it is another number.
        for key in options:
            rest = {other: chosen for other, chosen in options.items() if other != key}
            assert value(function(*pair, **rest)) != pytest.approx(alone, abs=1e-4), (term, key)


COMPUTED = {"iou": "soft_iou", "dice": "soft_dice", "focal": "binary_focal"}
COMPUTED["lovasz"] = "lovasz_softmax"


@pytest.mark.parametrize("term", TERMS)
def test_terms_of_weight_0_are_not_computed(term, monkeypatch):
    asked = []
    for name, function in COMPUTED.items():
        monkeypatch.setattr(losses, function, lambda *_, name=name: asked.append(name) or 0.5)
    one(term)(TRUTH, GUESS)
    assert asked == ([] if term == "bce" else [term])


def test_without_any_weight_the_gradient_is_0():
    assert np.all(gradient(MaskLoss(0, 0), TRUTH, GUESS) == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dice": -1},
        {"smooth": -1},
        {"gamma": -0.5},
        {"alpha": 1.1},
        {"bce": float("nan")},
        {"over": "pixel"},
        {"channels": "opacity"},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"0 or more|is none of"):
        MaskLoss(**wrong)


def test_mask_loss_is_serialisable():
    loss = MaskLoss(
        *(0.1, 0.2, 0.3, 0.4, 0.5),
        **{"smooth": 2, "over": "image", "channels": "each", "squared": False},
        **{"alpha": 0.6, "gamma": 3, "name": "mine"},
    )
    kept = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(kept)
    assert type(again) is MaskLoss
    assert again.get_config() == loss.get_config()
    assert value(again(TRUTH, GUESS)) == value(loss(TRUTH, GUESS))
    # Nothing is left at its default, so nothing can have been left out.
    default = MaskLoss().get_config()
    assert all(default[key] != found for key, found in again.get_config().items())


def larger():
    random = np.random.default_rng(4)
    truth = random.random((3, 6, 5)) < np.reshape([0.5, 0.1, 0], (3, 1, 1))
    return masks(*truth), masks(*random.random((3, 6, 5)))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", SET)
def test_graphs_and_compilers_change_nothing(name, jit):
    pair = larger()
    found = value(compiled(SET[name], jit)(*pair))
    assert found == pytest.approx(value(SET[name](*pair)), abs=1e-6)


@pytest.mark.parametrize("name", SET)
def test_bfloat16_is_computed_in_float32(name):
    truth, guess = (keras.ops.cast(mask, "bfloat16") for mask in larger())
    exact = [keras.ops.cast(mask, "float32") for mask in (truth, guess)]
    for function in (SET[name], SET[name].call):
        found = function(truth, guess)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        assert value(found) == value(SET[name](*exact))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_learns_with_all_terms(policy):
    truth, _ = larger()
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 3, padding="same", activation="relu", dtype=policy)]
    layers += [keras.layers.Conv2D(2, 1, activation="softmax", dtype=policy)]
    model = keras.Sequential([keras.Input((6, 5, 1)), *layers])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=SET["all"])
    history = model.fit(truth[..., 1:] * 2 - 1, truth, epochs=30, batch_size=3, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def measured():
    """Each loss' value and gradient on the backend of this process."""
    pair = larger()
    values = {f"{name} value": value(loss(*pair)) for name, loss in SET.items()}
    return {**values, **{name: gradient(loss, *pair) for name, loss in SET.items()}}


@pytest.mark.slow
def test_tensorflow_and_jax_agree(other_backend):
    theirs, ours = other_backend.call(measured), measured()
    assert theirs.keys() == ours.keys()
    for name, found in ours.items():
        assert np.allclose(theirs[name], found, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("over", ["batch", "image"])
def test_images_of_weight_0_are_not_there(over):
    """A batch filled up with anything costs what the batch without it costs."""
    random = np.random.default_rng(3)
    opacity = random.random((5, 8, 8, 1)).astype(np.float32)
    truth = (random.random((5, 8, 8, 1)) > 0.5).astype(np.float32)
    y_pred, y_true = (np.concatenate([1 - x, x], axis=-1) for x in (opacity, truth))
    loss = MaskLoss(0.3, 0.4, dice=0.5, focal=0.6, lovasz=0.7, over=over)
    weights = np.array([1, 1, 0, 1, 0], np.float32)
    there = weights > 0
    expected = float(loss(y_true[there], y_pred[there]))
    assert float(loss(y_true, y_pred, sample_weight=weights)) == pytest.approx(expected, abs=1e-5)
    assert float(loss(y_true, y_pred, np.ones(5))) == pytest.approx(float(loss(y_true, y_pred)))
