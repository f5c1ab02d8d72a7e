"""Tests of pulsegate.py: `python3 -m unittest`, in this directory, with nothing else running.

The gateway is a script inside each test, on a real socket of the loopback interface. The class RealGateway runs
against a real one if PULSEGATE_BINARY names it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import queue
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Dict, List, Optional
from unittest import mock

import pulsegate
from pulsegate import (Beat, Bye, Client, Confirm, Ended, FrameReader, Full, Hello, Message, Notice, OutboxError,
                       ProtocolError, Receipt, Refuse, Welcome, encode)

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent.parent / "protocol-vectors.txt"
PATIENCE = 60.0   # seconds: it bounds every wait, and nothing is judged by it
logging.getLogger("pulsegate").propagate = False   # what it says is looked at where it matters
logging.getLogger("pulsegate").addHandler(logging.NullHandler())
TOKEN, NEXT_TOKEN = b"\xab" * 16, b"\xcd" * 16


def vectors() -> Dict[str, Dict[str, str]]:
    """Each vector's lines by its name: those with a "frame" are to be understood, those with a "state" refused."""
    found: Dict[str, Dict[str, str]] = {}
    for line in VECTORS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found[line[1:-1]] = lines = {}
        elif line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            lines[key] = value
    return found


def vector(name: str) -> bytes:
    return bytes.fromhex(vectors()[name]["bytes"])


def fields(frame: Any) -> Dict[str, str]:
    """A frame as the vectors have it, without its bytes."""
    written = {"frame": type(frame).__name__.upper()}
    for name, value in vars(frame).items():
        if isinstance(value, str):
            value = f'"{value}"'
        elif isinstance(value, bytes):
            value = value.hex() or "-"
        elif isinstance(value, tuple):
            value = " ".join(f"{number}:{code}" for number, code in value) or "-"
        written["in" if name == "within" else name] = str(value)
    return written


class Codec(unittest.TestCase):
    def read(self, data: bytes, **options: Any) -> Any:
        reader = FrameReader(1000, **options)
        reader.feed(data)
        return reader.next()

    def test_vectors_say_what_their_fields_are(self) -> None:
        understood = {name: lines for name, lines in vectors().items() if "frame" in lines}
        self.assertGreaterEqual(len(understood), 25)
        for name, lines in understood.items():
            data = bytes.fromhex(lines.pop("bytes"))
            with self.subTest(name):
                if lines["frame"] == "preface":
                    self.assertEqual(pulsegate.PREFACE, data)
                elif lines["frame"] == "skipped":
                    self.assertIsNone(self.read(data, opened=True))
                else:
                    frame = self.read(data, opened=True)
                    self.assertEqual(fields(frame), lines)
                    self.assertEqual(encode(frame), data)

    def test_vectors_byte_by_byte_in_one_stream(self) -> None:
        stream = b"".join(vector(name) for name, lines in vectors().items()
                          if lines.get("frame", "preface") not in ("preface", "skipped"))
        reader, again = FrameReader(1000, opened=True), b""
        for byte in stream:
            reader.feed(bytes([byte]))
            frame = reader.next()
            again += encode(frame) if frame else b""
        self.assertEqual(again, stream)
        self.assertFalse(reader.inside)

    def test_vectors_that_must_be_refused(self) -> None:
        """Those of which a frame alone shows what is wrong; BrokenGateway has the others."""
        for name, lines in vectors().items():
            code = int(lines["code"]) if lines.get("state", "preface") != "preface" else 0
            if code in (32, 33, 34, 39):
                with self.subTest(name), self.assertRaises(ProtocolError) as caught:
                    self.read(vector(name), opened=lines["state"] == "attached")
                self.assertEqual(pulsegate.CODES[caught.exception.reason][0], code, name)

    def test_what_is_wrong_is_named(self) -> None:
        for reason, data in [
                ("unknown frame", "0a000000"), ("unknown frame", "00000000"), ("unknown frame", "7fffffff"),
                ("frame too large", "03000401"), ("frame too large", "80000401"), ("frame too large", "04000401"),
                ("frame too large", "09ffffff"), ("malformed frame", "03000002"), ("malformed frame", "03000000"),
                ("malformed frame", "04000007"), ("malformed frame", "0300000103"), ("malformed frame", "09000211"),
                ("malformed frame", "09000010" + "0000" + "03" + "00" * 13),
                ("malformed frame", "09000010" + "0000" + "0001" + "00" * 12),
                ("malformed frame", "0600000b" + "00" * 10 + "ff"), ("malformed frame", "0400000800" + "00" * 7),
                ("text is not utf-8", "0600000b" + "00" * 7 + "01" + "0001" + "ff")]:
            with self.subTest(data), self.assertRaises(ProtocolError) as caught:
                self.read(bytes.fromhex(data))
            self.assertEqual(caught.exception.reason, reason)

    def test_unknown_high_types_are_skipped(self) -> None:
        self.assertEqual(self.read(bytes.fromhex("ff000003aabbcc" "0300000102")), Beat(2))

    def test_the_limit_rises_with_welcome(self) -> None:
        data = encode(Message(1, bytes(1000)))
        self.assertEqual(self.read(data, opened=True), Message(1, bytes(1000)))
        with self.assertRaises(ProtocolError):
            self.read(encode(Message(1, bytes(1020))))
        with self.assertRaises(ProtocolError):
            self.read(encode(Message(1, bytes(1001))), opened=True)

    def test_a_large_message_proves_life_as_it_comes(self) -> None:
        reader = FrameReader(5000, opened=True)
        data = encode(Message(1, bytes(4096 - 8)))
        seen = []
        for start in range(0, len(data), 1000):
            reader.feed(data[start:start + 1000])
            reader.next()
            seen.append(reader.proofs)
        self.assertEqual(seen, [0, 1, 2, 3, 4])


