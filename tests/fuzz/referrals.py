"""A fuzz target for the decoder of referrals. Arguments are libFuzzer's; the corpus is kept in tests/fuzz/corpus.

An hour of it, with what it finds new added to the corpus:

    .venv/bin/python -m tests.fuzz.referrals -max_total_time=3600 -timeout=5 -max_len=65536 tests/fuzz/corpus
    .venv/bin/python -m tests.fuzz.referrals -merge=1 SMALLER tests/fuzz/corpus

The first byte of an input says what the rest is the answer to.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["dfsfs.dfsc", "dfsfs.unc"]):
    from dfsfs.dfsc import wire
    from dfsfs.errors import WireError
    from dfsfs.unc import UncPath

if TYPE_CHECKING:
    from collections.abc import Callable

PATHS = (
    None,
    UncPath(("contoso.test",)),
    UncPath(("contoso.test", "public")),
    UncPath(("127.0.0.10", "dfs", "dir", "sub", "link", "Grüße", "\U0001f5c2")),
)
"""What an answer may be the answer to: a domain, DC, root or link request."""


def answer(data: bytes, path: UncPath | None) -> None:
    """Whatever is decoded says the same when it is encoded and decoded again, unless it doesn't fit any more."""
    response = wire.decode_response(data, path)
    assert not (response.entries and response.name_lists)
    assert len(response.entries) + len(response.name_lists) <= wire.MAX_REFERRALS
    for entry in response.entries:
        assert entry.network_address.share
    if response.path_consumed is not None:
        assert path is not None
        assert path.components[: len(response.path_consumed.components)] == response.path_consumed.components
    again = wire.decode_response(wire.encode_response(response), path)
    assert again == response


def request(data: bytes) -> None:
    found = wire.decode_request(data)
    assert wire.decode_request(wire.encode_request(found.path, found.level)) == found


def request_ex(data: bytes) -> None:
    found = wire.decode_request_ex(data)
    if found.site is not None and max(len(found.path), len(found.site)) < 10_000 and found.level:
        assert wire.decode_request_ex(wire.encode_request_ex(found.path, found.site, found.level)) == found


def one_input(data: bytes) -> None:
    """Raises nothing but AssertionError, for a decoder that lies, or what a decoder must not raise."""
    kind, body = data[0] if data else 0, data[1:]
    readers: list[Callable[[], None]] = [lambda path=path: answer(body, path) for path in PATHS]  # type: ignore[misc]
    readers += [lambda: request(body), lambda: request_ex(body)]
    try:
        readers[kind % len(readers)]()
    except WireError:
        pass


def main() -> None:
    # For -merge libFuzzer starts itself once more, by the first argument, which goes to a shell.
    atheris.Setup([f"{sys.executable} -m tests.fuzz.referrals", *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
