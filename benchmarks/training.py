"""How fast a training step is, and whether it waits: python -m benchmarks.training [NETWORK ...].

Each network as `train.py` trains it (a drawn batch of 16 at 128 px, AdamW, moving average, both
losses), beside the very same network in PyTorch (`pip install 'lungbox[torch]'`; without it those
rows are left out), and the batches alone: read from the cache, augmented, rasterized. Medians over
repeated steps in one run; machines differ, so each row also gives its ratio to Keras' step.
"""

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.turns import in_turns
from lungbox import architecture, datasets
from lungbox.common.backend import start_keras
from lungbox.datasets.cache import prepare_all
from lungbox.datasets.phantom import write_rsna
from lungbox.training.recipe import Recipe

NETWORKS = ("unet_lite0", "unet_densenet121")
SIDE, BATCH, STEPS = 128, 16, 8
AHEAD = 16  # batches made at once where they are timed alone


def main() -> None:
    start_keras()
    console = Console(highlight=False)
    table = Table("network", "what", "images/s", "of Keras' step", title="training on this machine")
    for name in sys.argv[1:] or NETWORKS:
        rates = _rates(name)
        for what, rate in rates.items():
            table.add_row(name, what, f"{rate:.1f}", f"{rate / rates['step, Keras']:.2f}")
    console.print(table)


def _rates(name: str) -> dict[str, float]:
    """Images per second of each way."""
    from lungbox.training.model import build_trainable

    recipe = _recipe(name)
    trainable = build_trainable(recipe, SIDE, steps=1000)
    mixed = recipe.model_copy(update={"policy": "mixed_bfloat16"})
    in_mixed = build_trainable(mixed, SIDE, steps=1000)
    with tempfile.TemporaryDirectory() as folder:
        batches = _batches(recipe, Path(folder), trainable.outputs)
        images, targets = batches[0]
        ways: dict[str, Callable[[], object]] = {
            "step, Keras": lambda: trainable.training_model.train_on_batch(images, targets),
            "step, Keras, mixed bfloat16": lambda: in_mixed.training_model.train_on_batch(
                images, targets
            ),
            "batches alone": lambda: _drawn(batches),
        }
        if find_spec("torch"):
            ways |= _in_pytorch(name, images, targets)
        else:
            Console(stderr=True).print(
                "No PyTorch here: pip install 'lungbox[torch]'", markup=False
            )
        seconds = in_turns(ways, STEPS)
    made = {"batches alone": AHEAD * BATCH}
    return {what: made.get(what, BATCH) / taken for what, taken in seconds.items()}


def _recipe(name: str) -> Recipe:
    return Recipe(
        name="benchmark",
        architecture=name,
        encoder_weights="none",
        batch_size=BATCH,
        data={"samples_per_epoch": BATCH * 64},
        stages=[{"epochs": 1, "image_size": SIDE}],
    )


def _batches(recipe: Recipe, folder: Path, outputs: dict[str, tuple[int, ...]]):
    from lungbox.training.batches import Batches

    write_rsna(folder / "data", count=64, size=256)
    cache = prepare_all(datasets.load(folder / "data"), SIDE, folder / "cache")
    return Batches(cache, recipe, recipe.stages[0], outputs)


def _drawn(batches) -> None:
    """Batches as `fit` gets them, made by as many threads, all at once."""
    with ThreadPoolExecutor(batches.workers) as pool:
        list(pool.map(batches.__getitem__, range(AHEAD)))


def _in_pytorch(name: str, images, targets) -> dict[str, Callable[[], object]]:
    """The same step in PyTorch: as it comes, and as fast as it goes on a CPU."""
    import torch

    from benchmarks.torch_twin import Twin, check

    def step(fast: bool) -> Callable[[], object]:
        model = architecture.build(name, SIDE)
        twin = Twin(model)
        difference = check(model, twin)
        assert difference < 1e-3, f"{name}: the twin differs by {difference}"
        twin.train()
        form = torch.channels_last if fast else torch.contiguous_format
        twin.to(memory_format=form)
        optimizer = torch.optim.AdamW(twin.parameters(), 1e-3)
        x = torch.from_numpy(images)
        truth = {key: torch.from_numpy(value) for key, value in targets.items()}

        def once() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                outputs = twin(x)
            loss = _loss(outputs, truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 5.0)
            optimizer.step()

        return once

    return {
        "step, PyTorch": step(fast=False),
        "step, PyTorch, channels last, bfloat16": step(fast=True),
    }


def _loss(outputs, truth):
    """The default recipe's."""
    from torch.nn import functional as F

    mask = outputs["mask"].float().permute(0, 2, 3, 1)
    y, p = truth["mask"][..., 1], mask[..., 1]
    overlap = (y * p).sum()
    iou = (overlap + 1) / (y.sum() + p.sum() - overlap + 1)
    loss = 0.5 * F.binary_cross_entropy(mask.clamp(1e-7, 1 - 1e-7), truth["mask"]) + 0.5 * (1 - iou)
    if "image" in outputs:
        image = outputs["image"].float().clamp(1e-7, 1 - 1e-7)
        loss = loss + F.binary_cross_entropy(image, truth["image"])
    return loss


if __name__ == "__main__":
    main()