class Peer:
    """The gateway's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.reader = FrameReader(1 << 20)
        preface = b""
        while len(preface) < 8:
            data = sock.recv(8 - len(preface))
            assert data, "the client has ended before its preface"
            preface += data
        assert preface == pulsegate.PREFACE
        self.hello = self.read()
        assert isinstance(self.hello, Hello), self.hello
        self.reader.opened = True

    def read(self) -> Any:
        """The next frame, or None at the end of the stream."""
        while True:
            frame = self.reader.next()
            if frame is not None:
                return frame
            data = self.sock.recv(65536)
            if not data:
                return None
            self.reader.feed(data)

    def expect(self, *frames: Any) -> None:
        """These frames come next; in between may come beats, and confirmations of less, as the clock says."""
        until = time.perf_counter() + PATIENCE
        for frame in frames:
            came = self.read()
            while came == Beat(0) or (isinstance(came, Confirm) and came not in frames):
                assert time.perf_counter() < until, f"{frame} never came"
                came = self.read()
            assert came == frame, f"{came} came, not {frame}"

    def expect_in_any_order(self, *frames: Any) -> None:
        """These frames come next; beats may come in between."""
        left = list(frames)
        while left:
            came = self.read()
            if came != Beat(0):
                assert came in left, f"{came} came, none of {left}"
                left.remove(came)

    def send(self, *frames: Any) -> None:
        self.sock.sendall(b"".join(encode(frame) for frame in frames))

    def welcome(self, **fields: Any) -> None:
        values = dict(outcome=1 if self.hello.session else 0, lifetime=2, durability=2, beat_interval=60_000,
                      beat_timeout=600_000, remaining=60000, session_ttl=60000, window_messages=100,
                      window_bytes=1 << 20, message_max=1 << 20, server_time=0, session=self.hello.session or 7,
                      token=TOKEN, committed=self.hello.acknowledged, acknowledged=self.hello.committed,
                      lost_from=0, lost_to=0)
        values.update(fields)
        self.send(Welcome(**values))

    def quiet(self, seconds: float) -> bool:
        """Whether nothing comes for a while."""
        self.sock.settimeout(seconds)
        try:
            frame = self.read()
            raise AssertionError(f"{frame} came")
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(PATIENCE)

    def cut(self) -> None:
        self.sock.close()

    def cut_politely(self) -> None:
        """Ends the stream without an error: what has come is read before."""
        self.sock.shutdown(socket.SHUT_WR)
        while self.sock.recv(65536):
            pass
        self.sock.close()

    def goodbye(self, code: int = 0) -> None:
        """The client's BYE comes, then its end of stream."""
        frame = self.read()
        while frame == Beat(0):
            frame = self.read()
        assert isinstance(frame, Bye) and frame.code == code and frame.retry == 0, frame
        assert self.read() is None
        self.cut()


class Base(unittest.TestCase):
    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.addCleanup(lambda: self.listener.close())
        self.port = self.listener.getsockname()[1]
        self.events: "queue.Queue[Any]" = queue.Queue()
        self.peers: List[Peer] = []
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.outbox = os.path.join(directory.name, "outbox.db")

    def client(self, **options: Any) -> Client:
        client = Client("127.0.0.1", self.port, "tester", on_event=lambda *event: self.events.put(event), **options)
        self.addCleanup(client.close, done=False)
        return client

    def accept(self) -> Peer:
        peer = Peer(self.listener.accept()[0])
        self.addCleanup(peer.cut)
        self.peers.append(peer)
        return peer

    def forget(self) -> None:
        """Closes what is left of a client that was killed: a connection, the beginning of one, or none."""
        self.listener.setblocking(False)
        try:
            while True:
                self.listener.accept()[0].close()
        except BlockingIOError:
            self.listener.settimeout(PATIENCE)

    def event(self, wanted: str) -> Any:
        """The detail of the next event of that kind."""
        deadline = time.monotonic() + PATIENCE
        while True:
            kind, detail = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if kind == wanted:
                return detail

    def closing(self, client: Client, **options: Any) -> threading.Thread:
        thread = threading.Thread(target=client.close, kwargs=options)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def inbox_of(self, client: Client) -> None:
        """Waits until something has come, and takes nothing."""
        with client._lock:
            self.assertTrue(client._lock.wait_for(lambda: client._inbox, PATIENCE))

    def kind_of(self, ticket: Any) -> str:
        outcome = ticket.wait(PATIENCE)
        self.assertIsNotNone(outcome)
        return str(outcome.kind)

    def end_of(self, client: Client) -> Any:
        deadline = time.monotonic() + PATIENCE
        while client.closed is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertIsNotNone(client.closed)
        return client.closed


