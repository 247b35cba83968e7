"""A TCP proxy that makes a loopback connection as slow as a line between two sites: a delay and a rate in each
direction.

A process of its own, so that it takes no time from the interpreter of a client under test:

    python -m tests.bench.delay LISTEN-ADDRESS SERVER-ADDRESS ROUND-TRIP-MS MBIT-PER-SECOND

It prints a line when it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

PORT = 445
CHUNK = 256 * 1024
IN_FLIGHT = 32 * 1024 * 1024
"""Bytes under way in one direction, at most: more than the product of delay and rate of any line that is tried here."""


class Line:
    """One direction of a connection: what comes in goes out `delay` seconds later, `rate` bytes a second at most."""

    def __init__(self, delay: float, rate: float) -> None:
        self._delay = delay
        self._rate = rate
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._room = IN_FLIGHT
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Returns when either side has ended."""
        sender = asyncio.create_task(self._send(writer))
        try:
            free_at = 0.0
            loop = asyncio.get_running_loop()
            while data := await reader.read(CHUNK):
                free_at = max(free_at, loop.time()) + len(data) / self._rate
                self._room -= len(data)
                self._queue.put_nowait((free_at + self._delay, data))
                while self._room <= 0:
                    self._has_room.clear()
                    await self._has_room.wait()
            self._queue.put_nowait((loop.time() + self._delay, b""))
            await sender
        except OSError:
            pass  # reset by either side: the connection ends
        finally:
            sender.cancel()
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._queue.get()
            if not data:
                return
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
            self._room += len(data)
            self._has_room.set()


async def serve(listen: str, server: str, delay: float, rate: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(server, PORT, limit=CHUNK)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            Line(delay, rate).carry(reader, back), Line(delay, rate).carry(there, writer), return_exceptions=True
        )

    await asyncio.start_server(connected, listen, PORT, limit=CHUNK)
    print("listening", flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


if __name__ == "__main__":
    _, _listen, _server, _milliseconds, _mbit = sys.argv
    asyncio.run(serve(_listen, _server, float(_milliseconds) / 2000, float(_mbit) * 1e6 / 8))
