"""The outbox: kept over restarts, on a full disk, and where it can not be."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pulsegate import Full, OutboxError, codes
from pulsegate.frames import (
    Beat,
    Bye,
    Confirm,
    Message,
    Receipt,
)

from .gateway import PATIENCE, TOKEN, Base


class OnDisk(Base):
    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch("pulsegate.connection.LINGER", 0.05)  # the scripts end no streams
        patch.start()
        self.addCleanup(patch.stop)

    def test_restart_goes_on_where_it_was(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome(window_messages=2)
        tickets = [client.submit(payload) for payload in (b"a", b"b", b"c")]
        peer.expect(Message(1, b"a"), Message(2, b"b"))
        peer.send(Receipt(1), Message(1, b"in"))
        self.assertEqual(client.receive(PATIENCE), Message(1, b"in"))
        tickets[0].wait(PATIENCE)
        with self.assertRaisesRegex(OutboxError, "another client has it open"):  # two would use one number twice
            self.make("127.0.0.1", self.port, "tester", outbox=self.outbox)
        client.close(done=False)
        self.assertEqual(self.kind_of(tickets[1]), "kept")
        with self.assertRaisesRegex(OutboxError, "belongs to the client 'tester'"):
            self.make("127.0.0.1", self.port, "another", outbox=self.outbox)
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        self.assertEqual(
            (peer.hello.session, peer.hello.token, peer.hello.acknowledged, peer.hello.committed), (7, TOKEN, 1, 1)
        )
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
        self.assertEqual(self.told(message_max=1000), (9000, 1 << 20))  # also what it said later
        client = self.client(outbox=self.outbox, message_max=1000, window_bytes=1000)
        peer = self.accept()
        peer.welcome(outcome=0, session=8, committed=0, acknowledged=0)  # that HELLO begins a new session
        self.event("new session")
        client.close(done=False)
        self.assertEqual(self.told(message_max=1000), (9000, 1 << 20))

    def test_a_new_session_was_told_nothing_yet(self) -> None:
        self.assertEqual(self.told(message_max=5000, window_bytes=5000), (5000, 5000))
        client = self.client(outbox=self.outbox, message_max=1000, window_bytes=1000)
        self.accept().send(Bye(codes.BAD_TOKEN, 0, 0, 0, "bad token"))
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.message_max, peer.hello.window_bytes), (0, 1000, 1000))
        client.close(done=False)

    def test_the_limit_is_on_disk_before_the_gateway_hears_of_it(self) -> None:
        self.told(message_max=1000)
        client = self.client(outbox=self.outbox, message_max=5000)
        peer = self.accept()  # which has read HELLO
        client._session.outbox.close()
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
        self.assertEqual(
            (
                peer.hello.session,
                peer.hello.token,
                peer.hello.acknowledged,
                peer.hello.committed,
                peer.hello.message_max,
            ),
            (7, TOKEN, 3, 5, 5000),
        )
        peer.welcome()
        peer.expect(Message(4, b"a"))
        client.close(done=False)
        self.assertEqual(self.told(message_max=1000), (5000, 1 << 20))
        with contextlib.closing(sqlite3.connect(self.outbox)) as file, file:
            file.execute("PRAGMA user_version = 3")
        with self.assertRaisesRegex(OutboxError, "made by a newer version"):
            self.make("127.0.0.1", self.port, "tester", outbox=self.outbox)


class FullDisk:
    """In the place of a database: what writes fails while `full` is set."""

    def __init__(self, db: Any) -> None:
        self.db, self.full, self.tries = db, threading.Event(), 0

    def __enter__(self) -> FullDisk:
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
    def full(self, client: Any) -> FullDisk:
        disk = client._session.outbox._db = FullDisk(client._session.outbox._db)
        disk.full.set()
        return disk

    def test_receipts_wait_and_the_connection_is_kept(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome(beat_interval=200)
        ticket = client.submit(b"a")
        peer.expect(Message(1, b"a"))
        with self.assertLogs("pulsegate", "WARNING") as logs:
            disk, began = self.full(client), time.monotonic()
            peer.send(Receipt(1))
            self.assertEqual([peer.read() for _ in range(6)], [Beat(0)] * 6)  # and no CONFIRM
            self.assertIsNone(ticket.outcome)
            self.assertLess(disk.tries, 10 + 10 * (time.monotonic() - began))  # it doesn't spin
            disk.full.clear()
            peer.expect(Confirm(1))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual(
            [event for event in list(self.events.queue) if event[0] == "committed"], [("committed", (1, 2))]
        )
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
            client.submit(b"x")
        with self.assertRaisesRegex(Full, "disk is full"):
            client.send(b"x", timeout=0.1)
        self.assertIsNone(client.receive(0.1))
        threading.Timer(0.2, disk.full.clear).start()
        client.submit(b"y", None)
        self.assertEqual(client.receive(PATIENCE), Message(1, b"in"))
        frames = [peer.read() for _ in range(3)]
        self.assertIn(Message(1, b"y"), frames)

    def test_no_number_goes_out_that_is_not_on_disk(self) -> None:
        client = self.client(outbox=self.outbox)
        client.submit(b"a")
        peer = self.accept()
        disk = self.full(client)
        peer.welcome()
        while (frame := peer.read()) is not None:  # the token is not on disk: no frame but BYE (5.8)
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
            client.submit(b"b")
        disk.full.clear()
        second = client.submit(b"c", None)
        peer.expect(Message(2, b"c"))
        peer.send(Receipt(2))
        self.assertEqual(self.kind_of(second), "committed")

    def test_new_messages_leave_room_to_send_and_to_settle(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        tickets = [client.submit(bytes(5000)) for _ in range(100)]
        with mock.patch("shutil.disk_usage") as usage:
            usage.return_value.free = 200_000
            with self.assertRaisesRegex(Full, "but for what is needed to send"):
                client.submit(b"x")
            for number in range(1, 101):
                peer.expect(Message(number, bytes(5000)))
            peer.send(Receipt(100))
            self.assertEqual(self.kind_of(tickets[-1]), "committed")
            client.submit(b"x", PATIENCE)  # the file itself has room now


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

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_it_is_made_for_its_owner_only(self) -> None:
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        with self.no_warnings():
            client = self.client(outbox=self.outbox)
            client.submit(b"x")
        self.assertEqual([self.mode(self.outbox + each) for each in ("", "-wal")], [0o600, 0o600])

    def test_one_that_others_could_open_is_closed_to_them(self) -> None:
        self.client(outbox=self.outbox).close(done=False)
        os.chmod(self.outbox, 0o644)
        with self.assertLogs("pulsegate", "WARNING") as logs:
            self.client(outbox=self.outbox)
        self.assertIn(f"others could open {self.outbox} (mode 644)", logs.output[0])
        self.assertEqual(self.mode(self.outbox), 0o600)

    def test_a_folder_in_which_others_can_replace_it_is_a_warning(self) -> None:
        folder = os.path.dirname(self.outbox)
        os.chmod(folder, 0o1777)
        with self.no_warnings():
            self.client(outbox=self.outbox).close(done=False)
        os.chmod(folder, 0o777)
        with self.assertLogs("pulsegate", "WARNING") as logs:
            self.client(outbox=self.outbox)
        self.assertIn(f"others can replace the outbox, for they can write in the folder {folder}", logs.output[0])

    @contextlib.contextmanager
    def no_warnings(self) -> Iterator[None]:
        with mock.patch("pulsegate.session._log.warning") as warning:
            yield
        self.assertEqual(warning.call_args_list, [])
