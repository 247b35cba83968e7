"""Who asks for the figures, over a socket pair."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import trio

from dfsfs.control.metrics import serve

if TYPE_CHECKING:
    import pytest

    from dfsfs.control.metrics import Metrics


class Figures:
    """Gives a text, or fails as only a mistake of ours does."""

    def __init__(self) -> None:
        self.is_wrong = False

    def text(self) -> bytes:
        if self.is_wrong:
            raise LookupError("as the test wants it")
        return b"dfsfs_open_files 1\n"


async def answer(place: Any, request: bytes) -> bytes:
    """All that comes for a request."""
    with trio.fail_after(20):
        async with await trio.open_tcp_stream(*place) as stream:
            await stream.send_all(request + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
            return b"".join([data async for data in stream])


async def test_who_asks_gets_an_answer_also_after_a_mistake(caplog: pytest.LogCaptureFixture) -> None:
    figures = Figures()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    place = listener.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, cast("Metrics", figures))
        head, _, body = (await answer(place, b"GET")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and body == figures.text()
        length = f"Content-Length: {len(body)}".encode().lower()
        assert length in head.lower()
        head, _, body = (await answer(place, b"HEAD")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and length in head.lower() and not body
        assert (await answer(place, b"PUT")).startswith(b"HTTP/1.1 405")
        figures.is_wrong = True
        assert await answer(place, b"GET") == b""
        figures.is_wrong = False
        assert (await answer(place, b"GET")).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()
    assert "as the test wants it" in caplog.text
    caplog.clear()
