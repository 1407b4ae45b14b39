"""On the other backend networks are trained and run, too, not only compared."""

import os
import subprocess
import sys

import keras
import pytest

from tests.conftest import ROOT

CHOSEN = (
    "tests/training/test_fit.py::test_it_learns_and_leaves_its_folder",
    "tests/engines/test_engines.py::test_shapes_and_types[keras]",
)


@pytest.mark.slow
def test_a_run_and_the_keras_engine_on_jax():
    pytest.importorskip("jax")
    if keras.backend.backend() == "jax":
        pytest.skip("everything runs on JAX here")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CHOSEN]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("backend", ["torch", "foo"])
def test_other_backends_get_a_sentence(backend):
    command = [sys.executable, "architecture.py", "unet_lite0"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"KERAS_BACKEND={backend}" in done.stderr
    assert "Traceback" not in done.stderr
