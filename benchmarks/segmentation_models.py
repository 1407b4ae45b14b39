"""Our VGG19 U-Net beside that of segmentation-models, trained alike.

    python -m benchmarks.segmentation_models --data DIR

Both start from random weights and take the same steps: the same batches of the same 64
radiographs in the same order, the same loss, Adam. segmentation-models needs Keras 2, so each
trains in a process of its own. Prints a table of losses in Markdown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMAGES, BATCH, STEPS, SIDE, RATE = 64, 8, 50, 64, 1e-4
OURS, THEIRS = "unet_vgg19_attention", "segmentation-models Unet('vgg19')"


def main() -> None:
    """Train both and print their losses side by side."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled radiographs")
    parser.add_argument("--only", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        with np.load(chosen.work / "batches.npz") as kept:
            train = _ours if chosen.only == "ours" else _theirs
            np.save(chosen.work / f"{chosen.only}.npy", train(kept["images"], kept["masks"]))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_batches(chosen.data, Path(folder) / "batches.npz")
        for name in ("ours", "theirs"):
            _apart(name, chosen.data, Path(folder))
        _show(*(np.load(Path(folder) / f"{name}.npy") for name in ("ours", "theirs")))


def _write_batches(data: Path, path: Path) -> None:
    """`(STEPS, BATCH, SIDE, SIDE, 1)` prepared radiographs and their masks of two channels."""
    from lungbox import datasets
    from lungbox.radiograph import prepare, read
    from lungbox.training.targets import rasterize

    positive = datasets.load(data).where(lambda i: i.source == "rsna" and i.target).images
    chosen = positive[:: len(positive) // IMAGES][:IMAGES]
    images = np.stack([prepare(read(i.path).pixels, SIDE) for i in chosen])[..., None]
    opacity = np.stack([rasterize(i.boxes, i.size, SIDE) for i in chosen]) / np.float32(255)
    masks = np.stack([1 - opacity, opacity], axis=-1)
    random = np.random.default_rng(0)
    passes = -(-STEPS * BATCH // IMAGES)
    order = np.concatenate([random.permutation(IMAGES) for _ in range(passes)])
    order = order[: STEPS * BATCH].reshape(STEPS, BATCH)
    np.savez(path, images=images[order], masks=masks[order].astype(np.float32))


def _apart(name: str, data: Path, folder: Path) -> None:
    own = {"SM_FRAMEWORK": "tf.keras", "TF_USE_LEGACY_KERAS": "1"} if name == "theirs" else {}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.segmentation_models"]
    command += ["--data", str(data), "--only", name, "--work", str(folder)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **own}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def _ours(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    import keras

    from lungbox import architecture
    from lungbox.metrics.losses import IoUBinaryCrossentropy

    keras.utils.set_random_seed(0)
    whole = architecture.build(OURS, SIDE)
    network = keras.Model(whole.input, whole.output["mask"])
    loss = IoUBinaryCrossentropy(channels="each")
    network.compile(keras.optimizers.Adam(RATE), loss, jit_compile=False)
    steps = zip(images, masks, strict=True)
    return np.array([_first(network.train_on_batch(x, y)) for x, y in steps])


def _theirs(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    import segmentation_models as sm
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    shape = (SIDE, SIDE, 3)
    network = sm.Unet("vgg19", shape, classes=2, activation="softmax", encoder_weights=None)
    loss = 0.5 * sm.losses.BinaryCELoss() + 0.5 * sm.losses.JaccardLoss(smooth=1.0)
    network.compile(tf.keras.optimizers.Adam(RATE), loss)
    prepare = sm.get_preprocessing("vgg19")
    steps = zip(images, masks, strict=True)
    return np.array(
        [
            _first(network.train_on_batch(prepare(np.repeat(x.astype(np.float32), 3, -1)), y))
            for x, y in steps
        ]
    )


def _first(losses) -> float:
    return float(np.ravel(losses)[0])


def _show(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Means of ten steps, for one batch differs from the next."""
    print(f"| steps | {OURS} | {THEIRS} |\n| --- | --- | --- |")
    for start in range(0, STEPS, 10):
        part = slice(start, start + 10)
        print(f"| {start + 1}-{start + 10} | {ours[part].mean():.3f} | {theirs[part].mean():.3f} |")


if __name__ == "__main__":
    main()
