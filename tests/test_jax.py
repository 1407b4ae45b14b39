"""On the other backend networks are trained and run, too, not only compared."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CHOSEN = (
    "tests/training/test_fit.py::test_it_learns_and_leaves_its_folder",
    "tests/training/test_loop.py::test_the_average_is_scored_while_training_goes_on",
    "tests/engines/test_engines.py::test_shapes_and_types[keras]",
)


@pytest.mark.slow
def test_runs_and_the_keras_engine(other_backend):
    code, report = other_backend.run_tests(*CHOSEN)
    assert code == 0, report
    assert f"{len(CHOSEN)} passed" in report


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
