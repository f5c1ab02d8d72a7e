"""The program: `python3 -m pulsegate`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from pulsegate import readable
from pulsegate.frames import (
    Bye,
    Confirm,
    Message,
    Notice,
    Receipt,
    Refuse,
)

from .gateway import NEXT_TOKEN, PATIENCE, TOKEN, Base


class CommandLine(Base):
    def start(self, *options: str, stdin: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", "pulsegate", f"127.0.0.1:{self.port}", "--id", "child", *options],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self.reap, child)
        return child

    def reap(self, child: subprocess.Popen[bytes]) -> None:
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
        peer.expect(Confirm(7))  # which says that this is on disk
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
        self.assertEqual(child.wait(PATIENCE), 3)  # one was not committed
        lines = child.stdout.read().decode().splitlines()
        for line in (
            "new session 7",
            "sent 1",
            "sent 2",
            "received 1",
            "refused 2 3 no twos",
            "confirmed 1",
            "confirmed 2",
            "message 1 gr\u00fc\u00dfe\\nzwei",
        ):
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
        self.assertRegex(
            child.stderr.read(), b"^pulsegate: giving up: .* there is no gateway of the pulse protocol at "
        )

    def test_command_line_without_its_outbox_or_its_input(self) -> None:
        child = self.start("--outbox", os.path.join(self.outbox, "none"))
        self.assertEqual(child.wait(PATIENCE), 1)
        assert child.stderr
        self.assertRegex(child.stderr.read(), b"^pulsegate: the outbox .* can't be used: there is no folder ")
        self.listener.close()  # it has nothing to send, so it need not connect
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

    def test_command_line_usage(self) -> None:
        for wrong in ("nonsense", "host:0", ":7"):
            result = subprocess.run(
                [sys.executable, "-m", "pulsegate", wrong, "--id", "x"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
            )
            self.assertEqual(result.returncode, 2)

    def test_command_line_stops_after_three(self) -> None:
        child = subprocess.Popen(
            [sys.executable, "-m", "pulsegate", f"127.0.0.1:{self.port}", "--id", "x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(3):
            self.accept().cut_politely()
        _, stderr = child.communicate(timeout=PATIENCE)
        self.assertEqual(child.returncode, 1)
        self.assertIn(b"no gateway of the pulse protocol", stderr)

    def test_the_command_line_says_it_too(self) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "pulsegate", "127.0.0.1:7", "--id", "x", "--outbox", "/nowhere/o.db"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"the outbox /nowhere/o.db can't be used: there is no folder /nowhere", result.stderr)

    def test_the_command_line_says_it(self) -> None:
        for durability, line in [
            (0, b"received 1 (in memory only)"),
            (2, b"received 1"),
            (9, b"received 1 (durability 9)"),
        ]:
            child = subprocess.Popen(
                [sys.executable, "-m", "pulsegate", f"127.0.0.1:{self.port}", "--id", "x"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
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

    def test_what_is_printed_cannot_drive_the_terminal(self) -> None:
        self.assertEqual(readable(b"\x1b[2Jgr\xc3\xbc\xc3\x9fe\xff\\n"), "\\x1b[2Jgr\u00fc\u00dfe\\xff\\\\n")
        for hidden in "\x00\x07\n\r\x7f\x85\x9b\u00ad\u061c\u200b\u200f\u2028\u202e\u2060\u2064\u2066\ufeff\U000e0041":
            self.assertNotIn(hidden, readable(f"a{hidden}b"))
        evil = "\x1b]0;owned\x07\u202e\x9b31m"
        child = subprocess.Popen(
            [sys.executable, "-m", "pulsegate", f"127.0.0.1:{self.port}", "--id", "x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
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
