"""The outbox: what outlives a connection and, in a file, the process (5.8).

It keeps the session, and each message until it has ended. Of the protocol it knows one rule: a message
gets its number in a transaction before it is sent. So a row with a number may have been sent, and one
without a number never was.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .files import keep_private, make_private, why_unusable
from .frames import NO_TOKEN
from .outcomes import OutboxError, Outcome

VERSION = 2  # of the file's format, in its user_version; 0 is the first, which has no `told_max`
RESERVE = 1 << 18  # bytes of the disk that new messages leave free
OVERHEAD = 256  # bytes that each message counts besides its payload, so that empty ones are bounded too


class Entry:
    """A message on its way, without its payload.

    number: None until it is sent (7.1). outcome: None until it has ended. size: bytes of its payload.
    """

    def __init__(self, key: int, number: int | None, size: int) -> None:
        self.key = key  # its row
        self.number = number
        self.size = size
        self.outcome: Outcome | None = None
        self.told: Outcome | None = None  # the application knows it, and the outbox has to forget it yet

    def end(self, outcome: Outcome) -> None:
        """The message has ended."""
        self.outcome = outcome


MakeEntry = Callable[[int, "int | None", int], Entry]


@dataclass(frozen=True)
class State:
    """What is stored besides the messages."""

    session: int  # 0: none
    token: bytes  # the newest
    settled: int  # the client's messages up to this number are settled
    cursor: int  # the gateway's messages up to this number are taken
    told_max: int  # bytes: the highest `message_max` that the gateway was told in this session (5.2)


class Outbox:
    """The session and the messages that are not settled, in an SQLite file or in memory.

    The file is locked while it is open, for two clients with one file would use a number twice. `queue`
    has the messages without their payloads, in their order. Only one thread may call this at a time.

    A failed write raises sqlite3.OperationalError and changes nothing, so it can be tried again.
    """

    def __init__(self, path: str | os.PathLike[str] | None, client_id: str, make_entry: MakeEntry = Entry) -> None:
        self.path = None if path is None else os.path.abspath(os.fspath(path))
        self.warnings: list[str] = []  # what others could do with the file
        try:
            if self.path is not None:
                make_private(self.path)
            self._db = sqlite3.connect(self.path or ":memory:", timeout=1.0, check_same_thread=False)
            self._open(client_id, make_entry)
            if self.path is not None:
                self.warnings = keep_private(self.path)
        except OutboxError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(self.why_unusable(error)) from None

    def why_unusable(self, error: Exception) -> str:
        """A sentence that says why it can't be used, and what to do."""
        return why_unusable(self.path, error) if self.path else f"the outbox in memory can't be used: {error}"

    def _open(self, client_id: str, make_entry: MakeEntry) -> None:
        db = self._db
        try:
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                db.execute("PRAGMA " + pragma)
            with db:
                self._prepare(db, client_id)
            stored, session, token, settled, cursor, told_max = db.execute(
                "SELECT id, session, token, settled, cursor, told_max FROM state"
            ).fetchone()
            if stored != client_id:
                raise OutboxError(
                    f"the outbox {self.path} belongs to the client {stored!r}: use that id, or another file"
                )
            rows = db.execute("SELECT key, number, length(payload) FROM outbox ORDER BY key").fetchall()
        except BaseException:
            db.close()
            raise
        self.state = State(int(session), token, int(settled), int(cursor), told_max)
        self.queue: deque[Entry] = deque(make_entry(*row) for row in rows)
        self.bytes = sum(entry.size + OVERHEAD for entry in self.queue)
        self.highest = self.state.settled + len(self.in_flight())  # the highest number that may have been sent
        self._largest = max((entry.size for entry in self.queue), default=0)  # that there was here

    def _prepare(self, db: sqlite3.Connection, client_id: str) -> None:
        """Makes the tables, or brings those of an older version up to this one."""
        db.execute("BEGIN IMMEDIATE")  # sqlite3 itself begins no transaction for what changes tables
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise OutboxError(f"the outbox {self.path} was made by a newer version: use that version, or another file")
        # What the gateway chooses is text, for SQLite's integers have 63 bits and a sign.
        db.execute("CREATE TABLE IF NOT EXISTS state (id, session TEXT, token, settled TEXT, cursor TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS outbox (key INTEGER PRIMARY KEY, number INTEGER, payload BLOB)")
        if version < VERSION:  # what an older version told its gateway is not known
            db.execute("ALTER TABLE state ADD COLUMN told_max INTEGER NOT NULL DEFAULT 0")
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute(
            "INSERT INTO state (id, session, token, settled, cursor) SELECT ?, 0, ?, 0, 0 "
            "WHERE NOT EXISTS (SELECT * FROM state)",
            (client_id, NO_TOKEN),
        )

    def close(self) -> None:
        """Releases the file. What is committed stays, whatever comes of this."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def in_flight(self) -> list[Entry]:
        """The messages that may have been sent, lowest number first."""
        return list(itertools.takewhile(lambda entry: entry.number is not None, self.queue))

    def payload(self, entry: Entry) -> bytes:
        """What the message says."""
        (payload,) = self._db.execute("SELECT payload FROM outbox WHERE key = ?", (entry.key,)).fetchone()
        return bytes(payload)

    def append(self, entry: Entry, payload: bytes) -> None:
        """Takes a message in, at the end."""
        if not self._has_room(len(payload)):
            self.make_room()
            if not self._has_room(len(payload)):
                raise sqlite3.OperationalError("the disk is full, but for what is needed to send what it holds")
        self._largest = max(self._largest, len(payload))
        with self._transaction() as db:
            entry.key = db.execute("INSERT INTO outbox (payload) VALUES (?)", (payload,)).lastrowid or 0
        self.queue.append(entry)
        self.bytes += entry.size + OVERHEAD

    def assign(self, entries: Sequence[Entry]) -> None:
        """Gives the next numbers to those that have none."""
        fresh = [entry for entry in entries if entry.number is None]
        if fresh:
            with self._transaction() as db:
                db.executemany(
                    "UPDATE outbox SET number = ? WHERE key = ?",
                    [(self.highest + i, entry.key) for i, entry in enumerate(fresh, 1)],
                )
        for entry in fresh:
            entry.number = self.highest = self.highest + 1

    def write(self, state: State, forget: Sequence[Entry] = ()) -> None:
        """Stores the state and forgets messages, in one transaction."""
        with self._transaction() as db:
            db.executemany("DELETE FROM outbox WHERE key = ?", [(entry.key,) for entry in forget])
            db.execute(
                "UPDATE state SET session = ?, token = ?, settled = ?, cursor = ?, told_max = ?",
                (str(state.session), state.token, str(state.settled), str(state.cursor), state.told_max),
            )
        for entry in forget:
            self.queue.remove(entry)  # nearly always the first one
            self.bytes -= entry.size + OVERHEAD
        self.state = state

    def probe(self) -> None:
        """Writes something that changes nothing, to see whether it can be written."""
        with self._transaction() as db:
            db.execute("UPDATE state SET id = id")

    def make_room(self) -> None:
        """Empties the write-ahead log, which grows with deletions too."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def few(self, entries: list[Entry]) -> list[Entry]:
        """As many of the first as fit into a quarter of the reserve when they change; at least one."""
        ends = itertools.accumulate(entry.size + OVERHEAD for entry in entries)
        return entries[: max(1, sum(1 for end in ends if end <= RESERVE // 4))]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                yield self._db
        finally:  # older versions of sqlite3 leave it open if the commit fails
            if self._db.in_transaction:
                self._db.rollback()

    def _has_room(self, size: int) -> bool:
        """Whether the disk takes this many bytes more, and then still all that sending and deleting takes."""
        if self.path is None:
            return True
        with contextlib.suppress(OSError):  # of such a file system nothing is known
            log = os.stat(self.path + "-wal").st_size
            free = shutil.disk_usage(os.path.dirname(self.path)).free
            need = log + 2 * size + 2 * self._largest + RESERVE
            if free < need:  # what was deleted leaves room within the file
                (pages,) = self._db.execute("PRAGMA freelist_count").fetchone()
                (page_size,) = self._db.execute("PRAGMA page_size").fetchone()
                return bool(free >= need - RESERVE // 2 and free + pages * page_size >= need)
        return True
