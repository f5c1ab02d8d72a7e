"""The client for programs with threads: its calls wait. See aio.py for the one for asyncio."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .codes import NEVER
from .connection import Connection
from .frames import Message
from .outbox import Entry, Outbox
from .outcomes import Closed, Ended, Full, Outcome, Unsettled
from .reconnecting import Reconnecting
from .session import Session, Steps
from .settings import DISK_AGAIN, LINGER, MUTE_MAX, PATIENCE, Settings, check_payload, check_seconds, check_timeout
from .transfer import prepare, take_turn

T = TypeVar("T")


class Ticket(Entry):
    """A message on its way.

    number: None until it is sent. outcome: None until it has ended. size: bytes of its payload.
    """

    def __init__(self, lock: _Lock, key: int, number: int | None, size: int) -> None:
        super().__init__(key, number, size)
        self._lock = lock

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """The outcome, or None if there is none within `timeout` seconds. None waits for ever."""
        check_timeout(timeout)
        with self._lock:
            self._lock.wait_until("wait()", lambda: self.outcome is not None, timeout)
            return self.outcome


class Client:
    """A client of one gateway, for programs with threads.

    It connects when it is made, in a thread of its own, and comes back as often as it has to. All methods can
    be called from any thread. Use it in a `with` statement, or call `close`.

    host, port: the gateway. id: who this client is, 1 to 128 bytes of text.
    lifetime: "any", "short" or "long": which kind of connection to ask for.
    beat_min, beat_max: the seconds between heartbeats that suit this client; 0 for both: no wish.
    window_messages, window_bytes: how much the gateway may send ahead of what the application takes.
    message_max: the longest payload that this client takes, in bytes. Within a session it never becomes less:
        one that is resumed with a lower value goes on with the highest that the gateway was told (5.2).
    outbox: path of an SQLite file, which is created for its owner only. With it no message is lost when the
        process ends, however it ends. Without it, messages that have not ended are in memory only.
    outbox_bytes_max: how much may wait, in bytes. A message counts its payload and 256 bytes.
    reconnect: False ends the client with its first connection.
    backoff_first, backoff_longest, steady: how long the random wait before a reconnect is at first and at
        most, and after how many seconds attached it begins anew (8.2).
    mute_max: how many connections in a row may end without a single byte, before there was a session, until
        this client concludes that no gateway of this protocol is there.
    exit_wait: how long the interpreter's exit waits for messages that have not ended, if `close` was not
        called, in seconds. What has not ended then is said in a warning.
    on_event: is called with a kind and a detail, in the client's own thread. It must not wait for what that
        thread does, so `send`, `receive` and `wait` refuse to wait in it, and `close` doesn't wait; `submit`
        is for it. Kinds and details:

        "connected"                      (host, port)
        "new session", "resumed"         the session's number
        "sent", "sent again"             the message's number
        "committed"                      (number, durability)
        "refused"                        (number or 0, code, text)
        "unknown", "confirmed"           the message's number
        "lost", "lost incoming"          (first, last number) that the gateway, or this client, has lost (5.5)
        "notice"                         a Notice
        "bye", "disconnected"            a Closed
        "reconnecting"                   seconds

        The end of a message is told before the outbox forgets it: a crash can repeat it, but never lose it.

    ValueError or TypeError if an argument can't be, OutboxError if the file can't be used.

    While the outbox can't be written (a full disk), nothing new is accepted, sent or settled. The connection is
    kept, and the exchange continues once there is room. This client never refuses a message of the gateway; an
    application that doesn't want one takes it and ignores it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        id: str,
        *,
        lifetime: str = "any",
        beat_min: float = 0.0,
        beat_max: float = 0.0,
        window_messages: int = 64,
        window_bytes: int = 1 << 20,
        message_max: int = 1 << 18,
        outbox: str | os.PathLike[str] | None = None,
        outbox_bytes_max: int = 8 << 20,
        reconnect: bool = True,
        backoff_first: float = 0.1,
        backoff_longest: float = 60.0,
        steady: float = 30.0,
        mute_max: int = MUTE_MAX,
        exit_wait: float = 5.0,
        on_event: Callable[[str, Any], None] | None = None,
    ) -> None:
        settings = Settings(
            host=host,
            port=port,
            id=id,
            lifetime=lifetime,
            beat_min=beat_min,
            beat_max=beat_max,
            window_messages=window_messages,
            window_bytes=window_bytes,
            message_max=message_max,
            outbox_bytes_max=outbox_bytes_max,
            reconnect=reconnect,
            backoff_first=backoff_first,
            backoff_longest=backoff_longest,
            steady=steady,
            mute_max=mute_max,
        )
        check_seconds("exit_wait", exit_wait)
        self._on_event = on_event
        self._exit_wait = exit_wait
        self._lock = _Lock()  # guards the session with its outbox
        self._session = Session(settings, Outbox(outbox, id, functools.partial(Ticket, self._lock)))
        self._restored = [ticket for ticket in self._session.outbox.queue if isinstance(ticket, Ticket)]
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"pulse {id}", daemon=True)
        self._lock.own_thread = self._thread
        _living.add(self)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self.close(done=kind is None)

    @property
    def closed(self) -> Closed | None:
        """How the client has ended, None while it lives."""
        return self._session.closed

    @property
    def durability(self) -> int | None:
        """What committed means at this gateway (5.2), None before it is known."""
        return self._session.durability

    @property
    def restored(self) -> list[Ticket]:
        """The messages that a former client left in the outbox, lowest first."""
        return self._restored

    @property
    def unsettled(self) -> int:
        """How many messages have not ended."""
        return len(self._session.outbox.queue)

    def send(self, payload: bytes, timeout: float | None = 30.0) -> Outcome:
        """Sends a message and waits for its end.

        Unsettled, which is a TimeoutError and has the `ticket`, after `timeout` seconds: the message goes on,
        so don't send it again, but wait for its ticket. None waits for ever. Full, ValueError and Ended as
        `submit` raises them; then the message was not accepted.
        """
        check_timeout(timeout)
        until = _deadline(timeout)
        self._lock.refuse_own_thread("send()")  # before the message is accepted
        ticket = self.submit(payload, timeout)
        outcome = ticket.wait(_left(until))
        if outcome is None:
            why = self._session.why_unsettled()
            raise Unsettled(
                f"the message has not ended within {timeout:g} s{why and f' ({why})'}; it goes on, and "
                "this exception's ticket waits for it",
                ticket,
            )
        return outcome

    def submit(self, payload: bytes, timeout: float | None = 0.0) -> Ticket:
        """Accepts a message and returns without waiting for its end. With an outbox file it is on disk then.

        Full, if there is no room within `timeout` seconds; None waits for ever. ValueError, if it is longer
        than the gateway or the outbox takes. Ended, if the client has ended or is closing.
        """
        payload = check_payload(payload)
        check_timeout(timeout)
        until = _deadline(timeout)
        size = len(payload)
        session = self._session
        ticket = Ticket(self._lock, 0, None, size)
        with self._lock:
            while not session.accept(ticket, payload, time.monotonic()):
                left = _left(until)
                if left == 0.0:
                    raise Full(session.why_no_room(size))
                if session.has_room(size):
                    self._wait_for_disk(left)
                else:
                    self._lock.wait_until("submit()", lambda: session.may_accept(size), left)
        self._wake()
        return ticket

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message from the gateway, which is thereby committed; None after `timeout` seconds.

        Ended, once the client has ended.
        """
        check_timeout(timeout)
        until = _deadline(timeout)
        session = self._session
        with self._lock:
            while True:
                message = session.take(time.monotonic())
                if message:
                    break
                left = _left(until)
                if left == 0.0:
                    return None
                if session.inbox:
                    self._wait_for_disk(left)
                else:
                    self._lock.wait_until("receive()", lambda: session.inbox or session.closed, left)
        self._wake()
        return message

    def messages(self) -> Iterator[Message]:
        """Messages from the gateway, each committed as it is handed out, until the client ends."""
        while True:
            try:
                message = self.receive()
            except Ended:
                return
            if message:
                yield message

    def close(self, *, done: bool = True, timeout: float | None = None) -> Closed | None:
        """Ends the client and returns how it ended.

        With `done` it waits until every message has ended, and tells the gateway that it is done for good.
        Without, or after `timeout` seconds, it says that it means to come back. A connect that is under way
        may hold this up for 10 s, and with `done` so may a gateway that is about to let the client back into its
        session: only then it can be told that the session is over.
        """
        check_timeout(timeout)
        self._leave(done=done)
        if threading.current_thread() is not self._thread:
            self._thread.join(_saturated(timeout) if done else None)
            if self._thread.is_alive():
                return self.close(done=False)
        return self.closed

    def _leave(self, *, done: bool) -> None:
        with self._lock:
            self._session.leave(done=done)
            self._lock.notify_all()
        self._wake()

    def _wait_for_disk(self, left: float | None) -> None:
        if threading.current_thread() is self._thread:
            raise Full(self._session.full)
        self._lock.wait(DISK_AGAIN if left is None else min(left, DISK_AGAIN))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, so it will wake; or closed, so nothing is left to do
            self._waker.send(b"\0")

    def _exit(self, began: float) -> None:
        """The interpreter ends, and nobody has called `close`: waits as long as `exit_wait` says."""
        if not self._thread.is_alive():  # it has ended, or this is a fork, which has no such thread
            return
        session = self._session
        with self._lock:
            with contextlib.suppress(KeyboardInterrupt):  # whoever interrupts this has waited long enough
                self._lock.wait_for(
                    lambda: session.closed or session.means_to_return or not session.outbox.queue,
                    max(0.0, began + self._exit_wait - time.monotonic()),
                )
            session.warn_of_rest(time.monotonic())
        self._leave(done=False)
        with contextlib.suppress(KeyboardInterrupt):
            self._thread.join(LINGER + 0.5)

    # ---- the client's own thread

    def _run(self) -> None:
        try:
            closed = self._connect_again_and_again()
        except Exception as error:  # whoever waits for an outcome must hear of it
            traceback.print_exc()
            closed = Closed(93, NEVER, 0.0, f"the client failed: {error!r}")
        with self._lock:
            self._session.end(closed)
            self._lock.notify_all()
            for each in (self._selector, self._waker, self._woken):
                each.close()
        _living.discard(self)

    def _connect_again_and_again(self) -> Closed:
        reconnecting = Reconnecting(self._session)
        while True:
            reconnecting.handle_attempt(time.monotonic())
            connection = None
            try:
                with self._connect() as sock:
                    prepare(sock)
                    with self._lock:
                        connection = Connection(self._session, time.monotonic())
                    self._tell("connected", (self._session.settings.host, self._session.settings.port))
                    closed = self._serve(connection, sock)
            except (OSError, UnicodeError) as error:  # the latter of a name that can't be one
                self._take(reconnecting.handle_failure(error, time.monotonic()))
            else:
                self._take(reconnecting.handle_end(connection, closed, time.monotonic()))
            while reconnecting.ended is None:
                wait = self._take(reconnecting.poll_wait(time.monotonic()))
                if wait <= 0.0:
                    break
                self._select(wait)
            if reconnecting.ended:
                return reconnecting.ended

    def _connect(self) -> socket.socket:
        """Tries one address after the other, each for its share of the time that is left (4)."""
        until = time.monotonic() + PATIENCE
        fault = OSError("the name has no address")
        settings = self._session.settings
        addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(max(0.01, (until - time.monotonic()) / (len(addresses) - i)))
                sock.connect(address)
                return sock
            except OSError as error:
                fault = error
                if sock:
                    sock.close()
        raise fault

    def _serve(self, connection: Connection, sock: socket.socket) -> Closed:
        self._selector.register(sock, selectors.EVENT_READ)
        try:
            readable = False
            while True:
                wait = self._take(take_turn(connection, sock, readable=readable))
                if connection.closed:
                    return connection.closed
                writing = selectors.EVENT_WRITE if connection.is_writing else 0
                self._selector.modify(sock, selectors.EVENT_READ | writing)
                readable = bool(self._select(wait) & selectors.EVENT_READ)
        finally:
            self._selector.unregister(sock)

    def _select(self, timeout: float) -> int:
        """Waits for the socket or for `_wake`, and returns what the socket is ready for."""
        ready = 0
        for key, events in self._selector.select(min(max(0.0, timeout), 3600.0)):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                ready = events
        return ready

    def _take(self, steps: Steps[T]) -> T:
        """Takes steps of the rules, and tells their events while it doesn't hold the lock."""
        while True:
            with self._lock:
                try:
                    kind, detail = next(steps)
                except StopIteration as end:
                    self._lock.notify_all()
                    result: T = end.value
                    return result
            self._tell(kind, detail)

    def _tell(self, kind: str, detail: Any) -> None:
        if self._on_event:
            try:
                self._on_event(kind, detail)
            except Exception:  # a mistake of the application must not stop the exchange
                traceback.print_exc()


class _Lock(threading.Condition):
    """Guards a client. Every wait of an application is one of these."""

    own_thread: threading.Thread | None = None  # does what others wait for, so it must not wait itself

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def wait_until(self, what: str, true: Callable[[], Any], timeout: float | None) -> bool:
        """Whether it is true within `timeout` seconds; None waits for ever. For whoever holds this lock."""
        timeout = _saturated(timeout)
        if timeout != 0 and not true():
            self.refuse_own_thread(what)
        return bool(self.wait_for(true, timeout))

    def refuse_own_thread(self, what: str) -> None:
        """RuntimeError in the thread for which others wait."""
        if threading.current_thread() is self.own_thread:
            raise RuntimeError(
                f"{what} would wait for ever: on_event is called in the thread that it waits for; "
                "use submit() there, or call it in another thread"
            )


def _saturated(timeout: float | None) -> float | None:
    """A timeout that threading understands."""
    return None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + max(0.0, timeout)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


_living: set[Client] = set()  # those that nobody has closed


def _exit_all() -> None:
    began = time.monotonic()
    for client in list(_living):
        client._exit(began)


atexit.register(_exit_all)
