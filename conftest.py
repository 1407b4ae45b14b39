"""For the tests and for the examples in the package's docstrings alike."""

from tests.folders import own_folders  # noqa: F401
