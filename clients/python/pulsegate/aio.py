"""The client for asyncio. It keeps the same rules as the one in client.py, and all its promises.

    async with AsyncClient("gateway.example", 7000, "sensor-7", outbox="sensor-7.db") as client:
        outcome = await client.send(b"hello")
        async for message in client.messages():
            print(message.number, message.payload)

Nothing here blocks the event loop: with an outbox file, what may wait for the disk runs in one thread for
each client; without a file there is no thread. It needs an event loop with `add_reader`, so on Windows
asyncio.SelectorEventLoop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from .codes import NEVER
from .connection import Connection
from .frames import Message
from .outbox import Entry, Outbox
from .outcomes import Closed, Ended, Full, Outcome, Unsettled
from .reconnecting import Reconnecting
from .session import Event, Session, Steps
from .settings import DISK_AGAIN, MUTE_MAX, PATIENCE, Settings, check_payload, check_timeout
from .transfer import prepare, take_turn

T = TypeVar("T")


class AsyncTicket(Entry):
    """A message on its way.

    number: None until it is sent. outcome: None until it has ended. size: bytes of its payload.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, key: int, number: int | None, size: int) -> None:
        super().__init__(key, number, size)
        self._loop = loop
        self._ended = _Signal(loop)

    async def wait(self, timeout: float | None = None) -> Outcome | None:
        """The outcome, or None if there is none within `timeout` seconds. None waits for ever."""
        check_timeout(timeout)
        await self._ended.wait(timeout)
        return self.outcome

    def end(self, outcome: Outcome) -> None:
        super().end(outcome)
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._ended.set)


