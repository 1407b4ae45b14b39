"""What tests and the package's own examples (doctests) share: folders of their own."""

from tests.conftest import _own_folders  # noqa: F401
