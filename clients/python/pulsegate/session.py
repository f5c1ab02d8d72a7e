"""What a client keeps while connections come and go: its outbox, what came in, and how it ends.

This module and connection.py are the rules of the protocol, without sockets, threads or clocks. The
caller passes the time in (seconds of time.monotonic), and makes only one call at a time. So the client
with threads and the one for asyncio share one set of rules.

**Steps.** A method that has something to tell the application is a generator of events. The caller tells
the application each event before it asks for the next one. Only then does the outbox forget a message
that has ended: a crash can repeat an event, but never lose one. Between two events other calls are
allowed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .codes import DONE, NEVER
from .frames import NO_TOKEN, Hello, Message
from .outbox import OVERHEAD, Entry, Outbox
from .outcomes import Closed, Ended, Outcome
from .settings import DISK_AGAIN, WARN_AGAIN, Settings
from .text import readable

T = TypeVar("T")
Event = tuple[str, Any]
"""A kind and a detail: `Client` lists them."""
Steps = Generator[Event, None, T]

_log = logging.getLogger("pulsegate")


class Session:
    """The client's side of a session, and of those that follow it.

    closed: how the client has ended, None while it lives.
    durability: what committed means at this gateway (5.2), None before it is known.
    away: why the client isn't attached, while it isn't. full: why the outbox can't be written, if so.
    """

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self.settings = settings
        self.outbox = outbox
        self.inbox: deque[Message] = deque()  # came on the newest connection, and is not taken
        self.message_max = Message.ROOM  # bytes that the gateway takes, once that is known
        self.closed: Closed | None = None
        self.durability: int | None = None
        self.away = "it is not connected yet"
        self.full = ""
        self._closing = ""  # or "done", or "back"
        self._write_again_at = 0.0
        self._warned: dict[str, float] = {}  # when it was last warned of each kind of thing
        for number, sentence in enumerate(outbox.warnings):
            self.warn(f"others {number}", sentence, 0.0)

    # ---- what the application does

    def accept(self, entry: Entry, payload: bytes, now: float) -> bool:
        """Puts a message into the outbox, which is on disk if it is a file. False if there is no room now.

        ValueError if it is too long, Ended if the client has ended or is closing.
        """
        if self.closed or self._closing:
            raise Ended(self.closed or Closed(DONE, NEVER, 0.0, "the client is closing"))
        size = len(payload)
        bytes_max = self.settings.outbox_bytes_max
        if size + OVERHEAD > bytes_max or size > self.message_max:
            raise ValueError(
                f"the message is longer than the outbox, or what the gateway takes: it has {size} bytes, "
                f"outbox_bytes_max is {bytes_max} and counts {OVERHEAD} more for each message, and the "
                f"gateway takes {self.message_max}"
            )
        return self.has_room(size) and self.store(lambda: self.outbox.append(entry, payload), now, at_once=True)

    def has_room(self, size: int) -> bool:
        """Whether the outbox may hold one more message of this many bytes."""
        return self.outbox.bytes + size + OVERHEAD <= self.settings.outbox_bytes_max

    def may_accept(self, size: int) -> bool:
        """Whether asking `accept` again can have another answer, as far as the disk allows."""
        return self.closed is not None or self.is_closing or self.has_room(size)

    def why_no_room(self, size: int) -> str:
        """Why `accept` takes nothing."""
        if self.has_room(size):
            return self.full
        return f"{self.outbox.bytes} bytes wait for the gateway" + (self.away and f" ({self.away})")

    def why_unsettled(self) -> str:
        """Why messages don't end, as far as that is known."""
        return self.full or self.away

    def take(self, now: float) -> Message | None:
        """The next message from the gateway, which this commits: the cursor moves before the RECEIPT (5.8).

        None if there is no message, or if the cursor can't be stored now. Ended, once the client has ended.
        """
        if self.closed:
            raise Ended(self.closed)
        if not self.inbox:
            return None
        message = self.inbox[0]
        if not self.store(lambda: self.write(cursor=message.number), now, at_once=True):
            return None
        return self.inbox.popleft()

    def leave(self, *, done: bool) -> None:
        """Begins to close: once every message has ended, or at once if it means to come back."""
        self._closing = "done" if done and self._closing != "back" else "back"

    # ---- how it ends

    @property
    def is_closing(self) -> bool:
        """Whether the application wants it to end."""
        return bool(self._closing)

    @property
    def means_to_return(self) -> bool:
        """Whether it leaves without waiting for what has not ended."""
        return self._closing == "back"

    @property
    def is_leaving(self) -> bool:
        """Whether it ends now, for it has nothing more to wait for."""
        return self.means_to_return or (self.is_closing and not self.outbox.queue)

    def end(self, closed: Closed) -> None:
        """The client has ended, and so has everything that waits."""
        self.closed = closed
        for entry in self.outbox.queue:
            kind = "not accepted" if entry.number is None else "unknown"
            kind = kind if self.outbox.path is None else "kept"
            entry.end(entry.told or Outcome(kind, 0, closed.text))
        self.outbox.close()

    def warn_of_rest(self, now: float) -> None:
        """Warns of what has not ended, when a program ends without `close`."""
        left = 0 if self.closed else len(self.outbox.queue)
        if left and not self.means_to_return:
            what = f"{left} messages that have not ended" if left > 1 else "1 message that has not ended"
            kept = f"{'are' if left > 1 else 'is'} kept in the outbox {self.outbox.path}"
            fate = kept if self.outbox.path else "may be lost"
            self.warn("exit", f"the program ends without close(): {what} {fate}", now)

    # ---- what connections do

    def begin(self, now: float) -> Hello:
        """HELLO for a new connection. OSError if what it tells can't be stored.

        What came and was not taken comes again, for `committed` doesn't cover it.
        """
        self.inbox.clear()
        state = self.outbox.state
        hello = self.settings.hello()
        # The gateway may use a limit that it was told once in this session, even after a restart with less (5.2).
        message_max = max(hello.message_max, state.told_max)
        if state.session and message_max > state.told_max:  # stored before it is told (5.8)
            if not self.store(lambda: self.write(told_max=message_max), now):
                raise OSError(self.full)
        return replace(
            hello,
            session=state.session,
            token=state.token,
            committed=state.cursor,
            acknowledged=state.settled,
            message_max=message_max,
            window_bytes=max(hello.window_bytes, message_max),
        )

    def finish(self, ends: Sequence[tuple[Entry, Outcome]], now: float, **changes: Any) -> Steps[bool]:
        """Tells how messages ended, and then forgets them together with changes of the outbox's state.

        False if the outbox can't be written. Then they have not ended; they are not told again.
        """
        for entry, outcome in ends:
            if entry.told is None:
                entry.told = outcome
                yield _event_of(entry.number, outcome)
        if not self.store(lambda: self.write(forget=[entry for entry, _ in ends], **changes), now):
            return False
        for entry, outcome in ends:
            entry.end(entry.told or outcome)
        return True

    def give_up(self, now: float, *, session: int = 0, token: bytes = NO_TOKEN, told_max: int = 0) -> Steps[bool]:
        """Leaves the session, for the one that is given, or for none yet.

        What was sent and has not ended is unknown. What was never sent goes into the next session (5.3).
        False if that can't be stored now.
        """
        unknown = Outcome("unknown", 0, "the session ended before the receipt came")
        ends = [(entry, unknown) for entry in self.outbox.in_flight()]
        changes = {"session": session, "token": token, "settled": 0, "cursor": 0, "told_max": told_max}
        if not (yield from self.finish(ends, now, **changes)):
            return False
        self.outbox.highest = 0
        return True

    # ---- the disk

    def write(self, forget: Sequence[Entry] = (), **changes: Any) -> None:
        """Changes fields of the outbox's `State`, and forgets messages. For `store`."""
        self.outbox.write(replace(self.outbox.state, **changes), forget)

    def store(self, work: Callable[[], object], now: float, *, at_once: bool = False) -> bool:
        """Runs `work`, which reads or writes the outbox. False if it fails; then it has to be tried again later.

        After a failure nothing is tried for half a second, except `at_once`, for the application.
        """
        if self.full and not at_once and now < self._write_again_at:
            return False
        try:
            try:
                work()
            except sqlite3.OperationalError:
                self.outbox.make_room()
                work()
        except sqlite3.OperationalError as error:
            path = self.outbox.path
            if path and not os.access(path, os.W_OK):
                self.full = self.outbox.why_unusable(error)
            else:
                self.full = f"the outbox {path or 'in memory'} can't be written: {error}"
            if not at_once:
                self._write_again_at = now + DISK_AGAIN
            self.warn("outbox", self.full + "; nothing is lost, and this goes on once it can be written", now)
            return False
        if self.full:
            self.full = ""
            self.warn("outbox again", "the outbox can be written again", now)
        return True

    def probe(self, now: float) -> bool:
        """Whether the outbox can be written, looking again if it couldn't."""
        return not self.full or self.store(self.outbox.probe, now)

    def warn(self, kind: str, text: str, now: float) -> None:
        """Warns, but not of the same kind of thing again and again."""
        last = self._warned.get(kind)
        if last is None or now >= last + WARN_AGAIN:
            self._warned[kind] = now
            _log.warning("%s: %s", readable(self.settings.id), readable(text))


def _event_of(number: int | None, outcome: Outcome) -> Event:
    if outcome.kind == "not accepted":
        return "refused", (number or 0, outcome.code, outcome.text)
    if outcome.kind == "committed":
        return "committed", (number, outcome.durability)
    return outcome.kind, number
