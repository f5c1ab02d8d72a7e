"""A gateway that keeps the rules, but whose connections break at any point."""

from __future__ import annotations

import random
import threading
from typing import Any
from unittest import mock

from pulsegate.frames import (
    Bye,
    Confirm,
    Message,
    Receipt,
    Refuse,
)

from .gateway import PATIENCE, Base, Peer


class RestlessGateway(Base):
    """A gateway that keeps the rules, but whose connections break at any point."""

    def serve(self, chance: random.Random, stored: list[bytes], wanted: int) -> None:
        cursor, token, pending, refused = 0, 1, None, set()  # type: int, int, Any, Any
        while True:
            peer = Peer(self.listener.accept()[0])
            try:
                hello = peer.hello
                if hello.session:
                    assert int.from_bytes(hello.token, "big") in (token, pending), "a token that is not valid"
                    if int.from_bytes(hello.token, "big") == pending:
                        token, pending = pending, None
                    assert hello.acknowledged <= cursor
                    refused = {number for number in refused if number > hello.acknowledged}
                elif cursor:
                    raise AssertionError("the client left its session")
                pending = pending or token + 1
                if chance.random() < 0.2:
                    continue  # WELCOME is lost
                if not hello.session:
                    token = pending = pending or 1
                peer.welcome(
                    session=7,
                    token=pending.to_bytes(16, "big"),
                    committed=cursor,
                    window_messages=16,
                    refused=tuple((number, 3) for number in sorted(refused)),
                )
                received = cursor
                while True:
                    frame = peer.read()
                    if frame is None or (isinstance(frame, Bye) and frame.code == 1):
                        break
                    if isinstance(frame, Bye):
                        assert cursor == wanted
                        return
                    token, pending = pending or token, pending
                    if isinstance(frame, Confirm):
                        refused = {number for number in refused if number > frame.floor}
                    if isinstance(frame, Message):
                        assert frame.number == received + 1, (frame, received)
                        received = frame.number
                        if chance.random() < 0.03:
                            break  # it is lost
                        cursor = frame.number
                        if frame.payload.endswith(b"3"):
                            refused.add(cursor)
                            peer.send(Refuse(cursor, 3, "no threes"))
                        else:
                            stored.append(frame.payload)
                        if chance.random() < 0.03:
                            break  # its receipt is lost
                        peer.send(Receipt(cursor))
            except OSError:
                pass
            finally:
                peer.cut()

    def test_each_message_ends_once_and_as_it_is_told(self) -> None:
        stored: list[bytes] = []
        payloads = [b"%d" % number for number in range(400)]
        with mock.patch("random.uniform", return_value=0.0):
            gateway = threading.Thread(target=self.serve, args=(random.Random(7), stored, len(payloads)), daemon=True)
            gateway.start()
            client = self.client(outbox=self.outbox)
            tickets: list[Any] = []
            for start in range(0, 400, 100):  # and the client is stopped and started, too
                tickets += [client.submit(payload) for payload in payloads[start : start + 100]]
                if start < 300:
                    client.close(done=False)
                    client = self.client(outbox=self.outbox)
            client.close(timeout=PATIENCE)
            gateway.join(PATIENCE)
        self.assertFalse(gateway.is_alive())
        self.assertEqual(stored, [payload for payload in payloads if not payload.endswith(b"3")])
        for payload, ticket in zip(payloads, tickets):
            expected = "not accepted" if payload.endswith(b"3") else "committed"
            self.assertIn(ticket.outcome.kind, (expected, "kept"))
        ends = [event for event in list(self.events.queue) if event[0] in ("committed", "refused", "unknown")]
        self.assertEqual(
            [kind for kind, _ in ends], ["refused" if payload.endswith(b"3") else "committed" for payload in payloads]
        )
