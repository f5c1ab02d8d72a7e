"""What only the client with threads has: its arguments, its own thread, the end of the interpreter."""

from __future__ import annotations

import math
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any
from unittest import mock

from pulsegate import Client, Full, Unsettled
from pulsegate.frames import Bye, Confirm, Message, Notice, Receipt

from .gateway import FOLDER, PATIENCE, Base


class Options(Base):
    def test_durations_that_can_not_be_are_refused_when_they_are_set(self) -> None:
        for name in ("beat_min", "beat_max", "backoff_first", "backoff_longest", "steady", "exit_wait"):
            for wrong in (math.inf, -math.inf, math.nan, 1e12, -1.0, 4294967.3):
                with self.subTest(name, wrong=wrong), self.assertRaisesRegex(ValueError, f"^{name} is 0 to 4294967"):
                    Client("127.0.0.1", self.port, "x", **{name: wrong})  # type: ignore[arg-type]
        for options, words in [
            ({"beat_min": 2.0, "beat_max": 1.0}, "at least beat_min"),
            ({"beat_min": 1.0}, "at least beat_min"),
            ({"lifetime": "forever"}, "not 'forever'"),
            ({"window_messages": 1 << 32}, "4294967295"),
            ({"window_bytes": -1}, "4294967295"),
            ({"message_max": 16_000_001}, "16,000,000"),
        ]:
            with self.subTest(options), self.assertRaisesRegex(ValueError, words):
                Client("127.0.0.1", self.port, "x", **options)  # type: ignore[arg-type]
        for host, port, name in [("h", 0, "x"), ("h", 65536, "x"), ("h", "7000", "x")]:
            with self.assertRaisesRegex(ValueError, "1 to 65535"):
                Client(host, port, name)  # type: ignore[arg-type]
        with self.assertRaisesRegex(TypeError, "text"):
            Client("h", 1, b"x")  # type: ignore[arg-type]

    def test_timeouts_are_saturated_and_nan_is_refused(self) -> None:
        client = self.client(outbox_bytes_max=300)
        peer = self.accept()
        peer.welcome()
        ticket = client.submit(b"a")
        peer.expect(Message(1, b"a"))  # after the first beat
        for short in (0, -1.0, -1e12, -math.inf, 0.01):
            self.assertIsNone(ticket.wait(short))
            self.assertIsNone(client.receive(short))
            with self.assertRaises(Full):
                client.submit(b"a", short)
        for call in (
            ticket.wait,
            client.receive,
            lambda nan: client.send(b"a", nan),
            lambda nan: client.submit(b"a", nan),
            lambda nan: client.close(timeout=nan),
        ):
            with self.assertRaisesRegex(ValueError, "nan"):
                call(math.nan)
        for long in (1e12, math.inf):
            threading.Timer(0.1, lambda number=ticket.number: peer.send(Receipt(number or 0))).start()
            self.assertEqual(getattr(ticket.wait(long), "kind", None), "committed")
            ticket = client.submit(b"a", long)
            number = 2 if long == 1e12 else 3
            frames = [peer.read(), peer.read()]  # in either order
            self.assertIn(Message(number, b"a"), frames)
            self.assertIn(Confirm(number - 1), frames)
        peer.send(Receipt(3))
        self.closing(client, timeout=math.inf)
        peer.expect(Confirm(3))
        peer.goodbye()

    def test_a_call_from_its_own_callback_is_refused_with_a_sentence(self) -> None:
        outcomes: queue.Queue[Any] = queue.Queue()
        ready = threading.Event()

        def on_event(kind: str, detail: Any) -> None:
            if kind == "notice":
                ready.wait(PATIENCE)
                for call in (
                    lambda: client.send(b"x"),
                    lambda: client.send(b"x", None),
                    lambda: client.receive(),
                    lambda: next(client.messages()),
                    lambda: ticket.wait(),
                    lambda: client.submit(bytes(900), None),
                ):
                    try:
                        outcomes.put(call())
                    except RuntimeError as error:
                        outcomes.put(str(error))
                outcomes.put(client.receive(0))
                outcomes.put(client.submit(b"from inside"))
                client.close()

        client = Client("127.0.0.1", self.port, "tester", outbox_bytes_max=1200, on_event=on_event)
        peer = self.accept()
        peer.welcome()
        ticket = client.submit(b"outside")
        ready.set()
        peer.expect(Message(1, b"outside"))
        peer.send(Notice(3, 0, ""))
        for what in ("send()", "send()", "receive()", "receive()", "wait()", "submit()"):
            self.assertIn(f"{what} would wait for ever", outcomes.get(timeout=PATIENCE))
        self.assertIsNone(outcomes.get(timeout=PATIENCE))
        peer.expect(Message(2, b"from inside"))
        peer.send(Receipt(2))
        peer.expect(Confirm(2))
        peer.goodbye()
        self.assertEqual(self.kind_of(outcomes.get(timeout=PATIENCE)), "committed")