class Sending(Base):
    def test_three_legs_and_goodbye(self) -> None:
        client = self.client()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.id), (0, bytes(16), "tester"))
        peer.welcome()
        ticket = client.send_nowait(b"one")
        peer.expect(Message(1, b"one"))
        self.assertIsNone(ticket.wait(0.05))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual(ticket.number, 1)
        self.closing(client)
        peer.goodbye()
        self.assertEqual(self.end_of(client).code, 0)
        with self.assertRaises(Ended):
            client.send_nowait(b"late")

    def test_send_blocks_until_committed_and_close_waits(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        outcomes: List[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(client.send(b"x")))
        thread.start()
        peer.expect(Message(1, b"x"))
        self.closing(client)
        self.assertTrue(peer.quiet(0.1))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))   # before BYE 0 (7.4)
        peer.goodbye()
        thread.join()
        self.assertEqual(outcomes[0].kind, "committed")

    def test_eight_settled_are_confirmed_at_once(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        for number in range(1, 10):
            client.send_nowait(b"")
        peer.expect(*(Message(number, b"") for number in range(1, 10)))
        peer.send(Receipt(8))
        peer.expect(Confirm(8))
        peer.send(Receipt(9))
        peer.expect(Confirm(9))

    def test_resume_after_cut_with_the_same_numbers(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        tickets = [client.send_nowait(text) for text in (b"a", b"b", b"c")]
        peer.expect(Message(1, b"a"), Message(2, b"b"), Message(3, b"c"))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        peer.cut()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (7, TOKEN, 1))
        peer.welcome(committed=2, token=NEXT_TOKEN)   # settles 2
        peer.expect_in_any_order(Message(3, b"c"), Confirm(2))
        self.assertEqual(self.kind_of(tickets[1]), "committed")
        self.assertIsNone(tickets[2].outcome)
        peer.send(Receipt(3))
        self.assertEqual(self.kind_of(tickets[2]), "committed")
        self.assertEqual([ticket.number for ticket in tickets], [1, 2, 3])

    def test_refusal_and_refusal_in_welcome(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        tickets = [client.send_nowait(b"x") for _ in range(3)]
        peer.expect(*(Message(number, b"x") for number in (1, 2, 3)))
        peer.send(Refuse(1, 2, "too much"))
        self.assertIsNone(tickets[0].wait(0.05))   # only the RECEIPT settles it (7.3)
        peer.send(Receipt(1))
        self.assertEqual(tickets[0].wait(PATIENCE), pulsegate.Outcome("not accepted", 2, "too much"))
        peer.cut()
        peer = self.accept()
        peer.welcome(committed=3, refused=((1, 2), (3, 3)))
        self.assertEqual(self.kind_of(tickets[1]), "committed")
        self.assertEqual(tickets[2].wait(PATIENCE), pulsegate.Outcome("not accepted", 3, "not wanted"))
        peer.expect(Confirm(3))

    def test_unknown_after_outcome_0_and_the_unsent_go_on(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=1)
        sent, waiting = client.send_nowait(b"sent"), client.send_nowait(b"waiting")
        peer.expect(Message(1, b"sent"))
        peer.cut()
        peer = self.accept()
        peer.welcome(outcome=0, session=8, token=NEXT_TOKEN, committed=0)
        self.assertEqual(self.kind_of(sent), "unknown")
        peer.expect(Message(1, b"waiting"))
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(waiting), "committed")
        peer.cut()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (8, NEXT_TOKEN, 1))

    def test_the_window_is_obeyed(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=2, window_bytes=10, message_max=10)
        for payload in (b"1", b"2", b"123456789", b"12"):
            client.send_nowait(payload)
        peer.expect(Message(1, b"1"), Message(2, b"2"))
        self.assertTrue(peer.quiet(0.1))
        peer.send(Receipt(1))
        peer.expect(Message(3, b"123456789"))
        peer.send(Receipt(2))
        peer.expect(Confirm(2))
        self.assertTrue(peer.quiet(0.1))   # by bytes
        peer.send(Receipt(3))
        peer.expect(Message(4, b"12"))

    def test_too_long_for_the_gateway(self) -> None:
        client = self.client()
        long, short = client.send_nowait(b"12345"), client.send_nowait(b"1234")
        peer = self.accept()
        peer.welcome(message_max=4)
        peer.expect(Message(1, b"1234"))
        self.assertEqual(self.kind_of(long), "not accepted")
        with self.assertRaises(ValueError):
            client.send_nowait(b"12345")
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(short), "committed")

    def test_full(self) -> None:
        client = self.client(outbox_bytes_max=1000)
        first = client.send_nowait(bytes(500))
        with self.assertRaises(Full):
            client.send_nowait(bytes(10))
        with self.assertRaises(ValueError):
            client.send_nowait(bytes(1000))
        peer = self.accept()
        peer.welcome()
        peer.read()
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(first), "committed")
        client.send_nowait(bytes(10))


