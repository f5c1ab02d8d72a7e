"""Sessions: resumed, lost, given up; and gateways that break the rules."""

from __future__ import annotations

import re
import socket
import time
from typing import Any
from unittest import mock

from pulsegate import Ended
from pulsegate.frames import (
    Beat,
    Bye,
    Confirm,
    Message,
    Notice,
    Receipt,
    encode,
)

from .gateway import FOLDER, NEXT_TOKEN, PATIENCE, TOKEN, Base, Peer, vector, vectors


class Sessions(Base):
    def test_lost_welcome_and_newest_token(self) -> None:
        self.client()
        self.accept().cut()  # HELLO came, WELCOME is lost
        peer = self.accept()
        self.assertEqual(peer.hello.session, 0)
        peer.welcome()
        self.event("new session")
        peer.cut()
        for _ in range(2):  # and lost again, twice, on a resume
            peer = self.accept()
            self.assertEqual((peer.hello.session, peer.hello.token), (7, TOKEN))
            peer.cut()
        peer = self.accept()
        peer.welcome(token=NEXT_TOKEN)
        self.event("resumed")
        peer.cut()
        self.assertEqual(self.accept().hello.token, NEXT_TOKEN)

    def test_a_new_session_is_heard_of_before_a_message_has_a_number(self) -> None:
        # A gateway forgets a session of which it has heard nothing (5.4): what has a number there would be unknown.
        tickets: list[Any] = []
        beats: list[Any] = []

        def watch(frame: Any) -> bytes:
            beats.extend(ticket.number for ticket in tickets if frame == Beat(0))
            return encode(frame)

        with mock.patch("pulsegate.connection.encode", side_effect=watch):
            client = self.client(outbox=self.outbox)
            tickets.append(client.submit(b"one"))
            peer = self.accept()
            peer.welcome()
            self.assertEqual([peer.read(), peer.read()], [Beat(0), Message(1, b"one")])
        self.assertEqual(beats, [None])
        peer.cut()
        peer = self.accept()
        peer.welcome()
        self.assertEqual(peer.read(), Message(1, b"one"))

    def test_bad_token_begins_a_new_session(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        ticket = client.submit(b"x")
        peer.expect(Message(1, b"x"))
        peer.cut()
        peer = self.accept()
        peer.send(Bye(50, 0, 0, 0, "the token is not this session's"))
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (0, bytes(16), 0))
        self.assertEqual(self.kind_of(ticket), "unknown")
        peer.send(Bye(50, 0, 0, 0, "no"))  # a gateway that says so again means it
        self.assertEqual(self.end_of(client).code, 50)

    def test_lost_messages_and_other_disagreements(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        for _number in (1, 2, 3):
            client.submit(b"x")
        peer.expect(*(Message(number, b"x") for number in (1, 2, 3)))
        peer.send(Receipt(3))
        peer.expect(Confirm(3))
        peer.cut()
        peer = self.accept()  # the gateway has lost 2 and 3, and has sent up to 5 before
        peer.welcome(committed=3, lost_from=2, lost_to=3, acknowledged=5)
        self.assertEqual(self.event("lost incoming"), (1, 5))
        self.assertEqual(self.event("lost"), (2, 3))
        peer.send(Message(6, b"go on"))
        self.assertEqual(client.receive(PATIENCE), Message(6, b"go on"))
        client.submit(b"y")
        frames = [peer.read(), peer.read()]
        self.assertIn(Receipt(6), frames)
        self.assertIn(Message(4, b"y"), frames)
        peer.cut()
        peer = self.accept()  # the client is older than what it has sent
        peer.welcome(committed=9)
        peer.goodbye(1)
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.committed), (0, 0))

    def test_bye_with_delay_and_bye_for_good(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        peer.send(Notice(2, 100, "draining"), Bye(70, 2, 300, 0, "the gateway is draining"))
        said = time.monotonic()
        self.assertEqual(self.event("notice").code, 2)
        peer = self.accept()
        self.assertGreaterEqual(time.monotonic() - said, 0.3)
        ticket = client.submit(b"x")
        peer.welcome()
        peer.expect(Message(1, b"x"))
        peer.send(Bye(31, 0, 0, 0, "this gateway speaks version 1"))
        closed = self.end_of(client)
        self.assertEqual((closed.code, closed.retry, closed.text), (31, 0, "this gateway speaks version 1"))
        self.assertEqual(self.kind_of(ticket), "unknown")
        with self.assertRaises(Ended):
            client.receive()

    def test_receipt_just_before_bye_counts(self) -> None:
        client = self.client(reconnect=False)
        ticket = client.submit(b"x")
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1), Bye(12, 1, 0, 1, ""))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual(self.end_of(client).code, 12)

    def test_close_waits_for_no_session_that_nobody_has(self) -> None:
        client = self.client()
        peer = self.accept()
        self.closing(client)
        peer.goodbye()

    def test_close_without_gateway(self) -> None:
        self.listener.close()
        client = self.client()
        sent = client.submit(b"x")
        client.close(timeout=0.2)
        self.assertEqual(self.kind_of(sent), "not accepted")

    def test_ipv6(self) -> None:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            self.skipTest("no IPv6")
        with listener:
            listener.settimeout(PATIENCE)
            client = self.make("::1", listener.getsockname()[1], "tester")
            peer = Peer(listener.accept()[0])
            peer.welcome()
            self.closing(client)
            peer.goodbye()


