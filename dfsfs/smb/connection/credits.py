"""CreditWindow: how many requests a connection may send, and under which MessageIds (MS-SMB2 3.2.4.1.2, 3.2.4.1.5).

A server grants credits. A request with CreditCharge n spends n credits and takes n consecutive MessageIds; its response
grants new credits. Invariants: `available` is never negative, a MessageId is given out once, `outstanding` is the sum
of the charges of requests in flight.

Pure. Calls that wait for credits are queued by protocol.py.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_GRANTED = 65535
"""The most credits that are counted, however many a server grants: a CreditRequest has 16 bits."""


@dataclass(frozen=True, slots=True)
class CreditStatistics:
    """A snapshot: credits that can be spent, charge of requests in flight, the next MessageId."""

    available: int
    outstanding: int
    next_message_id: int


class CreditWindow:
    """The credits of one connection. `target`: how many it asks the server for, available and in flight together."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._available = 1  # MS-SMB2 3.2.4.2.1: a new connection may send one request
        self._outstanding = 0
        self._next_message_id = 0

    @property
    def total(self) -> int:
        """Credits available and in flight: how many are available once all requests are answered, if the server
        grants as many as they have spent.
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

    def credits_to_request(self, charge: int) -> int:
        """The CreditRequest to send with a request of this charge: as many as reach the target, and at least one.

        Above the target it is less than the charge. Samba takes all but the first credit asked for as one more than
        the charge, so a window that asked for its charge back would grow with every request of more than one credit.
        """
        return min(max(1, charge + self._target - self.total), MAX_GRANTED)

    def complete(self, charge: int) -> None:
        """Counts the final response to a request of this charge."""
        self._outstanding -= charge

    def grant(self, credits: int) -> None:
        """Adds the credits of a response header, also of an interim response."""
        self._available = min(self._available + credits, MAX_GRANTED)

    def statistics(self) -> CreditStatistics:
        return CreditStatistics(self._available, self._outstanding, self._next_message_id)

    def check_invariants(self) -> None:
        assert self._available >= 0, self
        assert self._outstanding >= 0, self
        assert self._next_message_id >= self._outstanding, self