class Sessions(Base):
    def test_lost_welcome_and_newest_token(self) -> None:
        self.client()
        self.accept().cut()                        # HELLO came, WELCOME is lost
        peer = self.accept()
        self.assertEqual(peer.hello.session, 0)
        peer.welcome()
        self.event("new session")
        peer.cut()
        for _ in range(2):                         # and lost again, twice, on a resume
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
        tickets: List[Any] = []
        beats: List[Any] = []

        def watch(frame: Any) -> bytes:
            beats.extend(ticket.number for ticket in tickets if frame == Beat(0))
            return encode(frame)

        with mock.patch("pulsegate.encode", side_effect=watch):
            client = self.client(outbox=self.outbox)
            tickets.append(client.send_nowait(b"one"))
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
        ticket = client.send_nowait(b"x")
        peer.expect(Message(1, b"x"))
        peer.cut()
        peer = self.accept()
        peer.send(Bye(50, 0, 0, 0, "the token is not this session's"))
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (0, bytes(16), 0))
        self.assertEqual(self.kind_of(ticket), "unknown")
        peer.send(Bye(50, 0, 0, 0, "no"))          # a gateway that says so again means it
        self.assertEqual(self.end_of(client).code, 50)

    def test_lost_messages_and_other_disagreements(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        for number in (1, 2, 3):
            client.send_nowait(b"x")
        peer.expect(*(Message(number, b"x") for number in (1, 2, 3)))
        peer.send(Receipt(3))
        peer.expect(Confirm(3))
        peer.cut()
        peer = self.accept()                       # the gateway has lost 2 and 3, and has sent up to 5 before
        peer.welcome(committed=3, lost_from=2, lost_to=3, acknowledged=5)
        self.assertEqual(self.event("lost incoming"), (1, 5))
        self.assertEqual(self.event("lost"), (2, 3))
        peer.send(Message(6, b"go on"))
        self.assertEqual(client.receive(PATIENCE), Message(6, b"go on"))
        client.send_nowait(b"y")
        frames = [peer.read(), peer.read()]
        self.assertIn(Receipt(6), frames)
        self.assertIn(Message(4, b"y"), frames)
        peer.cut()
        peer = self.accept()                       # the client is older than what it has sent
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
        ticket = client.send_nowait(b"x")
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
        ticket = client.send_nowait(b"x")
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1), Bye(12, 1, 0, 1, ""))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual(self.end_of(client).code, 12)

    def test_close_without_gateway(self) -> None:
        self.listener.close()
        client = self.client()
        sent = client.send_nowait(b"x")
        client.close(timeout=0.2)
        self.assertEqual(self.kind_of(sent), "not accepted")

    def test_ipv6(self) -> None:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            self.skipTest("no IPv6")
        with listener:
            listener.settimeout(PATIENCE)
            client = Client("::1", listener.getsockname()[1], "tester")
            peer = Peer(listener.accept()[0])
            peer.welcome()
            self.closing(client)
            peer.goodbye()


class Heartbeats(Base):
    def test_question_is_answered_before_what_waits(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=1)
        client.send_nowait(b"a")
        client.send_nowait(b"b")
        peer.expect(Message(1, b"a"))
        peer.send(Beat(1), Receipt(1))
        peer.expect(Beat(2))
        peer.expect_in_any_order(Message(2, b"b"), Confirm(1))

    def test_beats_come_in_time(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=100, beat_timeout=10000)
        self.assertEqual(peer.read(), Beat(0))     # at once, because the session is new
        times = [time.monotonic()]
        for _ in range(8):
            self.assertEqual(peer.read(), Beat(0))
            times.append(time.monotonic())
        gaps = [later - earlier for earlier, later in zip(times, times[1:])]
        self.assertLess(min(gaps), 0.1)            # a machine that is busy may make others longer
        self.assertGreater(times[-1] - times[0], 8 * 0.03)

    def test_silent_gateway_is_asked_once_and_given_up(self) -> None:
        clock, ahead = time.monotonic, 0.0   # silence passes when this test says so, however busy the machine is
        patch = mock.patch("pulsegate.time.monotonic", lambda: clock() + ahead)
        patch.start()
        self.addCleanup(patch.stop)
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=400, beat_timeout=600_000)
        for answers in ((), (Beat(2),)):   # an answer ends the silence, and it begins anew
            peer.send(*answers, Beat(1))
            peer.expect(Beat(2))   # so all that was sent has been heard
            ahead += 601
            peer.expect(Beat(1))
        ahead += 601
        peer.expect(None)
        self.assertEqual(self.event("disconnected").code, 92)

    def test_zero_intervals_do_not_spin(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=0, beat_timeout=0)
        before, until, count = time.process_time(), time.monotonic() + 0.3, 0
        peer.sock.settimeout(0.3)
        while time.monotonic() < until and peer.sock.recv(100):
            count += 1
            peer.send(Beat(2))
        self.assertLess(count, 100)
        self.assertLess(time.process_time() - before, 0.25)


