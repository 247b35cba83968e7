"""All cases, by call and by what is asked."""

from tests.posix import content, naming, opening
from tests.posix.harness import CASES

__all__ = ["CASES", "content", "naming", "opening"]
