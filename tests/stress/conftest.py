"""Mounts, as for the tests of tests/kernel."""

from tests.kernel.conftest import mount, work

__all__ = ["mount", "work"]
