"""Training heads by the name of the network's output they train.

Targets, losses, metrics and the columns of `log.csv` follow from this table and from the outputs a
network has. To train another kind of network, write a module with a `Head` for each new output and
add it here; the training loop stays as it is.
"""

from collections.abc import Iterable

from lungbox.datasets.label_sets import LABEL_SETS, LabelSet
from lungbox.training.heads.base import Head, Sample
from lungbox.training.heads.classification import AnyLabel, Classes, Findings, ImageScore
from lungbox.training.heads.detection import AnchorBoxes, RegionBoxes, RegionProposals
from lungbox.training.heads.segmentation import Edges, Mask
from lungbox.training.recipe import RecipeError

__all__ = ["DECODED", "HEADS", "Head", "Sample", "heads_for"]

# In the order of their columns in `log.csv`.
_ALL = (
    Mask(),
    ImageScore(),
    Edges(),
    Findings(),
    Classes(LABEL_SETS["abnormal"]),
    AnchorBoxes(),
    RegionProposals(),
    RegionBoxes(),
)
HEADS: dict[str, Head] = {head.name: head for head in _ALL}
# Outputs without a head: what a detection network's raw outputs, which have one, are decoded to.
DECODED = ("boxes", "scores")


def heads_for(outputs: Iterable[str], labels: LabelSet | None = None) -> dict[str, Head]:
    """The head of each output, in the outputs' order.

    Args:
        outputs: their names.
        labels: of a classification network.

    Raises:
        RecipeError: an output has no training head.

    Example:
        >>> list(heads_for(["mask", "image"]))
        ['mask', 'image']
    """
    unknown = [output for output in outputs if output not in HEADS]
    if unknown:
        raise RecipeError(
            f"architecture: no training head for the output {unknown[0]!r}; "
            f"there are heads for {', '.join(HEADS)}"
        )
    of_labels = {head.name: head for head in (Classes(labels), AnyLabel())} if labels else {}
    return {output: of_labels.get(output, HEADS[output]) for output in outputs}
