"""All cases, by call and by what is asked."""

from tests.kernel.posix import content, naming, opening, parts
from tests.kernel.posix.harness import CASES

__all__ = ["CASES", "content", "naming", "opening", "parts"]