class Receiving(Base):
    def test_messages_are_receipted_when_taken(self) -> None:
        client = self.client(window_messages=3)
        peer = self.accept()
        self.assertEqual(peer.hello.window_messages, 3)
        peer.welcome()
        self.assertEqual(peer.read(), Beat(0))
        peer.send(Message(1, b"a"), Message(2, b"b"))
        self.assertTrue(peer.quiet(0.1))
        self.assertEqual(client.receive(PATIENCE), Message(1, b"a"))
        peer.expect(Receipt(1))
        peer.cut()                                 # 2 has come, but is not taken
        peer = self.accept()
        self.assertEqual(peer.hello.committed, 1)
        peer.welcome()
        self.assertIsNone(client.receive(0.05))
        peer.send(Confirm(1), Message(2, b"b"))
        self.assertEqual(client.receive(PATIENCE), Message(2, b"b"))
        peer.expect(Receipt(2))

    def test_messages_taken_without_a_connection(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        peer.send(Message(1, b"a"), Message(2, b"b"), Bye(70, 2, 300, 0, ""))
        self.event("reconnecting")
        self.assertEqual([next(client.messages()).payload for _ in range(2)], [b"a", b"b"])
        self.assertEqual(self.accept().hello.committed, 2)

    def test_a_window_that_is_not_obeyed(self) -> None:
        client = self.client(window_messages=2)
        peer = self.accept()
        peer.welcome()
        peer.send(*(Message(number, b"") for number in (1, 2, 3)))
        peer.goodbye(38)
        self.assertEqual(self.end_of(client).code, 38)


class Document(Base):
    def steps(self) -> List[Any]:
        """What each side says in the conversation of PROTOCOL.md: who, words, bytes."""
        text = (HERE.parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
        section = text.partition("\n## 11. A conversation\n")[2].partition("\n## 12. ")[0]
        steps: List[Any] = []
        for line in section.splitlines():
            found = re.fullmatch("    ([CG])  (.*)", line)
            if found:
                steps.append((found[1], found[2], bytearray()))
            elif re.fullmatch("       [0-9a-f]+", line):
                steps[-1][2].extend(bytes.fromhex(line.strip()))
        return steps

    def play(self, steps: List[Any]) -> socket.socket:
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
        client = Client("127.0.0.1", self.port, "sensor-7", window_messages=64, window_bytes=131_072,
                        message_max=65_536)
        self.addCleanup(client.close, done=False)
        tickets = [client.send_nowait(payload) for payload in (b"one", b"two", b"three")]
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
                self.check(vector(name), int(lines["code"]), lines["state"] == "attached", window_messages=2,
                           window_bytes=1000, message_max=1000)

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
            ticket = client.send_nowait(b"x")
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
        self.assertEqual(peer.read(), Beat(0))     # else the cut is a reset
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


class OnDisk(Base):
    def test_restart_goes_on_where_it_was(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome(window_messages=2)
        tickets = [client.send_nowait(payload) for payload in (b"a", b"b", b"c")]
        peer.expect(Message(1, b"a"), Message(2, b"b"))
        peer.send(Receipt(1), Message(1, b"in"))
        self.assertEqual(client.receive(PATIENCE), Message(1, b"in"))
        tickets[0].wait(PATIENCE)
        with self.assertRaisesRegex(OutboxError, "another client has it open"):   # two would use one number twice
            Client("127.0.0.1", self.port, "tester", outbox=self.outbox)
        client.close(done=False)
        self.assertEqual(self.kind_of(tickets[1]), "kept")
        with self.assertRaisesRegex(OutboxError, "belongs to the client 'tester'"):
            Client("127.0.0.1", self.port, "another", outbox=self.outbox)
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged, peer.hello.committed),
                         (7, TOKEN, 1, 1))
        peer.welcome()
        peer.expect(Message(2, b"b"), Message(3, b"c"))
        peer.send(Receipt(3))
        self.assertEqual([self.kind_of(ticket) for ticket in client.restored], ["committed"] * 2)

    def told(self, **options: Any) -> Any:
        """What a client's HELLO says of the longest message, and of the window's bytes; then that client is gone."""
        client = self.client(outbox=self.outbox, **options)
        peer = self.accept()
        peer.welcome()
        self.event("resumed" if peer.hello.session else "new session")
        client.close(done=False)
        return peer.hello.message_max, peer.hello.window_bytes

    def test_message_max_never_becomes_less_within_a_session(self) -> None:
        client = self.client(outbox=self.outbox, message_max=5000, window_bytes=5000)
        peer = self.accept()
        peer.welcome()
        peer.send(Message(1, bytes(5000)))
        self.inbox_of(client)
        client.close(done=False)
        client = self.client(outbox=self.outbox, message_max=1000, window_bytes=1000)
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.message_max, peer.hello.window_bytes), (7, 5000, 5000))
        peer.welcome()
        peer.send(Message(1, bytes(5000)))
        self.assertEqual(client.receive(PATIENCE), Message(1, bytes(5000)))
        client.close(done=False)
        self.assertEqual(self.told(message_max=9000, window_bytes=9000), (9000, 9000))
        self.assertEqual(self.told(message_max=1000), (9000, 1 << 20))   # also what it said later
        client = self.client(outbox=self.outbox, message_max=1000, window_bytes=1000)
        peer = self.accept()
        peer.welcome(outcome=0, session=8, committed=0, acknowledged=0)   # that HELLO begins a new session
        self.event("new session")
        client.close(done=False)
        self.assertEqual(self.told(message_max=1000), (9000, 1 << 20))

    def test_a_new_session_was_told_nothing_yet(self) -> None:
        self.assertEqual(self.told(message_max=5000, window_bytes=5000), (5000, 5000))
        client = self.client(outbox=self.outbox, message_max=1000, window_bytes=1000)
        self.accept().send(Bye(pulsegate.BAD_TOKEN, 0, 0, 0, "bad token"))
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.message_max, peer.hello.window_bytes), (0, 1000, 1000))
        client.close(done=False)

    def test_the_limit_is_on_disk_before_the_gateway_hears_of_it(self) -> None:
        self.told(message_max=1000)
        client = self.client(outbox=self.outbox, message_max=5000)
        peer = self.accept()   # which has read HELLO
        client._outbox.close()
        with contextlib.closing(sqlite3.connect(self.outbox)) as file:
            self.assertEqual(file.execute("SELECT told_max FROM state").fetchone()[0], 5000)
        peer.cut()

    def test_a_file_of_the_first_format_goes_on_and_one_of_a_newer_is_refused(self) -> None:
        with contextlib.closing(sqlite3.connect(self.outbox)) as file, file:
            file.execute("CREATE TABLE state (id, session TEXT, token, settled TEXT, cursor TEXT)")
            file.execute("CREATE TABLE outbox (key INTEGER PRIMARY KEY, number INTEGER, payload BLOB)")
            file.execute("INSERT INTO state VALUES ('tester', '7', ?, '3', '5')", (TOKEN,))
            file.execute("INSERT INTO outbox (number, payload) VALUES (4, x'61')")
        client = self.client(outbox=self.outbox, message_max=5000)
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged, peer.hello.committed,
                          peer.hello.message_max), (7, TOKEN, 3, 5, 5000))
        peer.welcome()
        peer.expect(Message(4, b"a"))
        client.close(done=False)
        self.assertEqual(self.told(message_max=1000), (5000, 1 << 20))
        with contextlib.closing(sqlite3.connect(self.outbox)) as file, file:
            file.execute("PRAGMA user_version = 3")
        with self.assertRaisesRegex(OutboxError, "made by a newer version"):
            Client("127.0.0.1", self.port, "tester", outbox=self.outbox)

    def start(self, *options: str, stdin: Any = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen([sys.executable, str(HERE / "pulsegate.py"), f"127.0.0.1:{self.port}", "--id", "child",
                                  *options], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.reap, child)
        return child

    def reap(self, child: "subprocess.Popen[bytes]") -> None:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()

    def test_a_killed_process_loses_nothing_and_uses_no_number_twice(self) -> None:
        child = self.start("--outbox", self.outbox)
        assert child.stdin
        child.stdin.write(b"".join(b"line %d\n" % n for n in range(1, 51)))
        child.stdin.flush()
        peer = self.accept()
        peer.welcome()
        peer.expect(*(Message(number, b"line %d" % number) for number in range(1, 51)))
        peer.send(Receipt(7))
        peer.expect(Confirm(7))                    # which says that this is on disk
        child.send_signal(signal.SIGKILL)
        child.wait()
        child = self.start("--outbox", self.outbox)
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (7, TOKEN, 7))
        peer.welcome(token=NEXT_TOKEN)
        for number in range(8, 51):
            peer.expect(Message(number, b"line %d" % number))
        peer.send(Receipt(50))
        assert child.stdin
        child.stdin.close()
        peer.expect(Confirm(50))
        peer.goodbye()
        self.assertEqual(child.wait(PATIENCE), 0)

    def test_killed_between_accepting_and_connecting(self) -> None:
        code = ("import os, signal, sys, pulsegate\n"
                "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2])\n"
                "for number in range(20): client.send_nowait(b'%d' % number)\n"
                "os.kill(os.getpid(), signal.SIGKILL)\n")
        child = subprocess.run([sys.executable, "-c", code, str(self.port), self.outbox], cwd=HERE, timeout=PATIENCE)
        self.assertEqual(child.returncode, -signal.SIGKILL)
        self.forget()
        client = Client("127.0.0.1", self.port, "child", outbox=self.outbox)
        self.addCleanup(client.close, done=False)
        peer = self.accept()
        peer.welcome()
        peer.expect(*(Message(number + 1, b"%d" % number) for number in range(20)))

    def test_command_line(self) -> None:
        child = self.start()
        peer = self.accept()
        peer.welcome()
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(b"one\ntwo")
        child.stdin.close()
        peer.expect(Message(1, b"one"), Message(2, b"two"))
        peer.send(Message(1, "gr\u00fc\u00dfe\nzwei".encode()))
        peer.expect(Receipt(1))
        peer.send(Refuse(2, 3, "no twos"), Receipt(2))
        peer.expect(Confirm(2))
        peer.goodbye()
        self.assertEqual(child.wait(PATIENCE), 3)   # one was not committed
        lines = child.stdout.read().decode().splitlines()
        for line in ("new session 7", "sent 1", "sent 2", "received 1", "refused 2 3 no twos", "confirmed 1",
                     "confirmed 2", "message 1 gr\u00fc\u00dfe\\nzwei"):
            self.assertIn(line, lines)
        self.assertEqual(child.stderr.read(), b"pulsegate: 1 message not committed\n")

    def test_command_line_ended_for_good(self) -> None:
        child = self.start()
        self.accept().send(Bye(30, 0, 0, 0, "go away"))
        self.assertEqual(child.wait(PATIENCE), 3)
        assert child.stderr
        self.assertIn(b"pulsegate: giving up: go away\n", child.stderr.read())

    def test_command_line_at_what_is_no_gateway(self) -> None:
        child = self.start()
        self.accept().send(Bye(49, 0, 0, 0, "for raw clients only"))
        self.assertEqual(child.wait(PATIENCE), 1)
        child = self.start()
        self.accept().sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(child.wait(PATIENCE), 1)
        assert child.stderr
        self.assertRegex(child.stderr.read(), b"^pulsegate: giving up: .* there is no gateway of the pulse protocol at ")

    def test_command_line_without_its_outbox_or_its_input(self) -> None:
        child = self.start("--outbox", os.path.join(self.outbox, "none"))
        self.assertEqual(child.wait(PATIENCE), 1)
        assert child.stderr
        self.assertRegex(child.stderr.read(), b"^pulsegate: the outbox .* can't be used: there is no folder ")
        self.listener.close()   # it has nothing to send, so it need not connect
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        child = self.start(stdin=ends[1])
        self.assertEqual(child.wait(PATIENCE), 1)
        assert child.stderr
        self.assertRegex(child.stderr.read(), b"pulsegate: the input can't be read to its end: .*[Bb]ad file")

    def test_command_line_goes_on_after_a_line_that_is_too_long(self) -> None:
        child = self.start()
        peer = self.accept()
        peer.welcome(message_max=1000)
        assert child.stdin and child.stdout
        child.stdin.write(b"one\n")
        child.stdin.flush()
        peer.expect(Message(1, b"one"))
        child.stdin.write(b"x" * 1001 + b"\n" + b"x" * (Message.ROOM + (1 << 17)) + b"\ntwo\n")
        child.stdin.close()
        peer.expect(Message(2, b"two"))
        peer.send(Receipt(2))
        peer.expect(Confirm(2))
        peer.goodbye()
        self.assertEqual(child.wait(PATIENCE), 3)
        self.assertEqual(child.stdout.read().count(b"\nnot sent the "), 2)

    def test_command_line_interrupted(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            child = self.start("--outbox", f"{self.outbox}{number}")
            peer = self.accept()
            peer.welcome()
            assert child.stdin and child.stderr
            child.stdin.write(b"one\n")
            child.stdin.flush()
            peer.expect(Message(1, b"one"))
            child.send_signal(number)
            peer.goodbye(1)
            self.assertEqual(child.wait(PATIENCE), 130)
            self.assertEqual(child.stderr.read(), b"pulsegate: interrupted: 1 message not ended, kept in the outbox\n")

    def test_goodbyes_are_told_in_the_words_of_the_protocol(self) -> None:
        for done, text in ((True, "the client is done for good"), (False, "the client means to come back")):
            client = self.client()
            peer = self.accept()
            peer.welcome()
            self.event("new session")
            closing = self.closing(client, done=done)
            peer.goodbye(0 if done else 1)
            closing.join()
            assert client.closed
            self.assertEqual((client.closed.text, client.closed.no_gateway), (text, False))

    def test_command_line_usage(self) -> None:
        for wrong in ("nonsense", "host:0", ":7"):
            result = subprocess.run([sys.executable, str(HERE / "pulsegate.py"), wrong, "--id", "x"],
                                    stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
            self.assertEqual(result.returncode, 2)


class RestlessGateway(Base):
    """A gateway that keeps the rules, but whose connections break at any point."""

    def serve(self, chance: random.Random, stored: List[bytes], wanted: int) -> None:
        cursor, token, pending, refused = 0, 1, None, set()   # type: int, int, Any, Any
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
                    continue   # WELCOME is lost
                if not hello.session:
                    token = pending = pending or 1
                peer.welcome(session=7, token=pending.to_bytes(16, "big"), committed=cursor, window_messages=16,
                             refused=tuple((number, 3) for number in sorted(refused)))
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
                            break   # it is lost
                        cursor = frame.number
                        if frame.payload.endswith(b"3"):
                            refused.add(cursor)
                            peer.send(Refuse(cursor, 3, "no threes"))
                        else:
                            stored.append(frame.payload)
                        if chance.random() < 0.03:
                            break   # its receipt is lost
                        peer.send(Receipt(cursor))
            except OSError:
                pass
            finally:
                peer.cut()

    def test_each_message_ends_once_and_as_it_is_told(self) -> None:
        stored: List[bytes] = []
        payloads = [b"%d" % number for number in range(400)]
        with mock.patch("pulsegate.random.uniform", return_value=0.0):
            gateway = threading.Thread(target=self.serve, args=(random.Random(7), stored, len(payloads)), daemon=True)
            gateway.start()
            client = self.client(outbox=self.outbox)
            tickets: List[Any] = []
            for start in range(0, 400, 100):       # and the client is stopped and started, too
                tickets += [client.send_nowait(payload) for payload in payloads[start:start + 100]]
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
        self.assertEqual([kind for kind, _ in ends],
                         ["refused" if payload.endswith(b"3") else "committed" for payload in payloads])


BINARY = os.environ.get("PULSEGATE_BINARY")


@unittest.skipUnless(BINARY, "PULSEGATE_BINARY names no gateway")
class RealGateway(unittest.TestCase):
    """Against a gateway that is killed and started again: what was told is what is in its store."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data = os.path.join(directory.name, "data")
        self.outbox = os.path.join(directory.name, "outbox.db")
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self.addCleanup(self.kill)
        self.port = self.start("127.0.0.1:0")

    def start(self, listen: str, *sink: str) -> int:
        """Starts the gateway and returns the port that it names first."""
        self.process = subprocess.Popen(
            [str(BINARY), "serve", "--listen", listen, "--protocol", "auto",
             *(sink or ("--sink", "store", "--data-dir", self.data))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, ports = self.process.stdout, queue.Queue()   # type: Any, queue.Queue[bytes]
        assert output

        def watch() -> None:   # to the end, so that the pipe never fills
            with output:
                for line in output:
                    ports.put(line)
            ports.put(b"")

        threading.Thread(target=watch, daemon=True).start()
        lines = []
        while True:
            line = ports.get(timeout=PATIENCE)
            lines.append(line)
            found = re.search(rb"127\.0\.0\.1:([1-9][0-9]*)", line)
            if found:
                return int(found.group(1))
            self.assertNotEqual(line, b"", f"the gateway ended: {lines}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stored(self) -> List[str]:
        """The payloads in the gateway's store, in its order."""
        output = subprocess.run([str(BINARY), "messages", "--data-dir", self.data, "--json"], check=True,
                                capture_output=True, timeout=PATIENCE).stdout
        rows = [json.loads(line) for line in output.splitlines() if line.strip().startswith(b"{")]
        return [self.text(row.get("payload", row.get("text", ""))) for row in rows]

    @staticmethod
    def text(payload: Any) -> str:
        if isinstance(payload, list):
            return bytes(payload).decode()
        if isinstance(payload, str) and re.fullmatch("([0-9a-f]{2})+", payload):
            return bytes.fromhex(payload).decode()
        return str(payload)

    def test_killed_in_between(self) -> None:
        client = Client("127.0.0.1", self.port, "real", outbox=self.outbox)
        self.addCleanup(client.close, done=False)
        expected = [f"message {number}" for number in range(300)]
        tickets = []
        for number, text in enumerate(expected):
            tickets.append(client.send_nowait(text.encode()))
            if number in (100, 200):
                self.kill()
                self.assertEqual(self.start(f"127.0.0.1:{self.port}"), self.port)
        outcomes = [ticket.wait(PATIENCE) for ticket in tickets]
        self.assertEqual({outcome and outcome.kind for outcome in outcomes}, {"committed"})
        client.close(timeout=PATIENCE)
        self.kill()
        self.assertEqual(self.stored(), expected)

    def test_client_restart_with_the_same_outbox(self) -> None:
        expected = [f"message {number}" for number in range(90)]
        for start in (0, 30, 60):
            client = Client("127.0.0.1", self.port, "real", outbox=self.outbox)
            for text in expected[start:start + 30]:
                client.send_nowait(text.encode())
            client.close(done=start == 60, timeout=PATIENCE if start == 60 else None)
        self.kill()
        self.assertEqual(self.stored(), expected)

    def test_client_restart_with_a_lower_limit_gets_the_large_message_that_waits(self) -> None:
        self.kill()
        port = self.start("127.0.0.1:0", "--sink", "echo")
        large = bytes(60_000)
        client = Client("127.0.0.1", port, "real", outbox=self.outbox, message_max=60_000)
        outcome = client.send(large, PATIENCE)
        self.assertEqual(outcome.kind, "committed")
        deadline = time.monotonic() + PATIENCE
        while not client._inbox and time.monotonic() < deadline:   # the echo is there, and not taken
            time.sleep(0.01)
        self.assertTrue(client._inbox)
        client.close(done=False)
        with Client("127.0.0.1", port, "real", outbox=self.outbox, message_max=1_000, window_bytes=1_000) as client:
            self.assertEqual(client.receive(PATIENCE), Message(1, large))


if __name__ == "__main__":
    unittest.main()