class AtExit(Base):
    CODE = (
        "import sys, pulsegate\n"
        "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2] or None,\n"
        "                          exit_wait=float(sys.argv[3]))\n"
        "for number in range(20): client.submit(b'%d' % number)\n"
    )

    def start(self, outbox: str, wait: float) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(self.port), outbox, str(wait)], cwd=FOLDER, stderr=subprocess.PIPE
        )
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
        peer.goodbye(1)  # nobody has said that it is done
        self.assertEqual(child.communicate(timeout=PATIENCE)[1], b"")
        self.assertEqual(child.returncode, 0)

    def test_what_has_not_ended_is_said_with_its_number(self) -> None:
        self.listener.close()
        for outbox, words in (
            ("", b"20 messages that have not ended may be lost"),
            (self.outbox, b"20 messages that have not ended are kept in the outbox"),
        ):
            began = time.monotonic()
            child = self.start(outbox, 0.2)
            stderr = child.communicate(timeout=PATIENCE)[1]
            self.assertIn(words, stderr)
            self.assertNotIn(b"Traceback", stderr)
            self.assertGreater(time.monotonic() - began, 0.2)
            self.assertEqual(child.returncode, 0)


class Strangers(Base):
    def test_a_clock_before_1970_or_after_9999_is_none_of_its_business(self) -> None:
        for clock in (-1e9, 3e11):
            with mock.patch("time.time", return_value=clock):
                client = self.client(backoff_first=0.01)
                self.accept().cut()
                peer = self.accept()
                peer.welcome(server_time=2**64 - 1 if clock < 0 else 0)
                ticket = client.submit(b"x")
                peer.expect(Message(1, b"x"))
                peer.send(Receipt(1))
                self.assertEqual(self.kind_of(ticket), "committed")
                self.closing(client)
                peer.expect(Confirm(1))
                peer.goodbye()

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


class OtherProcesses(Base):
    def test_killed_between_accepting_and_connecting(self) -> None:
        code = (
            "import os, signal, sys, pulsegate\n"
            "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2])\n"
            "for number in range(20): client.submit(b'%d' % number)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        child = subprocess.run([sys.executable, "-c", code, str(self.port), self.outbox], cwd=FOLDER, timeout=PATIENCE)
        self.assertEqual(child.returncode, -signal.SIGKILL)
        self.forget()
        self.make("127.0.0.1", self.port, "child", outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        peer.expect(*(Message(number + 1, b"%d" % number) for number in range(20)))

    def test_a_disk_that_was_full_loses_nothing(self) -> None:
        code = (
            "import resource, sys, threading, time, pulsegate\n"
            "client = pulsegate.Client('127.0.0.1', int(sys.argv[1]), 'child', outbox=sys.argv[2])\n"
            "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))\n"
            "tickets, full = [], 0\n"
            "while len(tickets) < 60:\n"
            "    try: tickets.append(client.submit(b'%d' % len(tickets) + bytes(8000)))\n"
            "    except pulsegate.Full:\n"
            "        full += 1; time.sleep(0.2)\n"
            "        if full == 3:\n"
            "            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
            "            print('full', flush=True)\n"
            "kinds = {ticket.wait(60).kind for ticket in tickets}\n"
            "client.close(timeout=60)\n"
            "print(kinds)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(self.port), self.outbox],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(child.kill)
        peer, numbers = self.accept(), []
        peer.welcome()
        assert child.stdout
        self.assertEqual(child.stdout.readline(), b"full\n")  # before anything is receipted, and so deleted
        while (frame := peer.read()) is not None and not (isinstance(frame, Bye) and frame.code == 0):
            if isinstance(frame, Message):
                numbers.append(int(frame.payload.rstrip(b"\0")))
                peer.send(Receipt(frame.number))
            elif isinstance(frame, Bye):  # it was full before WELCOME came, and that couldn't be stored
                peer.cut()
                peer = self.accept()
                peer.welcome()
        peer.cut()
        stdout, stderr = child.communicate(timeout=PATIENCE)
        self.assertEqual(stdout, b"{'committed'}\n", stderr)
        self.assertEqual(numbers, list(range(60)))
        self.assertIn(b"can't be written", stderr)


class Timeouts(Base):
    def test_send_has_a_timeout_by_default(self) -> None:
        client = self.client()
        with mock.patch.object(client, "submit") as accept:
            accept.return_value.wait.return_value = None
            with self.assertRaises(Unsettled):
                client.send(b"x")
        self.assertLessEqual(accept.return_value.wait.call_args.args[0], 30.0)
