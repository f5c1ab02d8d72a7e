"""The client for asyncio passes the tests of the other one; and what only it has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any
from unittest import mock

from pulsegate.aio import AsyncClient
from pulsegate.frames import Confirm, Message, Receipt

from . import test_messages, test_outbox, test_real_gateway, test_reconnecting, test_restless_gateway, test_sessions
from .gateway import PATIENCE, Base
from .threaded import ThreadedClient


class Sending(test_messages.Sending):
    kind = ThreadedClient


class Receiving(test_messages.Receiving):
    kind = ThreadedClient


class Heartbeats(test_messages.Heartbeats):
    kind = ThreadedClient


class SlowLink(test_messages.SlowLink):
    kind = ThreadedClient


class Promises(test_messages.Promises):
    kind = ThreadedClient


class Sessions(test_sessions.Sessions):
    kind = ThreadedClient


class Document(test_sessions.Document):
    kind = ThreadedClient


class BrokenGateway(test_sessions.BrokenGateway):
    kind = ThreadedClient


class OnDisk(test_outbox.OnDisk):
    kind = ThreadedClient


class DiskIsFull(test_outbox.DiskIsFull):
    kind = ThreadedClient


class NoGateway(test_reconnecting.NoGateway):
    kind = ThreadedClient


class Backoff(test_reconnecting.Backoff):
    kind = ThreadedClient


class RestlessGateway(test_restless_gateway.RestlessGateway):
    kind = ThreadedClient


class RealGateway(test_real_gateway.RealGateway):
    kind = ThreadedClient


class OnlyAsyncio(Base):
    kind = ThreadedClient

    def later(self, client: ThreadedClient, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, client._loop)

    def test_what_a_cancelled_receive_has_taken_goes_to_the_next(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        begun, go_on = threading.Event(), threading.Event()
        take = client._session.take

        def slow_take(now: float) -> Any:
            begun.set()
            go_on.wait(PATIENCE)
            return take(now)

        with mock.patch.object(client._session, "take", slow_take):
            peer.send(Message(1, b"one"), Message(2, b"two"))
            self.inbox_of(client)
            first = self.later(client, client._client.receive())
            self.assertTrue(begun.wait(PATIENCE))  # so it can't be taken back
            first.cancel()
            second = self.later(client, client._client.receive())
            go_on.set()
            self.assertEqual(second.result(PATIENCE), Message(1, b"one"))
            self.assertEqual(client.receive(PATIENCE), Message(2, b"two"))
        peer.expect_in_any_order(Receipt(1), Receipt(2))

    def test_a_cancelled_send_goes_on(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        sending = self.later(client, client._client.send(b"x"))
        peer.expect(Message(1, b"x"))
        sending.cancel()
        peer.send(Receipt(1))
        peer.expect(Confirm(1))

    def test_the_event_loop_does_not_wait_for_the_disk(self) -> None:
        client = self.client(outbox=self.outbox)
        loop_ran = threading.Event()
        append = client._session.outbox.append

        def slow_append(*arguments: Any) -> None:
            client._loop.call_soon_threadsafe(loop_ran.set)
            self.assertTrue(loop_ran.wait(PATIENCE))
            append(*arguments)

        with mock.patch.object(client._session.outbox, "append", slow_append):
            client.submit(b"x")
        self.assertTrue(loop_ran.is_set())

    def test_a_program_that_ends_without_close_says_what_has_not_ended(self) -> None:
        async def program() -> None:
            client = AsyncClient("127.0.0.1", self.port, "tester", outbox=self.outbox)
            await client.start()
            tickets.append(await client.submit(b"x"))

        tickets: list[Any] = []
        with self.assertLogs("pulsegate", "WARNING") as logs:
            asyncio.run(program())
        self.assertIn("ends without close(): 1 message that has not ended is kept in the outbox", logs.output[0])
        self.assertEqual(tickets[0].outcome.kind, "kept")
        client = self.make("127.0.0.1", self.port, "tester", outbox=self.outbox)  # which is not locked any more
        self.assertEqual(len(client.restored), 1)

    def test_it_has_to_be_started_once(self) -> None:
        async def program() -> None:
            client = AsyncClient("127.0.0.1", self.port, "tester")
            with self.assertRaisesRegex(RuntimeError, "async with"):
                await client.send(b"x")
            async with client:
                with self.assertRaisesRegex(RuntimeError, "started before"):
                    await client.start()
                raise KeyError

        with self.assertRaises(KeyError):
            asyncio.run(program())

    def test_an_end_while_it_connects(self) -> None:
        async def program() -> None:
            client = AsyncClient("127.0.0.1", hole.getsockname()[1], "tester")
            await client.start()
            await asyncio.sleep(0.05)

        with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, contextlib.ExitStack() as callers:
            for _ in range(4):  # its queue is full, so nothing answers who connects now
                caller = callers.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(hole.getsockname())
            asyncio.run(program())
