"""InodeNumbers: which number an inode gets. st_ino and FUSE's node id are one.

A number is a hash of where the file is: the DFS root or link through which it is seen, the share, and the server's
file id. So it is the same after a remount and after the kernel has forgotten the file, whatever else was seen before.
The same file seen through two DFS links has two numbers: the kernel allows a directory in one place only.

A number that is still in use is not given to another file, though a server may use a file id again as soon as it has
removed the file. The file that turns up second gets the next number that is free, and keeps it: the last EXCEPTIONS
such files are remembered beyond the time for which they are in the table, by file id and time of creation. The id alone
would not do: the second may be the older one, which an answer from before its removal still has, and the number of the
first must not change then.

Where a server gives no file ids that last, a number is a hash of the directory's number and the name.

Pure.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dfsfs.unc import UncPath

NUMBER_MASK = (1 << 63) - 1
"""Numbers have 63 bits: some programs read st_ino into a signed integer."""
FILE_ID_MASK = (1 << 64) - 1
FIRST_NUMBER = 2
EXCEPTIONS = 65536
"""Files that are remembered whose number is not the hash of their id, as that was taken."""

SEEDS = 1000
"""Hash states that are cached, one for each pair of a link and a share."""


class InodeNumbers:
    """See the module's text. `is_taken` says whether a number is in use."""

    def __init__(self, is_taken: Callable[[int], bool]) -> None:
        self._is_taken = is_taken
        self._seeds: dict[tuple[UncPath, UncPath], hashlib.blake2b] = {}
        self._last: tuple[UncPath | None, UncPath | None, int, int] = (None, None, 0, 0)
        """The arguments and the result of the last `_compute`: each new file is asked for twice."""
        self._seed = _seed(())
        """The hash state of the link and the share in `_last`."""
        self._exceptions: OrderedDict[tuple[UncPath, UncPath, int, int], int] = OrderedDict()

    def get(self, root: UncPath, share: UncPath, file_id: int, created: int) -> int:
        """The number that a file has if it is in the table.

        `root`: the DFS root or link that it is seen through; `created`: in nanoseconds, as the server has it.
        """
        known = self._exceptions.get((root, share, file_id, created)) if self._exceptions else None
        return self._compute(root, share, file_id) if known is None else known

    def make_for_file(self, root: UncPath, share: UncPath, file_id: int, created: int) -> int:
        """A number for a file that is not in the table."""
        number = self.get(root, share, file_id, created)
        if self._is_taken(number):
            number = self._find_free(number)
            self._exceptions[root, share, file_id, created] = number
            self._exceptions.move_to_end((root, share, file_id, created))
            if len(self._exceptions) > EXCEPTIONS:
                self._exceptions.popitem(last=False)
        return number

    def make_for_name(self, directory: int, name: str) -> int:
        """A number for a file without an id, of which the name in the directory of that number is known."""
        return self._find_free(_hashed(_seed((name,)), directory))

    def _compute(self, root: UncPath, share: UncPath, file_id: int) -> int:
        last_root, last_share, last_id, number = self._last
        if root is last_root and share is last_share and file_id == last_id:
            return number
        if root is not last_root or share is not last_share:  # hashing two paths takes longer than all the rest
            seed = self._seeds.get((root, share))
            if seed is None:
                if len(self._seeds) >= SEEDS:
                    self._seeds.clear()
                seed = self._seeds[root, share] = _seed((*root.key, "", *share.key))
            self._seed = seed
        number = _hashed(self._seed, file_id & FILE_ID_MASK)
        self._last = root, share, file_id, number
        return number

    def _find_free(self, number: int) -> int:
        while self._is_taken(number):
            number = max(FIRST_NUMBER, (number + 1) & NUMBER_MASK)
        return number


def _seed(names: Iterable[str]) -> hashlib.blake2b:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=8)


def _hashed(seed: hashlib.blake2b, number: int) -> int:
    """An inode number, always the same for the same arguments."""
    mixed = seed.copy()
    mixed.update(number.to_bytes(8, "little"))
    return max(FIRST_NUMBER, int.from_bytes(mixed.digest(), "little") & NUMBER_MASK)
