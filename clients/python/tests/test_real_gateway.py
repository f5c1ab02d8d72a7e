"""Against a real gateway, if PULSEGATE_BINARY names one."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

from pulsegate import Client
from pulsegate.frames import (
    Message,
)

from .gateway import PATIENCE

BINARY = os.environ.get("PULSEGATE_BINARY")


@unittest.skipUnless(BINARY, "PULSEGATE_BINARY names no gateway")
class RealGateway(unittest.TestCase):
    """Against a gateway that is killed and started again: what was told is what is in its store."""

    kind: Callable[..., Any] = Client

    def make(self, *arguments: Any, **options: Any) -> Any:
        client = self.kind(*arguments, **options)
        if hasattr(client, "stop"):
            self.addCleanup(client.stop)
        self.addCleanup(client.close, done=False)
        return client

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.data = os.path.join(directory.name, "data")
        self.outbox = os.path.join(directory.name, "outbox.db")
        self.process: subprocess.Popen[bytes] | None = None
        self.addCleanup(self.kill)
        self.port = self.start("127.0.0.1:0")

    def start(self, listen: str, *sink: str) -> int:
        """Starts the gateway and returns the port that it names first."""
        self.process = subprocess.Popen(
            [
                str(BINARY),
                "serve",
                "--listen",
                listen,
                "--protocol",
                "auto",
                *(sink or ("--sink", "store", "--data-dir", self.data)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, ports = self.process.stdout, queue.Queue()  # type: Any, queue.Queue[bytes]
        assert output

        def watch() -> None:  # to the end, so that the pipe never fills
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

    def stored(self) -> list[str]:
        """The payloads in the gateway's store, in its order."""
        output = subprocess.run(
            [str(BINARY), "messages", "--data-dir", self.data, "--json"],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        ).stdout
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
        client = self.make("127.0.0.1", self.port, "real", outbox=self.outbox)
        expected = [f"message {number}" for number in range(300)]
        tickets = []
        for number, text in enumerate(expected):
            tickets.append(client.submit(text.encode()))
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
            client = self.make("127.0.0.1", self.port, "real", outbox=self.outbox)
            for text in expected[start : start + 30]:
                client.submit(text.encode())
            client.close(done=start == 60, timeout=PATIENCE if start == 60 else None)
        self.kill()
        self.assertEqual(self.stored(), expected)

    def test_client_restart_with_a_lower_limit_gets_the_large_message_that_waits(self) -> None:
        self.kill()
        port = self.start("127.0.0.1:0", "--sink", "echo")
        large = bytes(60_000)
        client = self.make("127.0.0.1", port, "real", outbox=self.outbox, message_max=60_000)
        outcome = client.send(large, PATIENCE)
        self.assertEqual(outcome.kind, "committed")
        deadline = time.monotonic() + PATIENCE
        while not client._session.inbox and time.monotonic() < deadline:  # the echo is there, and not taken
            time.sleep(0.01)
        self.assertTrue(client._session.inbox)
        client.close(done=False)
        with self.make("127.0.0.1", port, "real", outbox=self.outbox, message_max=1_000, window_bytes=1_000) as client:
            self.assertEqual(client.receive(PATIENCE), Message(1, large))
