"""What tests of whole runs share."""

import pytest

from tests.training.small import registered


@pytest.fixture(scope="module")
def small_networks():
    """Networks that are known by name in one module alone: `usefixtures("small_networks")`."""
    with registered():
        yield