class Document(Base):
    def steps(self) -> list[Any]:
        """What each side says in the conversation of PROTOCOL.md: who, words, bytes."""
        text = (FOLDER.parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
        section = text.partition("\n## 11. A conversation\n")[2].partition("\n## 12. ")[0]
        steps: list[Any] = []
        for line in section.splitlines():
            found = re.fullmatch("    ([CG])  (.*)", line)
            if found:
                steps.append((found[1], found[2], bytearray()))
            elif re.fullmatch("       [0-9a-f]+", line):
                steps[-1][2].extend(bytes.fromhex(line.strip()))
        return steps

    def play(self, steps: list[Any]) -> socket.socket:
        """The gateway's side of one connection: what the client says has to be what stands there."""
        sock = self.listener.accept()[0]
        self.addCleanup(sock.close)
        sock.settimeout(PATIENCE)
        for who, words, data in steps:
            if who == "G":
                sock.sendall(data if "lost" not in words else b"")
                continue
            came = b""
            while len(came) < len(data):
                came += sock.recv(len(data) - len(came))
            self.assertEqual(came, data, words)
        return sock

    def test_the_conversation_is_one_that_this_client_has(self) -> None:
        steps = self.steps()
        self.assertGreater(len(steps), 12)
        again = [words for _, words, _ in steps].index("preface", 1)
        client = self.make(
            "127.0.0.1", self.port, "sensor-7", window_messages=64, window_bytes=131_072, message_max=65_536
        )
        tickets = [client.submit(payload) for payload in (b"one", b"two", b"three")]
        self.play(steps[:again]).close()
        ends = [ticket.wait(0.05) if ticket.outcome is None else ticket.outcome for ticket in tickets[1:]]
        self.assertEqual(ends, [None, None])
        self.closing(client)
        sock = self.play(steps[again:])
        self.assertEqual(sock.recv(1), b"")
        sock.close()
        self.assertEqual([self.kind_of(ticket) for ticket in tickets], ["committed", "not accepted", "committed"])
        self.assertEqual(self.end_of(client).code, 0)


class BrokenGateway(Base):
    def check(self, data: bytes, code: int, welcomed: bool = True, **options: Any) -> None:
        client = self.client(**options)
        peer = self.accept()
        if welcomed:
            peer.welcome()
        peer.sock.sendall(data)
        peer.goodbye(code)
        closed = self.end_of(client)
        self.assertEqual((closed.code, closed.retry), (code, 0))
        self.assertIn("broke the protocol", closed.text)

    def test_vectors_that_must_be_refused(self) -> None:
        for name, lines in vectors().items():
            if lines.get("state", "preface") == "preface" or lines.get("to") == "gateway" or "end" in lines:
                continue
            with self.subTest(name):
                self.check(
                    vector(name),
                    int(lines["code"]),
                    lines["state"] == "attached",
                    window_messages=2,
                    window_bytes=1000,
                    message_max=1000,
                )

    def test_resumed_what_never_was(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(outcome=1)
        peer.goodbye(35)
        self.assertEqual(self.end_of(client).code, 35)

    def test_a_session_that_is_answered_wrongly_is_given_up_once(self) -> None:
        for code, fields in ((32, {"committed": 0}), (35, {"session": 8})):
            client = self.client()
            peer = self.accept()
            peer.welcome()
            ticket = client.submit(b"x")
            peer.expect(Message(1, b"x"))
            peer.send(Receipt(1))
            peer.expect(Confirm(1))
            self.assertEqual(self.kind_of(ticket), "committed")
            peer.cut()
            peer = self.accept()
            peer.welcome(**fields)
            peer.goodbye(code)
            peer = self.accept()
            self.assertEqual((peer.hello.session, peer.hello.acknowledged), (0, 0))
            peer.welcome(outcome=1)
            peer.goodbye(35)
            self.assertEqual(self.end_of(client).code, 35)

    def test_half_a_frame_and_early_close_come_again(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome()
        self.assertEqual(peer.read(), Beat(0))  # else the cut is a reset
        peer.sock.sendall(bytes.fromhex("0400"))
        peer.cut()
        self.assertEqual(self.event("disconnected").code, 40)
        self.accept().cut()
        self.assertIn(self.event("disconnected").code, (90, 93))
        self.accept()

    def test_backoff_grows(self) -> None:
        self.client()
        waits = []
        for _ in range(4):
            self.accept().cut()
            waits.append(self.event("reconnecting"))
        for i, wait in enumerate(waits):
            self.assertLessEqual(wait, 0.1 * 2 ** (i + 1))
