"""Losses of masks and of image-level labels, in Keras.

Those of masks take of two channels, background and opacity, `(B, h, w, 2)`: truth one-hot (or the
share of a pixel that is covered), prediction as probabilities. All compute in float32, whatever
they are given: the sum of a mask's pixels needs more than bfloat16's eight bits.
"""

from typing import Any, Literal, get_args

import keras
from keras import ops

from lungbox.common.backend import devices_in_step
from lungbox.constants import OPACITY

Over = Literal["batch", "image"]
Channels = Literal["all", "foreground", "each"]

# Settings of `MaskLoss`, for its configuration.
_SETTINGS = (
    *("bce", "iou", "dice", "focal", "lovasz"),
    *("smooth", "over", "channels", "squared", "alpha", "gamma"),
)
# Lower bound of probabilities in a logarithm, as in Keras; a smaller denominator is that of two
# empty masks.
_EPSILON = 1e-7


def soft_iou(
    y_true: Any,
    y_pred: Any,
    smooth: float = 1.0,
    over: Over = "batch",
    channels: Channels = "all",
) -> Any:
    """Intersection over union of probabilities.

    `(I + smooth) / (U + smooth)` with `I` the sum of products and `U` the sum of both less `I`.

    Args:
        y_true: `(B, h, w, 2)`.
        y_pred: `(B, h, w, 2)`.
        smooth: 0 or more. It keeps two empty masks at 1, which they are with 0, too, and a mask
            that is empty in truth alone from falling to 0 at its first false pixel.
        over: sums over the flattened batch, as in the reference system, or over each image, whose
            ratios are then averaged.
        channels: both channels together, as in the reference system, opacity alone, or the mean
            over both channels' own ratios, as `segmentation-models` has it.

    Returns:
        A scalar in 0-1, float32.

    Raises:
        ValueError: `over` or `channels` is none of those.
    """
    y_true, y_pred, axes = _summed(y_true, y_pred, over, channels)
    intersection = ops.sum(y_true * y_pred, axis=axes)
    union = ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes) - intersection
    return ops.mean(_ratio(intersection + smooth, union + smooth))


def soft_dice(
    y_true: Any,
    y_pred: Any,
    smooth: float = 1.0,
    over: Over = "batch",
    channels: Channels = "all",
    squared: bool = True,
) -> Any:
    """Dice coefficient of probabilities, in either of its two forms.

    `(2 I + smooth) / (T + P + smooth)` with `I` the sum of products. `T` and `P`, of truth and
    prediction, are sums of squares as in V-Net (Milletari et al., 3DV 2016, section 3), or plain
    sums, which makes it `2 TP / (2 TP + FP + FN)` with counts that are sums of probabilities: the
    soft F1. On hard masks the forms are one and equal `2 IoU / (1 + IoU)`. On soft masks they
    differ: a truth predicted exactly has 1 in squares at any share of a pixel, in sums only where
    it is 0 or 1; in sums, probabilities are pushed to 0 or 1.

    The usual macro soft F1 is `soft_dice(..., channels="each", squared=False)`.

    Args:
        y_true: `(B, h, w, 2)`.
        y_pred: `(B, h, w, 2)`.
        smooth: as in `soft_iou`; V-Net has 0.
        over: as in `soft_iou`.
        channels: as in `soft_iou`; V-Net's is that of the foreground.
        squared: whether `T` and `P` are sums of squares.

    Returns:
        A scalar in 0-1, float32.

    Raises:
        ValueError: `over` or `channels` is none of those.
    """
    y_true, y_pred, axes = _summed(y_true, y_pred, over, channels)
    intersection = ops.sum(y_true * y_pred, axis=axes)
    sizes = ops.square(y_true) + ops.square(y_pred) if squared else y_true + y_pred
    return ops.mean(_ratio(2 * intersection + smooth, ops.sum(sizes, axis=axes) + smooth))


