"""Work on Keras' other backend: one process, started at the first use, computes all of it.

Its start alone takes as long as most tests, and what XLA compiled once is there for the next.
"""

import io
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from typing import Any

import pytest


class OtherBackend:
    """Calls functions in a process whose Keras runs on the other backend.

    A function and its arguments are pickled: it stands in a module of `tests`, which is imported
    there anew, and takes and returns paths, numbers and arrays.

    Attributes:
        name: `jax`, or `tensorflow` where the tests themselves run on JAX.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(name,)
        )

    def __enter__(self) -> "OtherBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """What `function(*arguments)` returns there; what it raises is raised here."""
        return self._pool.submit(function, *arguments).result()

    def run_tests(self, *tests: str) -> tuple[int, str]:
        """Run tests of this suite there; pytest's exit code and its report."""
        return self.call(_run_tests, tests)


def _start(name: str) -> None:
    """Before anything imports Keras."""
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # what it runs is no part of a worker's run
    os.environ |= {
        "KERAS_BACKEND": name,
        "JAX_PLATFORMS": "cpu",
        # Two devices, so that batches can be shared. Little is computed with what is compiled.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 "
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }


def _run_tests(tests: tuple[str, ...]) -> tuple[int, str]:
    report = io.StringIO()
    with redirect_stdout(report):
        code = pytest.main(["-q", "-p", "no:xdist", "--assert=plain", *tests])
    return int(code), report.getvalue()
