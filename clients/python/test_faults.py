"""Tests of pulsegate.py where something is wrong: no gateway, a full disk, a strange clock, options that can't be.

As test_pulsegate.py: `python3 -m unittest`, in this directory, with nothing else running.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Iterator
from unittest import mock

import pulsegate
from pulsegate import (Beat, Bye, Client, Confirm, Full, Message, Notice, OutboxError, Receipt, Refuse,
                       Unsettled, encode, readable)
from test_pulsegate import HERE, PATIENCE, Base, Peer


class NoGateway(Base):
    def port_of_nobody(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    def test_send_without_a_gateway_says_so_and_the_message_goes_on(self) -> None:
        self.listener.close()
        with self.assertLogs("pulsegate", "WARNING") as logs:
            client = self.client(backoff_longest=0.2)
            self.event("disconnected")
            with self.assertRaisesRegex(Unsettled, "within 0.3 s .*refused.*goes on") as caught:
                client.send(b"x", timeout=0.3)
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertIn(f"127.0.0.1:{self.port}", logs.output[0])
        self.assertIn("refused", logs.output[0])
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(PATIENCE)
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(caught.exception.ticket), "committed")

    def test_send_has_a_timeout_by_default(self) -> None:
        client = self.client()
        with mock.patch.object(client, "send_nowait") as accept:
            accept.return_value.wait.return_value = None
            with self.assertRaises(Unsettled):
                client.send(b"x")
        self.assertLessEqual(accept.return_value.wait.call_args.args[0], 30.0)

    def test_warnings_are_few(self) -> None:
        self.listener.close()
        with self.assertLogs("pulsegate", "WARNING") as logs, \
                mock.patch("pulsegate.random.uniform", return_value=0.0):
            self.client(backoff_first=0.01)
            for _ in range(20):
                self.event("disconnected")
        self.assertEqual(len(logs.output), 1)

    def test_what_is_no_payload_is_refused_with_what_to_do(self) -> None:
        client = self.client()
        for send in (client.send, client.send_nowait):
            with self.assertRaisesRegex(TypeError, r"not str: encode it, as in text\.encode\(\)"):
                send("text")   # type: ignore[arg-type]
            for wrong in (5, None, [1, 2]):
                with self.assertRaisesRegex(TypeError, "a payload is bytes, not "):
                    send(wrong)   # type: ignore[arg-type]
        client.send_nowait(memoryview(b"abcdefgh").cast("I"))   # type: ignore[arg-type]
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"abcdefgh"))

    def test_each_address_gets_its_share_of_the_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, contextlib.ExitStack() as callers:
            for _ in range(4):   # its queue is full, so nothing answers who connects now
                caller = callers.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(hole.getsockname())
            time.sleep(0.05)
            addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", hole.getsockname()),
                         (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self.port))]
            with mock.patch("pulsegate.PATIENCE", 3.0), \
                    mock.patch("pulsegate.socket.getaddrinfo", return_value=addresses):
                client = self.client()
                self.accept().welcome()
                self.event("new session")
            self.assertIsNone(client.closed)

    def test_a_name_that_can_not_be_one_is_no_end(self) -> None:
        client = Client("a" * 70 + ".example", 7000, "tester", on_event=lambda *event: self.events.put(event))
        self.addCleanup(client.close, done=False)
        self.assertIn("no connection to", self.event("disconnected").text)
        self.assertIsNone(client.closed)

    def test_one_that_never_says_a_byte_is_no_gateway(self) -> None:
        client = self.client(mute_max=3, backoff_first=0.01)
        ticket = client.send_nowait(b"x")
        self.accept().cut_politely()
        self.accept().cut_politely()
        self.accept().send(Bye(60, 2, 0, 0, "the gateway is full"))   # a gateway, so it counts anew
        for _ in range(3):
            self.assertIsNone(client.closed)
            self.accept().cut_politely()
        closed = self.end_of(client)
        self.assertEqual(closed.retry, 0)
        self.assertIn("no gateway of the pulse protocol", closed.text)
        self.assertEqual(self.kind_of(ticket), "not accepted")

    def test_a_client_with_a_session_goes_on(self) -> None:
        client = self.client(mute_max=1, backoff_first=0.01)
        self.accept().welcome()
        self.event("new session")
        for peer in list(self.peers):
            peer.cut()
        for _ in range(3):
            self.accept().cut_politely()
        self.assertIsNone(client.closed)

    def test_what_is_no_frame_ends_it_with_a_sentence(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.sock.sendall(b"welcome to the chat\n")
        closed = self.end_of(client)
        self.assertEqual((closed.code, closed.retry), (33, 0))
        self.assertIn("for raw clients only", closed.text)

    def test_command_line_stops_after_three(self) -> None:
        child = subprocess.Popen([sys.executable, str(HERE / "pulsegate.py"), f"127.0.0.1:{self.port}", "--id", "x"],
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(3):
            self.accept().cut_politely()
        _, stderr = child.communicate(timeout=PATIENCE)
        self.assertEqual(child.returncode, 1)
        self.assertIn(b"no gateway of the pulse protocol", stderr)


class Backoff(Base):
    """The longest wait is always taken: 0.02 s x 2^n."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch("pulsegate.random.uniform", side_effect=lambda _, most: most)
        patch.start()
        self.addCleanup(patch.stop)

    def n(self) -> float:
        """What the next wait says that n is."""
        return math.log2(self.event("reconnecting") / 0.02)

    def fail(self) -> None:   # type: ignore[override]
        self.accept().cut()

    def test_ends_that_say_now_do_not_count(self) -> None:
        self.client(backoff_first=0.02)
        self.fail()
        self.assertAlmostEqual(self.n(), 1)
        for _ in range(3):
            peer = self.accept()
            peer.welcome()
            peer.send(Bye(12, 1, 0, 0, "short deadline"))
            self.assertAlmostEqual(self.n(), 1)
        self.accept().send(Bye(10, 1, 0, 0, "now, but it was never attached"))
        self.assertAlmostEqual(self.n(), 2)

    def test_ends_that_were_announced_do_not_count(self) -> None:
        self.client(backoff_first=0.02)
        self.fail()
        self.assertAlmostEqual(self.n(), 1)
        for code in (1, 2):
            peer = self.accept()
            peer.welcome()
            peer.send(Notice(code, 50, "soon"))
            self.event("notice")
            peer.cut()
            self.assertAlmostEqual(self.n(), 1)
        self.accept().send(Bye(70, 2, 0, 0, "drain"))
        self.assertAlmostEqual(self.n(), 1)
        peer = self.accept()
        peer.welcome()
        peer.send(Notice(3, 0, "receipts have stopped"))
        self.event("notice")
        peer.cut()
        self.assertAlmostEqual(self.n(), 2)

    def test_reading_that_rests_is_a_warning(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome()
        with self.assertLogs("pulsegate", "WARNING") as logs:
            peer.send(Notice(5, 0, "\x1b"), Notice(5, 0, "again"))
            self.event("notice")
            self.event("notice")
        self.assertEqual(len(logs.output), 1, logs.output)
        self.assertIn("reads nothing more for now, a share of what it keeps is used up", logs.output[0])

    def test_the_first_receipt_begins_anew_but_not_for_the_replaced(self) -> None:
        client = self.client(backoff_first=0.02)
        for n in (1, 2, 3):
            self.fail()
            self.assertAlmostEqual(self.n(), n)
        peer = self.accept()
        peer.welcome()
        client.send_nowait(b"x")
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        peer.cut()
        self.assertAlmostEqual(self.n(), 0)
        peer = self.accept()
        peer.welcome()
        client.send_nowait(b"y")
        peer.expect(Message(2, b"y"))
        peer.send(Receipt(2), Bye(51, 2, 0, 2, "replaced"))
        self.assertAlmostEqual(self.n(), 1)

    def test_no_attempt_comes_sooner_than_the_first_wait(self) -> None:
        with mock.patch("pulsegate.random.uniform", return_value=0.0):
            self.client()
            begins = []
            for _ in range(4):
                self.fail()
                begins.append(time.monotonic())
        self.assertGreater(begins[-1] - begins[0], 0.25)


class SlowLink(Base):
    def slow_peer(self, **welcome: Any) -> Peer:
        self.listener.close()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.settimeout(PATIENCE)
        self.port = self.listener.getsockname()[1]
        self.sender = self.client()
        peer = self.accept()
        peer.welcome(**welcome)
        self.event("new session")
        return peer

    def test_a_large_message_on_a_slow_link_arrives(self) -> None:
        peer = self.slow_peer(beat_interval=500, beat_timeout=1000)
        self.sender.send_nowait(bytes(60_000))
        data, began = b"", time.monotonic()
        while len(data) < 60_000 and time.monotonic() < began + 30:
            time.sleep(0.05)
            data += peer.sock.recv(1000)
            peer.send(Beat(0))   # a gateway says that it lives while parts of a message come in (6)
        self.assertGreaterEqual(len(data), 60_000)
        self.assertGreater(time.monotonic() - began, 2 * 1.0)   # without them it would have gone
        self.assertNotIn("disconnected", [kind for kind, _ in list(self.events.queue)])
        self.assertEqual(self.event("disconnected").code, 92)   # now it says nothing any more

    def test_an_answer_overtakes_what_waits(self) -> None:
        peer = self.slow_peer()
        for _ in range(500):
            self.sender.send_nowait(bytes(2000))
        time.sleep(0.3)   # what fits into the system's buffers is there
        peer.send(Beat(1))
        time.sleep(0.1)
        before = 0
        while (frame := peer.read()) != Beat(2):
            before += len(encode(frame))
        self.assertLess(before, 60_000)


class FullDisk:
    """In the place of a database: what writes fails while `full` is set."""

    def __init__(self, db: Any) -> None:
        self.db, self.full, self.tries = db, threading.Event(), 0

    def __enter__(self) -> "FullDisk":
        self.db.__enter__()
        return self

    def __exit__(self, *how: Any) -> Any:
        return self.db.__exit__(*how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if self.full.is_set() and not statement.startswith("SELECT"):
            self.tries += 1
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(statement, *values)

    def executemany(self, statement: str, values: Any) -> Any:
        self.execute("SELECT 1" if not self.full.is_set() else "UPDATE")
        return self.db.executemany(statement, values)


class DiskIsFull(Base):
    def full(self, client: Client) -> FullDisk:
        disk = client._outbox._db = FullDisk(client._outbox._db)   # type: ignore[assignment]
        disk.full.set()
        return disk

    def test_receipts_wait_and_the_connection_is_kept(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome(beat_interval=200)
        ticket = client.send_nowait(b"a")
        peer.expect(Message(1, b"a"))
        with self.assertLogs("pulsegate", "WARNING") as logs:
            disk, began = self.full(client), time.monotonic()
            peer.send(Receipt(1))
            self.assertEqual([peer.read() for _ in range(6)], [Beat(0)] * 6)   # and no CONFIRM
            self.assertIsNone(ticket.outcome)
            self.assertLess(disk.tries, 10 + 10 * (time.monotonic() - began))   # it doesn't spin
            disk.full.clear()
            peer.expect(Confirm(1))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual([event for event in list(self.events.queue) if event[0] == "committed"],
                         [("committed", (1, 2))])
        self.assertIn("can't be written: database or disk is full", logs.output[0])
        self.assertIn("can be written again", logs.output[1])
        self.assertEqual(len(logs.output), 2)

    def test_sending_and_receiving_wait_for_room(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        peer.send(Message(1, b"in"))
        self.event("new session")
        disk = self.full(client)
        with self.assertRaisesRegex(Full, "disk is full"):
            client.send_nowait(b"x")
        with self.assertRaisesRegex(Full, "disk is full"):
            client.send(b"x", timeout=0.1)
        self.assertIsNone(client.receive(0.1))
        threading.Timer(0.2, disk.full.clear).start()
        client.send_nowait(b"y", None)
        self.assertEqual(client.receive(PATIENCE), Message(1, b"in"))
        frames = [peer.read() for _ in range(3)]
        self.assertIn(Message(1, b"y"), frames)

    def test_no_number_goes_out_that_is_not_on_disk(self) -> None:
        client = self.client(outbox=self.outbox)
        client.send_nowait(b"a")
        peer = self.accept()
        disk = self.full(client)
        peer.welcome()
        while (frame := peer.read()) is not None:   # the token is not on disk: no frame but BYE (5.8)
            self.assertEqual((frame.code, frame.retry), (1, 0))
        peer.cut()
        self.assertIsNone(client.closed)
        disk.full.clear()
        peer = self.accept()
        self.assertEqual(peer.hello.session, 0)
        peer.welcome()
        peer.expect(Message(1, b"a"))
        disk.full.set()
        with contextlib.suppress(Full):
            client.send_nowait(b"b")
        disk.full.clear()
        second = client.send_nowait(b"c", None)
        peer.expect(Message(2, b"c"))
        peer.send(Receipt(2))
        self.assertEqual(self.kind_of(second), "committed")

    def test_new_messages_leave_room_to_send_and_to_settle(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        tickets = [client.send_nowait(bytes(5000)) for _ in range(100)]
        with mock.patch("pulsegate.shutil.disk_usage") as usage:
            usage.return_value.free = 200_000
            with self.assertRaisesRegex(Full, "but for what is needed to send"):
                client.send_nowait(b"x")
            for number in range(1, 101):
                peer.expect(Message(number, bytes(5000)))
            peer.send(Receipt(100))
            self.assertEqual(self.kind_of(tickets[-1]), "committed")
            client.send_nowait(b"x", PATIENCE)   # the file itself has room now

    def test_a_disk_that_was_full_loses_nothing(self) -> None:
        code = ("import resource, sys, threading, time, pulsegate\n"
                "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2])\n"
                "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
                "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))\n"
                "tickets, full = [], 0\n"
                "while len(tickets) < 60:\n"
                "    try: tickets.append(client.send_nowait(b'%d' % len(tickets) + bytes(8000)))\n"
                "    except pulsegate.Full:\n"
                "        full += 1; time.sleep(0.2)\n"
                "        if full == 3:\n"
                "            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
                "            print('full', flush=True)\n"
                "kinds = {ticket.wait(60).kind for ticket in tickets}\n"
                "client.close(timeout=60)\n"
                "print(kinds)\n")
        child = subprocess.Popen([sys.executable, "-c", code, str(self.port), self.outbox], cwd=HERE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(child.kill)
        peer, numbers = self.accept(), []
        peer.welcome()
        assert child.stdout
        self.assertEqual(child.stdout.readline(), b"full\n")   # before anything is receipted, and so deleted
        while (frame := peer.read()) is not None and not (isinstance(frame, Bye) and frame.code == 0):
            if isinstance(frame, Message):
                numbers.append(int(frame.payload.rstrip(b"\0")))
                peer.send(Receipt(frame.number))
            elif isinstance(frame, Bye):   # it was full before WELCOME came, and that couldn't be stored
                peer.cut()
                peer = self.accept()
                peer.welcome()
        peer.cut()
        stdout, stderr = child.communicate(timeout=PATIENCE)
        self.assertEqual(stdout, b"{'committed'}\n", stderr)
        self.assertEqual(numbers, list(range(60)))
        self.assertIn(b"can't be written", stderr)


class Options(Base):
    def test_durations_that_can_not_be_are_refused_when_they_are_set(self) -> None:
        for name in ("beat_min", "beat_max", "backoff_first", "backoff_longest", "steady", "exit_wait"):
            for wrong in (math.inf, -math.inf, math.nan, 1e12, -1.0, 4294967.3):
                with self.subTest(name, wrong=wrong), self.assertRaisesRegex(ValueError, f"^{name} is 0 to 4294967"):
                    Client("127.0.0.1", self.port, "x", **{name: wrong})   # type: ignore[arg-type]
        for options, words in [({"beat_min": 2.0, "beat_max": 1.0}, "at least beat_min"),
                               ({"beat_min": 1.0}, "at least beat_min"), ({"lifetime": "forever"}, "not 'forever'"),
                               ({"window_messages": 1 << 32}, "4294967295"), ({"window_bytes": -1}, "4294967295"),
                               ({"message_max": 16_000_001}, "16,000,000")]:
            with self.subTest(options), self.assertRaisesRegex(ValueError, words):
                Client("127.0.0.1", self.port, "x", **options)   # type: ignore[arg-type]
        for host, port, name in [("h", 0, "x"), ("h", 65536, "x"), ("h", "7000", "x")]:
            with self.assertRaisesRegex(ValueError, "1 to 65535"):
                Client(host, port, name)   # type: ignore[arg-type]
        with self.assertRaisesRegex(TypeError, "text"):
            Client("h", 1, b"x")   # type: ignore[arg-type]

    def test_timeouts_are_saturated_and_nan_is_refused(self) -> None:
        client = self.client(outbox_bytes_max=300)
        peer = self.accept()
        peer.welcome()
        ticket = client.send_nowait(b"a")
        peer.expect(Message(1, b"a"))   # after the first beat
        for short in (0, -1.0, -1e12, -math.inf, 0.01):
            self.assertIsNone(ticket.wait(short))
            self.assertIsNone(client.receive(short))
            with self.assertRaises(Full):
                client.send_nowait(b"a", short)
        for call in (ticket.wait, client.receive, lambda nan: client.send(b"a", nan),
                     lambda nan: client.send_nowait(b"a", nan), lambda nan: client.close(timeout=nan)):
            with self.assertRaisesRegex(ValueError, "nan"):
                call(math.nan)
        for long in (1e12, math.inf):
            threading.Timer(0.1, lambda: peer.send(Receipt(ticket.number or 0))).start()
            self.assertEqual(getattr(ticket.wait(long), "kind", None), "committed")
            ticket = client.send_nowait(b"a", long)
            number = 2 if long == 1e12 else 3
            frames = [peer.read(), peer.read()]   # in either order
            self.assertIn(Message(number, b"a"), frames)
            self.assertIn(Confirm(number - 1), frames)
        peer.send(Receipt(3))
        self.closing(client, timeout=math.inf)
        peer.expect(Confirm(3))
        peer.goodbye()

    def test_a_call_from_its_own_callback_is_refused_with_a_sentence(self) -> None:
        outcomes: "queue.Queue[Any]" = queue.Queue()
        ready = threading.Event()

        def on_event(kind: str, detail: Any) -> None:
            if kind == "notice":
                ready.wait(PATIENCE)
                for call in (lambda: client.send(b"x"), lambda: client.send(b"x", None), lambda: client.receive(),
                             lambda: next(client.messages()), lambda: ticket.wait(),
                             lambda: client.send_nowait(bytes(900), None)):
                    try:
                        outcomes.put(call())
                    except RuntimeError as error:
                        outcomes.put(str(error))
                outcomes.put(client.receive(0))
                outcomes.put(client.send_nowait(b"from inside"))
                client.close()

        client = Client("127.0.0.1", self.port, "tester", outbox_bytes_max=1200, on_event=on_event)
        peer = self.accept()
        peer.welcome()
        ticket = client.send_nowait(b"outside")
        ready.set()
        peer.expect(Message(1, b"outside"))
        peer.send(Notice(3, 0, ""))
        for what in ("send()", "send()", "receive()", "receive()", "wait()", "send_nowait()"):
            self.assertIn(f"{what} would wait for ever", outcomes.get(timeout=PATIENCE))
        self.assertIsNone(outcomes.get(timeout=PATIENCE))
        peer.expect(Message(2, b"from inside"))
        peer.send(Receipt(2))
        peer.expect(Confirm(2))
        peer.goodbye()
        self.assertEqual(self.kind_of(outcomes.get(timeout=PATIENCE)), "committed")


class AtExit(Base):
    CODE = ("import sys, pulsegate\n"
            "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2] or None,\n"
            "                          exit_wait=float(sys.argv[3]))\n"
            "for number in range(20): client.send_nowait(b'%d' % number)\n")

    def start(self, outbox: str, wait: float) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen([sys.executable, "-c", self.CODE, str(self.port), outbox, str(wait)], cwd=HERE,
                                 stderr=subprocess.PIPE)
        self.addCleanup(child.kill)
        return child

    def test_a_program_that_ends_right_after_it_sent_is_waited_for(self) -> None:
        child = self.start("", PATIENCE)
        peer = self.accept()
        peer.welcome()
        peer.expect(*(Message(number + 1, b"%d" % number) for number in range(20)))
        self.assertIsNone(child.poll())
        peer.send(Receipt(20))
        peer.expect(Confirm(20))
        peer.goodbye(1)   # nobody has said that it is done
        self.assertEqual(child.communicate(timeout=PATIENCE)[1], b"")
        self.assertEqual(child.returncode, 0)

    def test_what_has_not_ended_is_said_with_its_number(self) -> None:
        self.listener.close()
        for outbox, words in (("", b"20 messages that have not ended may be lost"),
                              (self.outbox, b"20 messages that have not ended are kept in the outbox")):
            began = time.monotonic()
            child = self.start(outbox, 0.2)
            stderr = child.communicate(timeout=PATIENCE)[1]
            self.assertIn(words, stderr)
            self.assertNotIn(b"Traceback", stderr)
            self.assertGreater(time.monotonic() - began, 0.2)
            self.assertEqual(child.returncode, 0)


class Outboxes(Base):
    @contextlib.contextmanager
    def somebody(self) -> Iterator[None]:
        """Without the superuser's rights, where a test has them."""
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    def check(self, path: str, *words: str) -> None:
        with self.somebody(), self.assertRaises(OutboxError) as caught:
            self.client(outbox=path)
        for word in (path, *words):
            self.assertIn(word, str(caught.exception))

    def test_permission_denied_says_which_path_and_for_whom(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            closed, folder = os.path.join(directory, "closed"), os.path.join(directory, "folder")
            os.mkdir(closed)
            os.mkdir(folder)
            locked = os.path.join(folder, "o.db")
            pathlib.Path(locked).touch()
            whom = "uid 65534" if os.geteuid() == 0 else f"uid {os.geteuid()}"
            os.chmod(locked, 0o444)
            self.check(locked, "no permission to write the file", whom)
            os.chmod(locked, 0o000)
            self.check(locked, "no permission to read the file", whom)
            os.chmod(folder, 0o555)
            self.check(os.path.join(folder, "new.db"), f"create files in the folder {folder}", whom)
            os.chmod(closed, 0o000)
            self.check(os.path.join(closed, "o.db"), f"search the folder {closed}", whom)
            self.check(os.path.join(closed, "deeper", "o.db"), f"search {closed}", whom)
            os.chmod(closed, 0o700)
            os.chmod(folder, 0o700)

    def test_other_paths_that_can_not_be(self) -> None:
        folder = os.path.dirname(self.outbox)
        os.chmod(folder, 0o777)
        self.check(os.path.join(folder, "missing", "o.db"), "there is no folder", "create it")
        self.check(folder, "it is a folder: name a file")
        other = os.path.join(folder, "other")
        pathlib.Path(other).write_bytes(b"something else " * 100)
        os.chmod(other, 0o666)
        self.check(other, "a file of another kind")

    def test_the_command_line_says_it_too(self) -> None:
        result = subprocess.run([sys.executable, str(HERE / "pulsegate.py"), "127.0.0.1:7", "--id", "x", "--outbox",
                                 "/nowhere/o.db"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"the outbox /nowhere/o.db can't be used: there is no folder /nowhere", result.stderr)


class Promises(Base):
    def test_in_memory_only_is_said(self) -> None:
        for durability, words in ((0, "in memory only"), (1, "with the operating system"), (2, "synced to disk"),
                                  (7, "durability 7")):
            client = self.client()
            peer = self.accept()
            peer.welcome(durability=durability)
            ticket = client.send_nowait(b"x")
            peer.expect(Message(1, b"x"))
            peer.send(Receipt(1))
            self.assertEqual(ticket.wait(PATIENCE), pulsegate.Outcome("committed", 0, words, durability))
            self.assertEqual(self.event("committed"), (1, durability))
            self.assertEqual(client.durability, durability)
            self.closing(client)
            peer.expect(Confirm(1))
            peer.goodbye()

    def test_the_command_line_says_it(self) -> None:
        for durability, line in [(0, b"received 1 (in memory only)"), (2, b"received 1"),
                                 (9, b"received 1 (durability 9)")]:
            child = subprocess.Popen([sys.executable, str(HERE / "pulsegate.py"), f"127.0.0.1:{self.port}", "--id",
                                      "x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            peer = self.accept()
            peer.welcome(durability=durability)
            assert child.stdin
            child.stdin.write(b"one\n")
            child.stdin.close()
            child.stdin = None
            peer.expect(Message(1, b"one"))
            peer.send(Receipt(1))
            peer.expect(Confirm(1))
            peer.goodbye()
            self.assertIn(line, child.communicate(timeout=PATIENCE)[0].splitlines())


class Strangers(Base):
    def test_what_is_printed_cannot_drive_the_terminal(self) -> None:
        self.assertEqual(readable(b"\x1b[2Jgr\xc3\xbc\xc3\x9fe\xff\\n"), "\\x1b[2Jgr\u00fc\u00dfe\\xff\\\\n")
        for hidden in "\x00\x07\n\r\x7f\x85\x9b\u00ad\u061c\u200b\u200f\u2028\u202e\u2060\u2064\u2066\ufeff\U000e0041":
            self.assertNotIn(hidden, readable(f"a{hidden}b"))
        evil = "\x1b]0;owned\x07\u202e\x9b31m"
        child = subprocess.Popen([sys.executable, str(HERE / "pulsegate.py"), f"127.0.0.1:{self.port}", "--id", "x"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peer = self.accept()
        peer.welcome()
        assert child.stdin
        child.stdin.write(b"one\n")
        child.stdin.flush()
        peer.expect(Message(1, b"one"))
        peer.send(Message(1, evil.encode()), Refuse(1, 3, evil), Receipt(1), Notice(3, 0, evil))
        peer.expect(Receipt(1), Confirm(1))
        peer.send(Bye(30, 0, 0, 0, evil))
        stdout, stderr = child.communicate(timeout=PATIENCE)
        for text in (stdout.decode(), stderr.decode()):
            self.assertIn("\\x1b]0;owned\\x07", text)
            self.assertEqual([each for each in text.replace("\n", "") if not each.isprintable()], [])

    def test_a_clock_before_1970_or_after_9999_is_none_of_its_business(self) -> None:
        for clock in (-1e9, 3e11):
            with mock.patch("time.time", return_value=clock):
                client = self.client(backoff_first=0.01)
                self.accept().cut()
                peer = self.accept()
                peer.welcome(server_time=2**64 - 1 if clock < 0 else 0)
                ticket = client.send_nowait(b"x")
                peer.expect(Message(1, b"x"))
                peer.send(Receipt(1))
                self.assertEqual(self.kind_of(ticket), "committed")
                self.closing(client)
                peer.expect(Confirm(1))
                peer.goodbye()


if __name__ == "__main__":
    unittest.main()