class AsyncClient:
    """A client of one gateway, for asyncio.

    It connects when it is entered (`async with`) or started (`start`), and comes back as often as it has to.
    Leave the `async with`, or call `close`, before the event loop ends. Its methods belong to that loop.

    The arguments are those of `Client`, but for `exit_wait`. `on_event` is called in the event loop; it is no
    coroutine, and must not block.

    A cancelled `send` or `submit` may have accepted the message, which then goes on. A message that a cancelled
    `receive` had already taken is what the next `receive` returns.
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
        on_event: Callable[[str, Any], None] | None = None,
    ) -> None:
        self._settings = Settings(
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
        self._outbox_path = outbox
        self._on_event = on_event
        # One thread, so that no two calls into the session are made at once.
        self._executor = ThreadPoolExecutor(1, f"pulse {id}") if outbox is not None else None
        self._started: Session | None = None
        self._restored: list[AsyncTicket] = []
        self._taking: asyncio.Future[Message | None] | None = None  # what `receive` waits for

    async def __aenter__(self) -> AsyncClient:
        await self.start()
        return self

    async def __aexit__(self, kind: Any, value: Any, trace: Any) -> None:
        await self.close(done=kind is None)

    async def start(self) -> None:
        """Opens the outbox and begins to connect. OutboxError if the file can't be used."""
        if self._started:
            raise RuntimeError("the client was started before: make another one")
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._changed = _Signal(loop)  # set, and replaced, after each step
        self._woken = _Signal(loop)  # the client's task has something to do
        self._receiving = asyncio.Lock()
        make_ticket = functools.partial(AsyncTicket, loop)
        try:
            outbox = await self._call(Outbox, self._outbox_path, self._settings.id, make_ticket)
        except BaseException:
            self._stop_thread()
            raise
        self._started = Session(self._settings, outbox)
        self._restored = [ticket for ticket in outbox.queue if isinstance(ticket, AsyncTicket)]
        self._task = loop.create_task(self._run())

    @property
    def _session(self) -> Session:
        if self._started is None:
            raise RuntimeError("the client is not started: use it in an async with statement, or await start()")
        return self._started

    @property
    def closed(self) -> Closed | None:
        """How the client has ended, None while it lives."""
        return self._session.closed

    @property
    def durability(self) -> int | None:
        """What committed means at this gateway (5.2), None before it is known."""
        return self._session.durability

    @property
    def restored(self) -> list[AsyncTicket]:
        """The messages that a former client left in the outbox, lowest first."""
        return self._restored

    @property
    def unsettled(self) -> int:
        """How many messages have not ended."""
        return len(self._session.outbox.queue)

    async def send(self, payload: bytes, timeout: float | None = 30.0) -> Outcome:
        """Sends a message and waits for its end.

        Unsettled, which is a TimeoutError and has the `ticket`, after `timeout` seconds: the message goes on,
        so don't send it again, but wait for its ticket. None waits for ever. Full, ValueError and Ended as
        `submit` raises them; then the message was not accepted.
        """
        check_timeout(timeout)
        until = _deadline(timeout)
        ticket = await self.submit(payload, timeout)
        outcome = await ticket.wait(_left(until))
        if outcome is None:
            why = self._session.why_unsettled()
            raise Unsettled(
                f"the message has not ended within {timeout:g} s{why and f' ({why})'}; it goes on, and "
                "this exception's ticket waits for it",
                ticket,
            )
        return outcome

    async def submit(self, payload: bytes, timeout: float | None = 0.0) -> AsyncTicket:
        """Accepts a message and returns without waiting for its end. With an outbox file it is on disk then.

        Full, if there is no room within `timeout` seconds; None waits for ever. ValueError, if it is longer
        than the gateway or the outbox takes. Ended, if the client has ended or is closing.
        """
        payload = check_payload(payload)
        check_timeout(timeout)
        until = _deadline(timeout)
        session = self._session
        size = len(payload)
        ticket = AsyncTicket(self._loop, 0, None, size)
        while not await self._call(session.accept, ticket, payload, time.monotonic()):
            left = _left(until)
            if left == 0.0:
                raise Full(session.why_no_room(size))
            if session.has_room(size):  # so it is the disk that is full
                await asyncio.sleep(DISK_AGAIN if left is None else min(left, DISK_AGAIN))
            else:
                await self._wait_until(lambda: session.may_accept(size), left)
        self._woken.set()
        return ticket

    async def receive(self, timeout: float | None = None) -> Message | None:
        """The next message from the gateway, which is thereby committed; None after `timeout` seconds.

        Ended, once the client has ended.
        """
        check_timeout(timeout)
        until = _deadline(timeout)
        session = self._session
        while True:
            message = await self._take_message()
            if message:
                return message
            left = _left(until)
            if left == 0.0:
                return None
            if session.inbox:  # so the disk is full
                await asyncio.sleep(DISK_AGAIN if left is None else min(left, DISK_AGAIN))
            else:
                await self._wait_until(lambda: session.inbox or session.closed, left)

    async def messages(self) -> AsyncIterator[Message]:
        """Messages from the gateway, each committed as it is handed out, until the client ends."""
        while True:
            try:
                message = await self.receive()
            except Ended:
                return
            if message:
                yield message

    async def close(self, *, done: bool = True, timeout: float | None = None) -> Closed | None:
        """Ends the client and returns how it ended.

        With `done` it waits until every message has ended, and tells the gateway that it is done for good.
        Without, or after `timeout` seconds, it says that it means to come back. A connect that is under way
        may hold this up for 10 s, and with `done` so may a gateway that is about to let the client back into its
        session: only then it can be told that the session is over.
        """
        check_timeout(timeout)
        session = self._session
        session.leave(done=done)
        self._announce()
        self._woken.set()
        await asyncio.wait({self._task}, timeout=timeout if done else None)
        if not self._task.done():
            return await self.close(done=False)
        return session.closed

    async def _take_message(self) -> Message | None:
        """What is taken is committed, so if its receiver is cancelled the next one has to get it."""
        async with self._receiving:  # so that messages are handed out in their order
            if self._taking is None:
                self._taking = asyncio.ensure_future(self._call(self._session.take, time.monotonic()))
                self._taking.add_done_callback(lambda _: self._woken.set())  # its RECEIPT is due
            await asyncio.wait({self._taking})
            taken, self._taking = self._taking, None
            return taken.result()

    async def _wait_until(self, true: Callable[[], Any], timeout: float | None) -> None:
        """Waits until it is true, but no longer than `timeout` seconds."""
        until = _deadline(timeout)
        while not true() and _left(until) != 0.0:
            await self._changed.wait(_left(until))

    def _announce(self) -> None:
        """Lets all who wait for something look again."""
        self._changed.set()
        self._changed = _Signal(self._loop)

    # ---- the client's own task

    async def _run(self) -> None:
        closed = Closed(93, NEVER, 0.0, "the client's task was cancelled")
        try:
            closed = await self._connect_again_and_again()
        except asyncio.CancelledError:  # the event loop ends, and nobody has called `close`
            self._session.warn_of_rest(time.monotonic())
            raise
        except Exception as error:  # whoever waits for an outcome must hear of it
            traceback.print_exc()
            closed = Closed(93, NEVER, 0.0, f"the client failed: {error!r}")
        finally:
            await self._call(self._session.end, closed)
            self._announce()
            self._stop_thread()

    async def _connect_again_and_again(self) -> Closed:
        reconnecting = Reconnecting(self._session)
        while True:
            reconnecting.handle_attempt(time.monotonic())
            connection = None
            try:
                with await self._connect() as sock:
                    prepare(sock)
                    connection = await self._call(Connection, self._session, time.monotonic())
                    self._tell(("connected", (self._settings.host, self._settings.port)))
                    closed = await self._serve(connection, sock)
            except (OSError, UnicodeError) as error:  # the latter of a name that can't be one
                await self._take(reconnecting.handle_failure(error, time.monotonic()))
            else:
                await self._take(reconnecting.handle_end(connection, closed, time.monotonic()))
            while reconnecting.ended is None:
                wait = await self._take(reconnecting.poll_wait(time.monotonic()))
                if wait <= 0.0:
                    break
                await self._wait_for_work(wait)
            if reconnecting.ended:
                return reconnecting.ended

    async def _connect(self) -> socket.socket:
        """Tries one address after the other, each for its share of the time that is left (4)."""
        until = time.monotonic() + PATIENCE
        fault = OSError("the name has no address")
        addresses = await self._loop.getaddrinfo(self._settings.host, self._settings.port, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            share = max(0.01, (until - time.monotonic()) / (len(addresses) - i))
            try:
                return await self._connect_to(socket.socket(family, kind, protocol), address, share)
            except OSError as error:
                fault = error
        raise fault

    async def _connect_to(self, sock: socket.socket, address: Any, timeout: float) -> socket.socket:
        connecting = None
        try:
            sock.setblocking(False)
            connecting = self._loop.create_task(self._loop.sock_connect(sock, address))
            await asyncio.wait({connecting}, timeout=timeout)
            if not connecting.done():
                raise OSError("timed out")
            error = connecting.exception()
            if isinstance(error, OSError) and error.errno:  # in the system's words, not in those of asyncio
                raise OSError(error.errno, os.strerror(error.errno))
            connecting.result()
            return sock
        except BaseException:
            if connecting and not connecting.done():  # it has to let go of the socket first
                connecting.cancel()
                await asyncio.wait({connecting})
            sock.close()
            raise

    async def _serve(self, connection: Connection, sock: socket.socket) -> Closed:
        readable = False
        while True:
            wait = await self._take(take_turn(connection, sock, readable=readable))
            if connection.closed:
                return connection.closed
            readable = await self._wait_for_socket(sock, connection.is_writing, wait)

    async def _wait_for_socket(self, sock: socket.socket, writing: bool, timeout: float) -> bool:
        """Waits for the socket or for work. Whether there is something to read."""
        readable = False

        def handle_readable() -> None:
            nonlocal readable
            readable = True
            self._woken.set()

        self._loop.add_reader(sock, handle_readable)
        if writing:
            self._loop.add_writer(sock, self._woken.set)
        try:
            await self._wait_for_work(timeout)
        finally:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
        return readable

    async def _wait_for_work(self, timeout: float) -> None:
        await self._woken.wait(timeout)
        self._woken.clear()

    async def _take(self, steps: Steps[T]) -> T:
        """Takes steps of the rules, and tells their events in the event loop."""
        while True:
            event, result = await self._call(_next_event, steps, self._on_event is None)
            self._announce()
            if event is None:
                return cast(T, result)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._on_event:
            try:
                self._on_event(*event)
            except Exception:  # a mistake of the application must not stop the exchange
                traceback.print_exc()

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls into the session: in the client's thread if that may wait for the disk."""
        if self._executor is None:
            return function(*args)
        return await self._loop.run_in_executor(self._executor, function, *args)

    def _stop_thread(self) -> None:
        if self._executor:
            self._executor.shutdown(wait=False)
            self._executor = None


def _next_event(steps: Steps[T], nobody_listens: bool) -> tuple[Event | None, Any]:
    """The next event of the steps, or at their end None and their result."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return None, end.value
        if not nobody_listens:
            return event, None


class _Signal:
    """Something to wait for. Unlike asyncio.wait_for with an event it loses no cancellation."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def clear(self) -> None:
        if self._future.done():
            self._future = self._loop.create_future()

    async def wait(self, timeout: float | None) -> None:
        """Returns once it is set, or after `timeout` seconds."""
        await asyncio.wait({self._future}, timeout=timeout)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + max(0.0, timeout)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
