"""Region proposals: the most confident boxes of the region proposal network, without those that
overlap a better one; inside the graph."""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from lungbox.architecture.detection.boxes import decode, pairwise_iou
from lungbox.architecture.detection.decode import take_rows


@keras.saving.register_keras_serializable(package="lungbox")
class Proposals(layers.Layer):
    """`(B, A, 4 + 1 + 4)` anchors, logits and deltas to the proposals `(B, count, 4)`, the most
    confident first (Ren et al., *Faster R-CNN*, 2015). They have no gradient.

    Where suppression leaves fewer than `count`, the most confident of the suppressed follow: more
    boxes of the same things, which do no harm, and the number of boxes is fixed.

    Args:
        count: of proposals.
        candidates: the most confident boxes that suppression chooses from.
        max_iou: a box that overlaps a better one by more is suppressed.
    """

    def __init__(
        self, count: int = 64, candidates: int = 256, max_iou: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.count, self.candidates, self.max_iou = count, candidates, max_iou

    def call(self, inputs: KerasTensor) -> KerasTensor:
        inputs = ops.stop_gradient(inputs)
        candidates, count = self._counts(inputs.shape[1])
        _, rows = ops.top_k(inputs[..., 4], candidates)
        chosen = take_rows(inputs, rows)
        boxes = ops.clip(decode(chosen[..., :4], chosen[..., -4:]), 0.0, 1.0)
        kept = suppress(boxes, self.max_iou)
        # They are sorted: the kept ones in their order, then the others.
        order = ops.arange(candidates, dtype="float32")
        _, first = ops.top_k(kept * candidates - order, count)
        return ops.stop_gradient(take_rows(boxes, first))

    def _counts(self, anchors: int) -> tuple[int, int]:
        candidates = min(self.candidates, anchors)
        return candidates, min(self.count, candidates)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self._counts(input_shape[1])[1], 4)

    def get_config(self) -> dict[str, Any]:
        names = ("count", "candidates", "max_iou")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        config.pop("dtype")
        return config


def suppress(boxes: Any, max_iou: float) -> Any:
    """Greedy non-maximum suppression of sorted boxes: `(B, N, 4)`, the most confident first, to
    `(B, N)` 1 for boxes that stay and 0 for others, as `boxes.suppression`.

    A box stays where none that stays overlaps it by more and comes before it. From "all stay", that
    rule is applied until nothing changes: after round n the first n boxes are final, and mostly
    all of them are after a few rounds.
    """
    count = boxes.shape[1]
    before = ops.triu(ops.ones((count, count)), k=1)
    overlapping = ops.cast(pairwise_iou(boxes, boxes) > max_iou, "float32") * before

    def changed(kept: Any, previous: Any) -> Any:
        return ops.any(kept != previous)

    def once(kept: Any, _: Any) -> tuple[Any, Any]:
        suppressing = ops.matmul(kept[:, None], overlapping)[:, 0]
        return ops.cast(suppressing < 0.5, "float32"), kept

    all_stay = ops.ones_like(boxes[..., 0])
    start = once(all_stay, all_stay)
    kept, _ = ops.while_loop(changed, once, start, maximum_iterations=count)
    return kept