def binary_focal(y_true: Any, y_pred: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """Focal loss of the opacity channel, `-alpha_t (1 - p_t)^gamma log(p_t)`, its mean over pixels.

    Lin et al., ICCV 2017, equation 5. The background channel is left out: there every pixel's
    `alpha` would be the other one. A pixel covered by a share `y` counts as `y` of an opacity
    pixel and `1 - y` of a background pixel. The paper divides by the number of objects, which a
    mask does not have.

    Args:
        y_true: `(B, h, w, 2)`.
        y_pred: `(B, h, w, 2)`.
        alpha: weight of opacity pixels, 0-1; that of background pixels is `1 - alpha`.
        gamma: 0 or more; how much less certain pixels count. 0 leaves the weighted cross-entropy.

    Returns:
        A scalar from 0 up, float32; finite, with a finite gradient, at 0 and 1, too.
    """
    truth, opacity = _float32(y_true)[..., OPACITY], _float32(y_pred)[..., OPACITY]
    # Both bounded from below: 1 - 1e-7 is not a float32. The power is bounded as well as the
    # logarithm, since its gradient at 0 is infinite for gamma below 1.
    opacity, background = (ops.maximum(p, _EPSILON) for p in (opacity, 1 - opacity))
    hit = alpha * truth * background**gamma * ops.log(opacity)
    miss = (1 - alpha) * (1 - truth) * opacity**gamma * ops.log(background)
    return -ops.mean(hit + miss)


def lovasz_softmax(y_true: Any, y_pred: Any, over: Over = "batch") -> Any:
    """Lovász-softmax loss of the opacity channel.

    Berman et al., CVPR 2018: the Lovász extension of the Jaccard loss `1 - IoU`, which is that
    loss on hard predictions and its convex closure between them. Each pixel's error,
    `|truth - probability|`, is weighed by how much `1 - IoU` grows when the pixel joins those of
    larger error (algorithm 1). Of the paper's two losses this is the one for probabilities; its
    Lovász hinge takes logits, which our networks do not give.

    An image without opacity has the largest probability in it as its loss, as the definition
    says; the authors' own code leaves such classes out.

    Args:
        y_true: `(B, h, w, 2)`. Soft truth is rounded: a pixel covered by more than half of it is
            opacity, all others are background. (The Jaccard loss is one of sets of pixels.)
        y_pred: `(B, h, w, 2)`.
        over: the IoU of the flattened batch, or the mean over each image's loss.

    Returns:
        A scalar in 0-1, float32.

    Raises:
        ValueError: `over` is none of those.
    """
    _check(over, "all")
    opacity = _float32(y_pred)[..., OPACITY]
    truth = ops.cast(_float32(y_true)[..., OPACITY] > 0.5, "float32")
    shape = (1, -1) if over == "batch" else (ops.shape(opacity)[0], -1)
    truth, opacity = ops.reshape(truth, shape), ops.reshape(opacity, shape)
    errors = ops.abs(truth - opacity)
    order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
    errors = ops.take_along_axis(errors, order, axis=-1)
    truth = ops.take_along_axis(truth, order, axis=-1)
    # With the pixels so far predicted wrongly: what is left of the intersection, the union, and
    # the union before the last of them.
    intersection = ops.sum(truth, axis=-1, keepdims=True) - ops.cumsum(truth, axis=-1)
    union = ops.sum(truth, axis=-1, keepdims=True) + ops.cumsum(1 - truth, axis=-1)
    before = union - (1 - truth)
    # The steps of 1 - intersection / union, worked out: a missed pixel takes 1 from the
    # intersection, a false one adds 1 to the union. As differences, which is how the paper has
    # them, they are rounding errors in float32 when there are 1e6 pixels.
    false = ops.where(before > 0, intersection / ops.maximum(before, 1), 1)
    steps = ops.where(truth > 0, 1.0, false) / union
    return ops.mean(ops.sum(errors * steps, axis=-1))


@keras.saving.register_keras_serializable(package="lungbox")
class MaskLoss(keras.losses.Loss):
    """A weighted sum of losses of masks; a term of weight 0 is not computed.

    Each choice by name: `MaskLoss(0, 0, dice=1, smooth=0, channels="foreground")` is V-Net's Dice
    loss, `MaskLoss(0, 0, dice=1, channels="each", squared=False)` the macro soft F1's,
    `MaskLoss(1, 0, lovasz=1)` cross-entropy and Lovász-softmax.

    Args:
        bce: weight of the binary cross-entropy, the mean over pixels and channels.
        iou: weight of `1 - soft_iou`.
        dice: weight of `1 - soft_dice`.
        focal: weight of `binary_focal`.
        lovasz: weight of `lovasz_softmax`.
        smooth: of `soft_iou` and `soft_dice`.
        over: of `soft_iou`, `soft_dice` and `lovasz_softmax`.
        channels: of `soft_iou` and `soft_dice`; the last two terms are of opacity alone.
        squared: of `soft_dice`.
        alpha, gamma: of `binary_focal`.

    Raises:
        ValueError: a number is outside its range, `over` or `channels` is none of theirs.
    """

    def __init__(
        self,
        bce: float = 0.5,
        iou: float = 0.5,
        dice: float = 0.0,
        focal: float = 0.0,
        lovasz: float = 0.0,
        *,
        smooth: float = 1.0,
        over: Over = "batch",
        channels: Channels = "all",
        squared: bool = True,
        alpha: float = 0.25,
        gamma: float = 2.0,
        name: str = "mask_loss",
        **kwargs: Any,
    ) -> None:
        # The IoU of a batch is one number, so there is nothing left to reduce.
        super().__init__(name=name, reduction=None, **kwargs)
        if not (min(bce, iou, dice, focal, lovasz, smooth, gamma) >= 0 and 0 <= alpha <= 1):
            raise ValueError("weights, smooth and gamma are 0 or more, and alpha is in 0-1")
        _check(over, channels)
        self.bce, self.iou, self.dice, self.focal, self.lovasz = bce, iou, dice, focal, lovasz
        self.smooth, self.over, self.channels, self.squared = smooth, over, channels, squared
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch, or of those of its images whose weight `(B,)` is 1 rather than 0.

        Weights in between are not defined: the IoU of a batch has no part for each image.
        """
        if sample_weight is None:
            return self.call(y_true, y_pred) / devices_in_step()
        y_true, y_pred = _float32(y_true), _float32(y_pred)
        there = ops.reshape(_float32(sample_weight), (-1, 1, 1, 1))
        # Empty in both, an image has no loss and no part in any overlap; only means have to be
        # taken over fewer.
        share = ops.sum(ops.ones_like(there)) / ops.maximum(ops.sum(there), 1.0)
        return self._sum(y_true * there, y_pred * there, share) / devices_in_step()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch."""
        return self._sum(_float32(y_true), _float32(y_pred), 1.0)

    def _sum(self, y_true: Any, y_pred: Any, share: Any) -> Any:
        """The weighted sum; means over images are multiplied by `share`."""
        of_images = share if self.over == "image" else 1.0
        overlap = (self.smooth, self.over, self.channels)
        terms = []
        if self.bce:
            crossentropy = ops.mean(keras.losses.binary_crossentropy(y_true, y_pred))
            terms.append(self.bce * share * crossentropy)
        if self.iou:
            iou = soft_iou(y_true, y_pred, *overlap)
            terms.append(self.iou * of_images * (1 - iou))
        if self.dice:
            dice = soft_dice(y_true, y_pred, *overlap, self.squared)
            terms.append(self.dice * of_images * (1 - dice))
        if self.focal:
            focal = binary_focal(y_true, y_pred, self.alpha, self.gamma)
            terms.append(self.focal * share * focal)
        if self.lovasz:
            lovasz = lovasz_softmax(y_true, y_pred, self.over)
            terms.append(self.lovasz * of_images * lovasz)
        # Without any, as when the image head is trained alone, the mask's gradient is 0; a
        # constant would have none, of which Keras warns.
        return sum(terms) if terms else 0 * ops.mean(y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **{key: getattr(self, key) for key in _SETTINGS}}


@keras.saving.register_keras_serializable(package="lungbox")
class IoUBinaryCrossentropy(MaskLoss):
    """`bce * BCE + iou * (1 - IoU)`, both weights 0.5 as in the reference system.

    Args:
        bce: weight of the binary cross-entropy, the mean over pixels and channels.
        iou: weight of `1 - soft_iou`.
        smooth, over, channels: see `soft_iou`.
    """

    def __init__(
        self,
        bce: float = 0.5,
        iou: float = 0.5,
        smooth: float = 1.0,
        over: Over = "batch",
        channels: Channels = "all",
        name: str = "iou_binary_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(bce, iou, smooth=smooth, over=over, channels=channels, name=name, **kwargs)

    def get_config(self) -> dict[str, Any]:
        ours = ("name", "bce", "iou", "smooth", "over", "channels")
        return {key: value for key, value in super().get_config().items() if key in ours}


def _float32(mask: Any) -> Any:
    return ops.cast(ops.convert_to_tensor(mask), "float32")


def _check(over: str, channels: str) -> None:
    for value, choices in ((over, get_args(Over)), (channels, get_args(Channels))):
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")


def _summed(
    y_true: Any, y_pred: Any, over: Over, channels: Channels
) -> tuple[Any, Any, tuple[int, ...]]:
    """Both masks' channels that count, and the axes to sum over."""
    _check(over, channels)
    y_true, y_pred = _float32(y_true), _float32(y_pred)
    if channels == "foreground":
        y_true, y_pred = y_true[..., OPACITY:], y_pred[..., OPACITY:]
    axes = (() if over == "image" else (0,)) + ((1, 2) if channels == "each" else (1, 2, 3))
    return y_true, y_pred, axes


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Their quotient, 1 where both masks are empty and nothing smooths: there 0 / 0 is NaN, and
    so is its gradient, even when another value is chosen afterwards."""
    quotient = numerator / ops.maximum(denominator, _EPSILON)
    return ops.where(denominator > _EPSILON, quotient, 1.0)
