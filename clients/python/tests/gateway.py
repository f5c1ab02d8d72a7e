"""The gateway in these tests: a script inside each test, on a real socket of the loopback interface."""

from __future__ import annotations

import logging
import os
import pathlib
import queue
import socket
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

from pulsegate import Client, frames
from pulsegate.frames import (
    Beat,
    Bye,
    Confirm,
    FrameReader,
    Hello,
    Welcome,
    encode,
)

FOLDER = pathlib.Path(__file__).resolve().parent.parent
VECTORS = FOLDER.parent.parent / "protocol-vectors.txt"
PATIENCE = 60.0  # seconds: it bounds every wait, and nothing is judged by it
TOKEN, NEXT_TOKEN = b"\xab" * 16, b"\xcd" * 16
logging.getLogger("pulsegate").propagate = False  # what it says is looked at where it matters
logging.getLogger("pulsegate").addHandler(logging.NullHandler())


def vectors() -> dict[str, dict[str, str]]:
    """Each vector's lines by its name: those with a "frame" are to be understood, those with a "state" refused."""
    found: dict[str, dict[str, str]] = {}
    for line in VECTORS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found[line[1:-1]] = lines = {}
        elif line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            lines[key] = value
    return found


def vector(name: str) -> bytes:
    return bytes.fromhex(vectors()[name]["bytes"])


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
        assert preface == frames.PREFACE
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
        values = {
            "outcome": 1 if self.hello.session else 0,
            "lifetime": 2,
            "durability": 2,
            "beat_interval": 60_000,
            "beat_timeout": 600_000,
            "remaining": 60000,
            "session_ttl": 60000,
            "window_messages": 100,
            "window_bytes": 1 << 20,
            "message_max": 1 << 20,
            "server_time": 0,
            "session": self.hello.session or 7,
            "token": TOKEN,
            "committed": self.hello.acknowledged,
            "acknowledged": self.hello.committed,
            "lost_from": 0,
            "lost_to": 0,
        }
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
    kind: Callable[..., Any] = Client

    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.addCleanup(lambda: self.listener.close())
        self.port = self.listener.getsockname()[1]
        self.events: queue.Queue[Any] = queue.Queue()
        self.peers: list[Peer] = []
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.outbox = os.path.join(directory.name, "outbox.db")

    def make(self, *arguments: Any, **options: Any) -> Any:
        """A client of the kind that is tested."""
        client = self.kind(*arguments, **options)

        def close() -> None:
            self.listener.close()  # else it might have to say goodbye to a gateway that doesn't listen
            client.close(done=False)
            if hasattr(client, "stop"):
                client.stop()

        self.addCleanup(close)
        return client

    def client(self, **options: Any) -> Any:
        return self.make("127.0.0.1", self.port, "tester", on_event=lambda *event: self.events.put(event), **options)

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

    def closing(self, client: Any, **options: Any) -> threading.Thread:
        thread = threading.Thread(target=client.close, kwargs=options)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def inbox_of(self, client: Any) -> None:
        """Waits until something has come, and takes nothing."""
        deadline = time.monotonic() + PATIENCE
        while not client._session.inbox and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertTrue(client._session.inbox)

    def kind_of(self, ticket: Any) -> str:
        outcome = ticket.wait(PATIENCE)
        self.assertIsNotNone(outcome)
        return str(outcome.kind)

    def end_of(self, client: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while client.closed is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertIsNotNone(client.closed)
        return client.closed
