"""What is wrong with the options of a mount."""

from __future__ import annotations


class ConfigError(Exception):
    """The mount is asked for in a way that makes no sense, or that dfsfs does not do. One line, without passwords."""
