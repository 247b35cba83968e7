"""When the garbage collector looks for what is left of circles of objects.

It begins a search whenever some hundred more objects were made than went. Imports make tens of thousands of them, and
all stay to the end, so that each search finds nothing: of what a mount takes to start, that was a tenth. Nor has it to
look at them later on, in a running mount or at the end of a command.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def exempt_what_is_there() -> None:
    """What there is now is never searched again. For what is imported, when not much else is there."""
    gc.freeze()


@contextmanager
def importing() -> Iterator[None]:
    """Nothing is searched while the block imports modules, nor are these later on."""
    gc.disable()
    try:
        yield
    finally:
        exempt_what_is_there()
        gc.enable()
