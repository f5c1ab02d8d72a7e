"""How messages, connections and clients end, and what a client raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .codes import CODES

if TYPE_CHECKING:
    from .outbox import Entry


@dataclass(frozen=True)
class Outcome:
    """How a message ended (7.5).

    kind: "committed": the gateway has it.
        "not accepted": the gateway refused it, or it was never sent and never will be.
        "unknown": the session ended before the gateway's answer came, so the gateway may have it or not.
        "kept": no end. The client stopped, and its outbox file has the message for the next client.
    code: why the gateway refused it (7.3), else 0.
    text: for people: why it was refused, or what committed means here.
    durability: what committed means (5.2): 0 in memory only, 1 with the operating system, 2 synced to
        disk, or a number that this client doesn't know. None if it was not committed.
    """

    kind: str
    code: int = 0
    text: str = ""
    durability: int | None = None


@dataclass(frozen=True)
class Closed:
    """How a connection, or the client, ended.

    code, retry: as in 8.2 and 8.3. delay: seconds to wait before coming back. text: for people.
    no_gateway: nobody there speaks the pulse protocol.
    """

    code: int
    retry: int
    delay: float
    text: str
    no_gateway: bool = False

    @classmethod
    def because(cls, reason: str, text: str) -> Closed:
        """An end that this side found, for a reason of 8.3 in its words."""
        code, retry = CODES[reason]
        return cls(code, retry, 0.0, text)


class Ended(Exception):
    """The client has ended. Its argument says how: a `Closed`."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed)
        self.closed = closed

    def __str__(self) -> str:
        return self.closed.text


class Full(Exception):
    """The outbox holds as much as it may, or can't be written now."""


class Unsettled(TimeoutError):
    """A message has not ended within the time that `send` was given.

    The message goes on. Don't send it again, but wait for its `ticket`.
    """

    def __init__(self, words: str, ticket: Entry) -> None:
        super().__init__(words)
        self.ticket = ticket


class OutboxError(OSError):
    """The outbox file can't be used. The text names the path, and says what to do."""
