"""Mounts, as for the tests of tests/integration."""

from tests.integration.conftest import mount, work

__all__ = ["mount", "work"]
