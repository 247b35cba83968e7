"""CreditWindow: which requests a connection may send, and under which MessageIds (MS-SMB2 3.2.4.1.2, 3.2.4.1.5).

A server grants credits; a request of charge n spends n of them and takes n consecutive MessageIds; the answer grants
new ones. Invariants: `available` is never negative, an id is given out once, `outstanding` is the charge of what was
sent and is not answered yet.

Pure. It does not queue: who has to wait for credits is decided by `protocol.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_GRANTED = 65535
"""A server that grants for ever is cut off here: the window only has to cover what can be in flight."""


@dataclass(frozen=True, slots=True)
class CreditStatistics:
    """A snapshot: credits in hand, charge in flight, the next MessageId."""

    available: int
    outstanding: int
    next_message_id: int


class CreditWindow:
    """The credits of one connection. `target` is how many it tries to hold, in hand and in flight together."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._available = 1  # MS-SMB2 3.2.4.2.1: a new connection may send one request
        self._outstanding = 0
        self._next_message_id = 0

    @property
    def total(self) -> int:
        """Credits in hand and in flight: what can be in hand once everything is answered, if the server gives back
        what it takes.
        """
        return self._available + self._outstanding

    @property
    def idle(self) -> bool:
        return self._outstanding == 0

    def can_take(self, charge: int) -> bool:
        return charge <= self._available

    def take(self, charge: int) -> int:
        """Spends `charge` credits; returns the first of the MessageIds that they stand for.

        Raises:
            ValueError: there are not enough credits.
        """
        if not 0 < charge <= self._available:
            raise ValueError(f"{charge} credits asked for, {self._available} in hand")
        message_id = self._next_message_id
        self._next_message_id += charge
        self._available -= charge
        self._outstanding += charge
        return message_id

    def wanted(self, charge: int) -> int:
        """The CreditRequest to send with a request of this charge: what leads back to the target, and at least one.

        Above the target it is less than the charge: Samba takes all but the first credit asked for as one more than
        the charge, so that a window that only asked for its own back would grow with every dear request.
        """
        return min(max(1, charge + self._target - self.total), MAX_GRANTED)

    def settle(self, charge: int) -> None:
        """The final answer to a request of this charge has come."""
        self._outstanding -= charge

    def grant(self, credits: int) -> None:
        """Credits that came in a response header, interim ones included."""
        self._available = min(self._available + credits, MAX_GRANTED)

    def statistics(self) -> CreditStatistics:
        return CreditStatistics(self._available, self._outstanding, self._next_message_id)

    def check_invariants(self) -> None:
        assert self._available >= 0, self
        assert self._outstanding >= 0, self
        assert self._next_message_id >= self._outstanding, self
