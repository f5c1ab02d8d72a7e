"""A client of the pulse protocol, version 1, in one file: Python 3.9 or newer, and nothing but its standard library.

    with Client("gateway.example", 7000, "sensor-7", outbox="sensor-7.db") as client:
        outcome = client.send(b"hello")         # waits, at most 30 s, until the gateway has it, or says why not
        for message in client.messages():       # what the gateway sends
            print(message.number, message.payload)

One background thread does all the network I/O. It reconnects, resumes the session and sends again what the gateway
has not committed. With an outbox file all of this outlives the process, however it ends. What goes wrong meanwhile is
said through `logging`, by the logger "pulsegate". Numbers of sections in comments are those of PROTOCOL.md. Frames
carry milliseconds, as the protocol does; everything else is in seconds.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import contextlib
import dataclasses
import io
import itertools
import logging
import os
import random
import selectors
import shutil
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
import traceback
import unicodedata
from dataclasses import dataclass, field, replace
from typing import Any, Callable, ClassVar, Deque, Dict, Iterator, List, Optional, Set, Tuple, Type, Union

PREFACE = b"PULSE\x00\x01\n"
CURSOR_MAX = (1 << 63) - 1               # the highest cursor in HELLO and WELCOME (9)
BODY_MAX = 1024                          # bytes: every body but that of MESSAGE (3.3)
TEXT_MAX = 512                           # bytes (9)
ID_MAX = 128                             # bytes (9)
MESSAGE_MAX = 16_000_000                 # bytes: the highest `message_max` (5.1, 5.2)
REFUSED_MAX = 64                         # refusals in HELLO and WELCOME (5.7)
NEVER, NOW, LATER = 0, 1, 2              # the retry classes (8.2)
DONE, BACK_SOON, BAD_TOKEN = 0, 1, 50    # codes (8.3); those that this side finds by itself follow
CODES: Dict[str, Tuple[int, int]] = {
    "malformed frame": (32, NEVER), "unknown frame": (33, NEVER), "frame too large": (34, NEVER),
    "frame out of place": (35, NEVER), "sequence gap": (37, NEVER), "window exceeded": (38, NEVER),
    "text is not utf-8": (39, NEVER), "truncated frame": (40, NOW), "peer closed": (90, NOW),
    "peer vanished": (92, NOW), "socket error": (93, NOW)}
REFUSED_BECAUSE = {1: "too large for the destination", 2: "over quota", 3: "not wanted", 4: "the store is full",
                   5: "the share of this address is used up", 6: "not authorized"}   # 7.3
DURABILITY = {0: "in memory only", 1: "with the operating system", 2: "synced to disk"}   # 5.2
RECEIPTS_STOPPED, RECEIPTS_GO_ON, READING_RESTS = 3, 4, 5   # NOTICE codes (8.1); 1 and 2 announce an end
NO_TOKEN = bytes(16)
_log = logging.getLogger("pulsegate")

Refused = Tuple[Tuple[int, int], ...]    # a number and a code each (5.7)


# ---- frames (3)

class ProtocolError(Exception):
    """The other side broke a rule; `reason` is one of the words of 8.3."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("text is not utf-8", str(error)) from None


def _refused(raw: bytes) -> Refused:
    if len(raw) % 10 or len(raw) > 10 * REFUSED_MAX:
        raise ProtocolError("malformed frame", "the list of refusals")
    return tuple(struct.iter_unpack(">QH", raw))


def _in_order(refused: Refused, committed: int) -> bool:
    return list(refused) == sorted(dict(refused).items()) and all(0 < number <= committed for number, _ in refused)


def _pack(refused: Refused) -> bytes:
    return b"".join(struct.pack(">QH", number, code) for number, code in refused)


class Frame:
    """What all frames have in common. A body is a fixed part, the fields in their order, and then at most `ROOM` bytes,
    which are the last field: `read_tail` makes it of them, `write_tail` them of it."""
    TYPE: ClassVar[int]
    FIXED: ClassVar[struct.Struct]
    ROOM: ClassVar[int] = 0

    def body(self) -> bytes:
        values = [getattr(self, each.name) for each in dataclasses.fields(self)]   # type: ignore[arg-type]
        if not self.ROOM:
            return self.FIXED.pack(*values)
        *fixed, tail = values
        return self.FIXED.pack(*fixed) + self.write_tail(tail)

    @classmethod
    def parse(cls, body: bytes) -> Frame:
        """The frame of a body whose length is right. Fields are looked at in the order in which they stand (3.1)."""
        make: Callable[..., Frame] = cls
        fixed = cls.FIXED.unpack_from(body)
        if not cls.ROOM:
            return make(*fixed)
        head = make(*fixed, cls.read_tail(b""))
        if not head.is_sound() or head.body() != body[:cls.FIXED.size]:
            raise ProtocolError("malformed frame", repr(head)[:80])
        return make(*fixed, cls.read_tail(body[cls.FIXED.size:]))

    @staticmethod
    def read_tail(raw: bytes) -> Any:
        return _text(raw)

    @staticmethod
    def write_tail(tail: Any) -> bytes:
        text: str = tail
        return text.encode("utf-8")

    def is_sound(self) -> bool:
        """Whether all fields are in their ranges."""
        return True


def _can_send(window_messages: int, window_bytes: int, message_max: int) -> bool:
    """With a window of nothing, nothing could ever be sent."""
    return window_messages >= 1 and 1 <= message_max <= min(MESSAGE_MAX, window_bytes)


@dataclass(frozen=True)
class Hello(Frame):
    """5.1. Times in milliseconds, sizes in bytes."""
    TYPE = 1
    FIXED = struct.Struct(">BxHIIIIIQ16sQQ")   # with the length of the id behind the lifetime
    ROOM = ID_MAX + 10 * REFUSED_MAX           # the id and the refusals

    lifetime: int
    beat_min: int
    beat_max: int
    window_messages: int
    window_bytes: int
    message_max: int
    session: int
    token: bytes
    committed: int
    acknowledged: int
    id: str
    refused: Refused = ()

    def body(self) -> bytes:
        id = self.id.encode("utf-8")
        fixed = self.FIXED.pack(self.lifetime, len(id), self.beat_min, self.beat_max, self.window_messages,
                                self.window_bytes, self.message_max, self.session, self.token, self.committed,
                                self.acknowledged)
        return fixed + id + _pack(self.refused)

    @classmethod
    def parse(cls, body: bytes) -> Hello:
        (lifetime, id_length, beat_min, beat_max, window_messages, window_bytes, message_max, session, token, committed,
         acknowledged) = cls.FIXED.unpack_from(body)
        id_end = cls.FIXED.size + id_length
        return cls(lifetime, beat_min, beat_max, window_messages, window_bytes, message_max, session, token, committed,
                   acknowledged, _text(body[cls.FIXED.size:id_end]), _refused(body[id_end:]))

    def is_sound(self) -> bool:
        if self.session == 0 and (self.token, self.committed, self.acknowledged) != (NO_TOKEN, 0, 0):
            return False
        return (self.lifetime <= 2
                and self.beat_min <= self.beat_max
                and _can_send(self.window_messages, self.window_bytes, self.message_max)
                and self.committed <= CURSOR_MAX
                and self.acknowledged <= CURSOR_MAX
                and 1 <= len(self.id.encode("utf-8")) <= ID_MAX
                and _in_order(self.refused, self.committed))


@dataclass(frozen=True)
class Welcome(Frame):
    """5.2. Times in milliseconds, sizes in bytes."""
    TYPE = 2
    FIXED = struct.Struct(">BBBxIIIIIIIQQ16sQQQQ")
    ROOM = 10 * REFUSED_MAX

    outcome: int
    lifetime: int
    durability: int
    beat_interval: int
    beat_timeout: int
    remaining: int
    session_ttl: int
    window_messages: int
    window_bytes: int
    message_max: int
    server_time: int
    session: int
    token: bytes
    committed: int
    acknowledged: int
    lost_from: int
    lost_to: int
    refused: Refused = ()

    @staticmethod
    def read_tail(raw: bytes) -> Refused:
        return _refused(raw)

    @staticmethod
    def write_tail(tail: Refused) -> bytes:
        return _pack(tail)

    def is_sound(self) -> bool:
        if self.outcome == 0 and (self.committed, self.acknowledged, self.lost_to) != (0, 0, 0):
            return False
        return (self.outcome <= 1
                and 1 <= self.lifetime <= 2
                and _can_send(self.window_messages, self.window_bytes, self.message_max)
                and self.session != 0
                and self.committed <= CURSOR_MAX
                and self.acknowledged <= CURSOR_MAX
                and self.lost_from <= self.lost_to
                and (self.lost_from > 0 or self.lost_to == 0)
                and _in_order(self.refused, self.committed))


@dataclass(frozen=True)
class Beat(Frame):
    """6. 0 a beat, 1 a question, 2 an answer."""
    TYPE = 3
    FIXED = struct.Struct(">B")

    kind: int

    def is_sound(self) -> bool:
        return self.kind <= 2


@dataclass(frozen=True)
class Message(Frame):
    """7.1. Also what the application gets from `Client.receive`."""
    TYPE = 4
    FIXED = struct.Struct(">Q")
    ROOM = 0xFFFFFF - 8

    number: int
    payload: bytes

    @staticmethod
    def read_tail(raw: bytes) -> bytes:
        return raw

    @staticmethod
    def write_tail(tail: bytes) -> bytes:
        return tail

    def is_sound(self) -> bool:
        return self.number > 0


@dataclass(frozen=True)
class Receipt(Frame):
    """7.2."""
    TYPE = 5
    FIXED = struct.Struct(">Q")

    committed: int


@dataclass(frozen=True)
class Refuse(Frame):
    """7.3."""
    TYPE = 6
    FIXED = struct.Struct(">QH")
    ROOM = TEXT_MAX

    number: int
    code: int
    text: str = ""

    def is_sound(self) -> bool:
        return self.number > 0


@dataclass(frozen=True)
class Confirm(Frame):
    """7.4."""
    TYPE = 7
    FIXED = struct.Struct(">Q")

    floor: int


@dataclass(frozen=True)
class Notice(Frame):
    """8.1. `within`, which the protocol calls *in*, is in milliseconds."""
    TYPE = 8
    FIXED = struct.Struct(">HI")
    ROOM = TEXT_MAX

    code: int
    within: int
    text: str = ""


@dataclass(frozen=True)
class Bye(Frame):
    """8.2. `delay` in milliseconds."""
    TYPE = 9
    FIXED = struct.Struct(">HBxIQ")
    ROOM = TEXT_MAX

    code: int
    retry: int = NEVER
    delay: int = 0
    committed: int = 0
    text: str = ""

    def is_sound(self) -> bool:
        return self.retry <= LATER


FRAMES: Dict[int, Type[Frame]] = {
    kind.TYPE: kind for kind in (Hello, Welcome, Beat, Message, Receipt, Refuse, Confirm, Notice, Bye)}


def encode(frame: Frame) -> bytes:
    """Header and body of one frame."""
    body = frame.body()
    return (frame.TYPE << 24 | len(body)).to_bytes(4, "big") + body


class FrameReader:
    """Cuts a stream into frames: `feed` what one read gave, then call `next` until it says None.

    A length is judged as soon as its header is there, so no more than one permitted frame is ever kept. `message_max`
    (bytes) is what this side told the other one; it applies once `opened` is set, which is after WELCOME (3.3).
    `proofs` counts what shows that the other side is alive (3.4), `inside` says whether a frame has begun.
    """

    def __init__(self, message_max: int, *, opened: bool = False) -> None:
        self.message_max = message_max
        self.opened = opened
        self.proofs = 0
        self._buffer = bytearray()
        self._counted = 0   # proofs that the unfinished MESSAGE has given

    @property
    def inside(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Optional[Frame]:
        while len(self._buffer) >= 4:
            type = self._buffer[0]
            length = int.from_bytes(self._buffer[1:4], "big")
            known = FRAMES.get(type)
            if known is None and type < 0x80:
                raise ProtocolError("unknown frame", f"type {type:#04x}")
            limit = self.message_max + 8 if known is Message and self.opened else BODY_MAX
            if length > limit:
                raise ProtocolError("frame too large", f"{length} bytes, where {limit} are allowed")
            if known and not known.FIXED.size <= length <= known.FIXED.size + known.ROOM:
                raise ProtocolError("malformed frame", f"{length} bytes for {known.__name__}")
            if len(self._buffer) < 4 + length:
                if known is Message:
                    proofs = (len(self._buffer) - 4) // 1024
                    self.proofs += proofs - self._counted
                    self._counted = proofs
                return None
            body = bytes(self._buffer[4:4 + length])
            frame = known.parse(body) if known else None
            # A field called *zero* reads as padding; if it isn't 0, the body doesn't come out as it went in.
            if frame and not (frame.is_sound() and (known is Message or frame.body() == body)):
                raise ProtocolError("malformed frame", repr(frame)[:80])
            del self._buffer[:4 + length]
            self.proofs += 1
            self._counted = 0
            if frame:
                return frame
        return None


# ---- what outlives a connection (5.8)

@dataclass(frozen=True)
class Outcome:
    """How a message ended (7.5): "committed", "not accepted" (with the code of 7.3, or 0 if it was never sent) or
    "unknown". "kept" is no end: the client stopped, and the outbox file has the message for the next one.
    `durability` is what committed means (5.2), `text` says it: 0 "in memory only", 1 "with the operating system",
    2 "synced to disk", or a number that this client doesn't know."""
    kind: str
    code: int = 0
    text: str = ""
    durability: Optional[int] = None


@dataclass(frozen=True)
class Closed:
    """How a connection, or the client, ended: code and retry as in 8.2, delay in seconds."""
    code: int
    retry: int
    delay: float
    text: str
    no_gateway: bool = False   # nobody there speaks the pulse protocol


class Ended(Exception):
    """The client has ended; the argument is how, a `Closed`."""


class Full(Exception):
    """The outbox holds as much as it may, or can't be written now."""


class Unsettled(TimeoutError):
    """A message has not ended in the time that `send` was given. It goes on: `ticket` waits for it."""

    def __init__(self, words: str, ticket: Ticket) -> None:
        super().__init__(words)
        self.ticket = ticket


class OutboxError(OSError):
    """The outbox file can't be used; the words say which path, and what is missing for whom."""


class _Lock(threading.Condition):
    """Guards the outbox, the inbox, and how a client ends. Every wait of an application is one of these."""
    io_thread: Optional[threading.Thread] = None   # who does what others wait for, so it must not wait itself

    def wait_until(self, what: str, true: Callable[[], Any], timeout: Optional[float]) -> bool:
        """Whether it is true within `timeout` seconds; None waits for ever. For whoever holds this lock."""
        timeout = _patience(timeout)
        if timeout != 0 and not true():
            self.refuse_io_thread(what)
        return bool(self.wait_for(true, timeout))

    def refuse_io_thread(self, what: str) -> None:
        if threading.current_thread() is self.io_thread:
            raise RuntimeError(f"{what} would wait for ever: on_event is called in the thread that it waits for; "
                               "use send_nowait() there, or call it in another thread")


def _patience(timeout: Optional[float]) -> Optional[float]:
    """A time-out that threading understands: one that is too long is the longest, one below 0 is over."""
    if timeout is not None and timeout != timeout:
        raise ValueError("a time-out is a number of seconds, or None to wait for ever; it was nan")
    return None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)


class Ticket:
    """A message on its way. `number` is None until it is sent, `outcome` until it has ended."""

    def __init__(self, lock: _Lock, key: int, number: Optional[int], size: int) -> None:
        self._lock = lock
        self.key = key
        self.number = number
        self.size = size
        self.outcome: Optional[Outcome] = None
        self.told: Optional[Outcome] = None   # to on_event; it is forgotten next, and that may have to wait

    def wait(self, timeout: Optional[float] = None) -> Optional[Outcome]:
        """The outcome, or None if there is none within `timeout` seconds."""
        with self._lock:
            self._lock.wait_until("wait()", lambda: self.outcome is not None, timeout)
            return self.outcome


def _who() -> str:
    try:
        import pwd
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}, uid {os.geteuid()}"
    except (ImportError, KeyError):
        return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def _unusable(path: str, error: Exception) -> str:
    """Why an outbox can't be used, and what to do. SQLite says "unable to open database file" of everything."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    effective = {"effective_ids": True} if os.access in os.supports_effective_ids else {}

    def may(what: str, mode: int) -> bool:
        return os.access(what, mode, **effective)

    why = str(error)
    if not os.path.isdir(folder):
        while not os.path.lexists(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        why = (f"no permission to search {folder} ({_who()})" if os.path.isdir(folder) and not may(folder, os.X_OK)
               else f"there is no folder {os.path.dirname(path)}: create it")
    elif not may(folder, os.X_OK):
        why = f"no permission to search the folder {folder} ({_who()})"
    elif os.path.isdir(path):
        why = "it is a folder: name a file"
    elif os.path.exists(path) and not may(path, os.R_OK | os.W_OK):
        why = f"no permission to {'write' if may(path, os.R_OK) else 'read'} the file ({_who()})"
    elif not may(folder, os.W_OK):
        why = f"no permission to create files in the folder {folder} ({_who()})"
    elif "locked" in why:
        why = "another client has it open: give each client a file of its own"
    elif "not a database" in why:
        why = "it is a file of another kind: name another one"
    return f"the outbox {path} can't be used: {why}"


class _Outbox:
    """The session and the messages that are not settled, in an sqlite3 file or in memory.

    A message gets its number in a transaction before it is sent: a row with a number may have been sent, one without
    never was. The file is locked while it is open, for two clients with one file would use a number twice. `queue`
    mirrors the rows without their payloads. Whoever uses this holds the client's lock.
    """

    VERSION = 2         # of the file's format, in its user_version; 0 is the first, which has no `told_max`
    RESERVE = 1 << 18   # bytes of the disk that new messages leave free
    ENTRY = 256   # bytes that each message counts besides its payload, so that empty ones are bounded too

    def __init__(self, path: Optional[str], client_id: str, lock: _Lock) -> None:
        self.path = path
        self.lock = lock
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=1.0, check_same_thread=False)
            self._open(client_id)
        except sqlite3.Error as error:
            raise OutboxError(_unusable(path or ":memory:", error)) from None

    def _open(self, client_id: str) -> None:
        db = self._db
        try:
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                db.execute("PRAGMA " + pragma)
            with db:   # what the gateway chooses is text, for sqlite's integers have 63 bits and a sign
                self._prepare(db, client_id)
            stored, session, self.token, settled, cursor, self.told_max = db.execute(
                "SELECT id, session, token, settled, cursor, told_max FROM state").fetchone()
            if stored != client_id:
                raise OutboxError(f"the outbox {self.path} belongs to the client {stored!r}: use that id, or another file")
            rows = db.execute("SELECT key, number, length(payload) FROM outbox ORDER BY key").fetchall()
        except BaseException:
            db.close()
            raise
        self.close = db.close
        self.session = int(session)
        self.settled = int(settled)
        self.cursor = int(cursor)
        self.queue: Deque[Ticket] = collections.deque(Ticket(self.lock, *row) for row in rows)
        self.largest = max((ticket.size for ticket in self.queue), default=0)   # that there was here
        self.bytes = sum(ticket.size + self.ENTRY for ticket in self.queue)
        self.highest = self.settled + len(self.in_flight())   # the highest number that may have been sent

    def _prepare(self, db: sqlite3.Connection, client_id: str) -> None:
        """Makes the tables, or brings those of an older version up to this one."""
        db.execute("BEGIN IMMEDIATE")   # sqlite3 itself begins no transaction for what changes tables
        version, = db.execute("PRAGMA user_version").fetchone()
        if version > self.VERSION:
            raise OutboxError(f"the outbox {self.path} was made by a newer version: use that version, or another file")
        db.execute("CREATE TABLE IF NOT EXISTS state (id, session TEXT, token, settled TEXT, cursor TEXT)")
        db.execute("CREATE TABLE IF NOT EXISTS outbox (key INTEGER PRIMARY KEY, number INTEGER, payload BLOB)")
        if version < self.VERSION:   # what an older version told its gateway is not known
            db.execute("ALTER TABLE state ADD COLUMN told_max INTEGER NOT NULL DEFAULT 0")
            db.execute(f"PRAGMA user_version = {self.VERSION}")
        db.execute("INSERT INTO state (id, session, token, settled, cursor) SELECT ?, 0, ?, 0, 0 "
                   "WHERE NOT EXISTS (SELECT * FROM state)", (client_id, NO_TOKEN))

    def in_flight(self) -> List[Ticket]:
        return list(itertools.takewhile(lambda ticket: ticket.number is not None, self.queue))

    def payload(self, ticket: Ticket) -> bytes:
        return bytes(self._db.execute("SELECT payload FROM outbox WHERE key = ?", (ticket.key,)).fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """What is kept in memory changes only after this, so what has failed can be tried again."""
        try:
            with self._db:
                yield self._db
        finally:   # older versions of sqlite3 leave it open if the commit fails
            if self._db.in_transaction:
                self._db.rollback()

    def make_room(self) -> None:
        """Empties the write-ahead log, which grows with deletions too."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def probe(self) -> None:
        """Writes something that changes nothing."""
        with self._transaction() as db:
            db.execute("UPDATE state SET id = id")

    def _has_room(self, size: int) -> bool:
        """Whether the disk takes more, and then still whatever it takes to send and to delete it."""
        if not self.path:
            return True
        with contextlib.suppress(OSError):   # of such a file system nothing is known
            log = os.stat(self.path + "-wal").st_size
            free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
            need = log + 2 * size + 2 * self.largest + self.RESERVE
            if free < need:   # what was deleted leaves room within the file
                pages, = self._db.execute("PRAGMA freelist_count").fetchone()
                within, = self._db.execute("PRAGMA page_size").fetchone()
                return bool(free >= need - self.RESERVE // 2 and free + pages * within >= need)
        return True

    def few(self, tickets: List[Ticket]) -> List[Ticket]:
        """As many of the first ones as fit into a quarter of the reserve when they are changed; at least one."""
        ends = itertools.accumulate(ticket.size + self.ENTRY for ticket in tickets)
        return tickets[:max(1, sum(1 for end in ends if end <= self.RESERVE // 4))]

    def append(self, ticket: Ticket, payload: bytes) -> None:
        if not self._has_room(len(payload)):
            self.make_room()
            if not self._has_room(len(payload)):
                raise sqlite3.OperationalError("the disk is full, but for what is needed to send what it holds")
        self.largest = max(self.largest, len(payload))
        with self._transaction() as db:
            ticket.key = db.execute("INSERT INTO outbox (payload) VALUES (?)", (payload,)).lastrowid or 0
        self.queue.append(ticket)
        self.bytes += ticket.size + self.ENTRY

    def assign(self, tickets: List[Ticket]) -> None:
        """Gives numbers to those that have none."""
        fresh = [ticket for ticket in tickets if ticket.number is None]
        if fresh:
            with self._transaction() as db:
                db.executemany("UPDATE outbox SET number = ? WHERE key = ?",
                               [(self.highest + i, ticket.key) for i, ticket in enumerate(fresh, 1)])
        for ticket in fresh:
            ticket.number = self.highest = self.highest + 1

    def remove(self, tickets: List[Ticket], **state: Any) -> None:
        """Forgets messages, in one transaction with what that changes of the state."""
        with self._transaction() as db:
            db.executemany("DELETE FROM outbox WHERE key = ?", [(ticket.key,) for ticket in tickets])
            for name, value in state.items():
                db.execute(f"UPDATE state SET {name} = ?", (value if name == "token" else str(value),))
        for ticket in tickets:
            self.queue.remove(ticket)   # nearly always the first one
            self.bytes -= ticket.size + self.ENTRY
        for name, value in state.items():
            setattr(self, name, value)


# ---- the client

PATIENCE = 10.0              # seconds for a connect, and for WELCOME (4)
LINGER = 1.0                 # seconds that the sender of BYE reads on (8.2)
CONFIRM_AFTER = 0.010        # seconds; 20 ms is the latest (7.4)
CONFIRM_COUNT = 8            # 7.4
MUTE_MAX = 10                # connections in a row that end without a byte: no gateway of this protocol (8.2)
DISK_AGAIN = 0.5             # seconds between attempts to write an outbox that can't be written
WARN_AGAIN = 30.0            # seconds between warnings of one kind
REPLACED, DRAIN = 51, 70     # codes with a meaning of their own for the back-off (8.2)
RAW_LISTENER = 49            # 8.3: a gateway, but none of this protocol
GOODBYES = {DONE: "the client is done for good", BACK_SOON: "the client means to come back"}   # 8.3
NO_FRAME = ("unknown frame", "frame too large", "malformed frame", "text is not utf-8")   # before WELCOME: no gateway
NO_GATEWAY = ("there is no gateway of the pulse protocol at {}:{}, or its listener is for raw clients only: "
              "check the address, and set protocol = \"pulse\" or \"auto\" for that listener")


def _millis(name: str, seconds: float) -> int:
    if not 0 <= seconds <= 4_294_967.295:   # which nan is not
        raise ValueError(f"{name} is 0 to 4294967.295 seconds, not {seconds}")
    return round(seconds * 1000)


def readable(text: Union[str, bytes]) -> str:
    """What a stranger sent, made harmless for a terminal: control and format characters are escaped, and backslashes,
    so that nothing looks like an escape that is none."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(_escaped(each) if each == "\\" or unicodedata.category(each) in HIDDEN else each for each in text)


HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")   # categories of characters that drive a terminal, or can't be seen


def _escaped(each: str) -> str:
    if "\udc80" <= each <= "\udcff":   # a byte that is not UTF-8
        return f"\\x{ord(each) - 0xDC00:02x}"
    return each.encode("unicode_escape").decode("ascii")


def _closed(reason: str, text: str) -> Closed:
    return Closed(*CODES[reason], 0.0, text)


@dataclass
class _Link:
    """One connection. Times are those of time.monotonic, in seconds."""
    sock: socket.socket
    reader: FrameReader
    hello: Hello
    out: memoryview                    # what is left of the frame that is being written
    began: float
    heard: float                       # when the gateway last proved that it is alive
    spoke: float                       # when something was last written
    welcome: Optional[Welcome] = None
    is_new: bool = False               # the gateway may never hear of us in its new session, and then forgets it (5.4)
    interval: float = 0.0              # seconds after which to beat
    timeout: float = 0.0               # seconds of silence after which to ask, and again to give up
    sent: int = 0                      # how many messages, from the front of the outbox, are in this window
    ready: Deque[Ticket] = field(default_factory=collections.deque)   # those of them that are not written yet
    former: int = 0                    # the highest number that went out on an earlier connection
    written: int = 0                   # the highest number of ours that went out here, or that WELCOME covers
    receipted: int = 0                 # the highest that the gateway's receipts, or WELCOME, cover
    refusals: Dict[int, Refuse] = field(default_factory=dict)
    confirmed: int = 0                 # our floor, as the gateway knows it
    settled_at: float = 0.0            # when the first message was settled that is not confirmed
    received: int = 0                  # the highest number of the gateway's that came here, or that HELLO covers
    acknowledged: int = 0              # our last receipt, or what HELLO covers
    answer_due: bool = False
    asked: Optional[float] = None      # when the question went out that has no answer
    parted: Optional[float] = None     # when it was left; nothing is said after that
    end: Optional[Closed] = None       # how it ends, once left
    attached_at: float = 0.0           # when WELCOME came
    said_bye: bool = False             # whether the gateway did
    settled: bool = False              # whether a receipt has settled something here
    announced: bool = False            # whether the gateway said that this connection will end
    astray: bool = False               # whether its WELCOME was for what HELLO did not name
    mute: bool = True                  # whether nothing has come yet
    closed: Optional[Closed] = None    # how it has ended


class Client:
    """A client of one gateway.

    host, port: the gateway. id: who this client is, 1 to 128 bytes of text.
    lifetime: "any", "short" or "long": what to ask for.
    beat_min, beat_max: the seconds between heartbeats that suit this client; 0 for both: no wish.
    window_messages, window_bytes: how much the gateway may send ahead of what the application takes.
    message_max: the longest payload that this client takes, in bytes. Within a session it never becomes less: one that
        is resumed with a lower value goes on with the highest that it was told, and with a window that holds it.
    outbox: path of an sqlite3 file; without it, what is not settled lives in memory only.
    outbox_bytes_max: how much may wait unsettled, in bytes; a message counts its payload and 256 bytes.
    reconnect: False ends the client with its first connection.
    backoff_first, backoff_longest, steady: how long the random wait before a reconnect is at first and at most, and
        after how many seconds attached it begins anew (8.2).
    mute_max: how many connections in a row may end without a single byte, before there was a session, until this
        client takes it that no gateway of this protocol is there.
    exit_wait: how long the interpreter's exit waits for messages that have not ended, if `close` was not called, in
        seconds. What has not ended then is said in a warning.
    on_event: called in the I/O thread with a kind and a detail. It must not wait for what that thread does, so
        `send`, `receive` and `wait` refuse to wait in it, and `close` doesn't wait; `send_nowait` is for it.
        "connected" (address), "new session", "resumed" (its number), "sent", "sent again", "confirmed", "unknown"
        (number), "committed" (number, durability), "refused" (number or 0, code, text), "lost", "lost incoming"
        (first, last number), "notice" (a Notice), "bye", "disconnected" (a Closed), "reconnecting" (seconds).
        The end of a message is told before the outbox forgets it: a crash can repeat it, but never swallow it.

    `closed` is None while the client lives. `restored` has the tickets of what a former client left in the outbox.
    `durability` is what committed means at this gateway (5.2), None before it is known.
    This client refuses nothing: what it doesn't want it can take and throw away.

    While the outbox can't be written (a full disk), nothing new is accepted, sent or settled; the connection is kept,
    and all goes on once there is room.
    """

    def __init__(self, host: str, port: int, id: str, *, lifetime: str = "any", beat_min: float = 0.0,
                 beat_max: float = 0.0, window_messages: int = 64, window_bytes: int = 1 << 20,
                 message_max: int = 1 << 18, outbox: Optional[str] = None, outbox_bytes_max: int = 8 << 20,
                 reconnect: bool = True, backoff_first: float = 0.1, backoff_longest: float = 60.0,
                 steady: float = 30.0, mute_max: int = MUTE_MAX, exit_wait: float = 5.0,
                 on_event: Optional[Callable[[str, Any], None]] = None) -> None:
        if not isinstance(host, str) or not isinstance(id, str):
            raise TypeError("host and id are text (str)")
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"port is a number from 1 to 65535, not {port!r}")
        if lifetime not in ("any", "short", "long"):
            raise ValueError(f"lifetime is \"any\", \"short\" or \"long\", not {lifetime!r}")
        if not 0 < window_messages < 1 << 32 or not 0 < window_bytes < 1 << 32:
            raise ValueError("window_messages and window_bytes are 1 to 4294967295")
        millis = [_millis(name, seconds) for name, seconds in [
            ("beat_min", beat_min), ("beat_max", beat_max), ("backoff_first", backoff_first),
            ("backoff_longest", backoff_longest), ("steady", steady), ("exit_wait", exit_wait)]]
        if beat_min > beat_max:
            raise ValueError("beat_max is at least beat_min, or both are 0 for no wish")
        self._hello = Hello(["any", "short", "long"].index(lifetime), millis[0], millis[1],
                            window_messages, window_bytes, message_max, 0, NO_TOKEN, 0, 0, id)
        if not self._hello.is_sound():
            raise ValueError("id has 1 to 128 bytes, message_max is 1 to 16,000,000 and at most window_bytes")
        self._address = (host, port)
        self._reconnect = reconnect
        self._on_event = on_event
        self._first = backoff_first
        self._longest = backoff_longest
        self._steady = steady
        self._mute_max = mute_max
        self._exit_wait = exit_wait
        self._lock = _Lock(threading.RLock())   # guards the outbox, the inbox, and how it ends
        self._outbox = _Outbox(outbox, id, self._lock)
        self._durable = outbox is not None
        self._bytes_max = outbox_bytes_max
        self._inbox: Deque[Message] = collections.deque()   # came on the newest connection, and is not taken
        self._message_max = Message.ROOM                    # what the gateway takes, once that is known
        self._closing: Optional[str] = None                 # or "done", or "back"
        self._away = "it is not connected yet"              # why, while it isn't attached
        self._full = ""                                     # why the outbox can't be written, if it can't
        self._full_until = 0.0                              # when the I/O thread tries again
        self._warned: Dict[str, float] = {}                 # when it was last warned of each kind of thing
        self.restored: List[Ticket] = list(self._outbox.queue)
        self.closed: Optional[Closed] = None
        self.durability: Optional[int] = None
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = self._lock.io_thread = threading.Thread(target=self._run, name=f"pulse {id}", daemon=True)
        _living.add(self)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self.close(done=kind is None)

    def send(self, payload: bytes, timeout: Optional[float] = 30.0) -> Outcome:
        """Sends a message and waits for its end. Unsettled, a TimeoutError with the `ticket`, after `timeout` seconds:
        the message goes on, so don't send it again, but wait for its ticket. None waits for ever."""
        began = time.monotonic()
        timeout = _patience(timeout)
        self._lock.refuse_io_thread("send()")   # before the message is accepted
        ticket = self.send_nowait(payload, timeout)
        outcome = ticket.wait(None if timeout is None else began + timeout - time.monotonic())
        if outcome is None:
            why = self._full or self._away
            raise Unsettled(f"the message has not ended within {timeout:g} s{why and f' ({why})'}; it goes on, and "
                            "this exception's ticket waits for it", ticket)
        return outcome

    def send_nowait(self, payload: bytes, wait_for_room: Optional[float] = 0.0) -> Ticket:
        """Accepts a message (with an outbox file: it is on disk when this returns). Full, if there is no room within
        `wait_for_room` seconds; None waits for ever."""
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            hint = ": encode it, as in text.encode()" if isinstance(payload, str) else ""
            raise TypeError(f"a payload is bytes, not {type(payload).__name__}{hint}")
        box = self._outbox
        payload = bytes(payload)
        size = len(payload) + _Outbox.ENTRY
        patience = _patience(wait_for_room)
        until = None if patience is None else time.monotonic() + patience
        with self._lock:
            ticket = Ticket(self._lock, 0, None, len(payload))
            while True:
                if size > self._bytes_max or len(payload) > self._message_max:
                    raise ValueError("the message is longer than the outbox, or what the gateway takes: it has "
                                     f"{len(payload)} bytes, outbox_bytes_max is {self._bytes_max} and counts 256 "
                                     f"more for each message, and the gateway takes {self._message_max}")
                left = None if until is None else max(0.0, until - time.monotonic())
                if not self._lock.wait_until("send_nowait()", lambda: (
                        self.closed or self._closing or box.bytes + size <= self._bytes_max), left):
                    raise Full(f"{box.bytes} bytes wait for the gateway{self._away and f' ({self._away})'}")
                if self.closed or self._closing:
                    raise Ended(self.closed or Closed(DONE, NEVER, 0.0, "the client is closing"))
                if self._on_disk(lambda: box.append(ticket, payload)):
                    break
                if left == 0 or threading.current_thread() is self._thread:
                    raise Full(self._full)
                self._lock.wait(DISK_AGAIN if left is None else min(left, DISK_AGAIN))
        self._wake()
        return ticket

    def receive(self, timeout: Optional[float] = None) -> Optional[Message]:
        """The next message from the gateway, which is thereby committed; None after `timeout` seconds. Raises Ended
        once the client has ended."""
        patience = _patience(timeout)
        until = None if patience is None else time.monotonic() + patience
        with self._lock:
            while True:
                left = None if until is None else max(0.0, until - time.monotonic())
                self._lock.wait_until("receive()", lambda: self._inbox or self.closed, left)
                if self.closed:
                    raise Ended(self.closed)
                if self._inbox:
                    message = self._inbox[0]   # its cursor moves before the RECEIPT (5.8)
                    if self._on_disk(lambda: self._outbox.remove([], cursor=message.number)):
                        self._inbox.popleft()
                        break
                    if threading.current_thread() is self._thread:
                        raise Full(self._full)
                    self._lock.wait(DISK_AGAIN if left is None else min(left, DISK_AGAIN))
                if left == 0:
                    return None
        self._wake()
        return message

    def messages(self) -> Iterator[Message]:
        """Messages from the gateway, each committed as it is handed out, until the client ends."""
        while True:
            try:
                message = self.receive()
            except Ended:
                return
            if message:
                yield message

    def close(self, *, done: bool = True, timeout: Optional[float] = None) -> Optional[Closed]:
        """Ends the client and returns how it ended. With `done` it waits until every message has ended and says that
        it is done for good; without, or after `timeout` seconds, it says that it means to come back.
        A connect that is under way may hold this up for 10 s."""
        timeout = _patience(timeout)
        self._close("done" if done else "back")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout if done else None)
            if self._thread.is_alive():
                return self.close(done=False)
        return self.closed

    def _close(self, how: str) -> None:
        with self._lock:
            self._closing = how if self._closing != "back" else "back"
            self._lock.notify_all()
        self._wake()

    def _exit(self, began: float) -> None:
        """The interpreter ends, and nobody has called `close`."""
        if not self._thread.is_alive():   # it has ended, or this is a fork, which has no such thread
            return
        with self._lock:
            with contextlib.suppress(KeyboardInterrupt):   # whoever interrupts this has waited long enough
                self._lock.wait_for(lambda: self.closed or self._closing == "back" or not self._outbox.queue,
                                    max(0.0, began + self._exit_wait - time.monotonic()))
            left = 0 if self.closed else len(self._outbox.queue)
        if left and self._closing != "back":
            fate = f"are kept in the outbox {self._outbox.path}" if self._durable else "may be lost"
            self._warn("exit", f"the program ends without close(): {left} message{'s' * (left > 1)} that "
                               f"{'have' if left > 1 else 'has'} not ended {fate}")
        self._close("back")
        with contextlib.suppress(KeyboardInterrupt):
            self._thread.join(LINGER + 0.5)

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass   # full, so it will wake; or closed, so nothing is left to do

    def _warn(self, kind: str, text: str) -> None:
        """Warns, but not of the same kind of thing again and again."""
        now = time.monotonic()
        if now >= self._warned.get(kind, -WARN_AGAIN) + WARN_AGAIN:
            self._warned[kind] = now
            _log.warning("%s: %s", readable(self._hello.id), readable(text))

    def _on_disk(self, work: Callable[[], None]) -> bool:
        """Does what writes to the outbox, and says whether that has worked. A full disk is no end: who asked for the
        work keeps it, and asks again. For whoever holds the lock."""
        now = time.monotonic()
        in_thread = threading.current_thread() is self._thread
        if in_thread and self._full and now < self._full_until:
            return False
        try:
            try:
                work()
            except sqlite3.OperationalError:
                self._outbox.make_room()
                work()
        except sqlite3.OperationalError as error:
            path = self._outbox.path
            self._full = (_unusable(path, error) if path and not os.access(path, os.W_OK)
                          else f"the outbox {path or 'in memory'} can't be written: {error}")
            self._full_until = now + DISK_AGAIN if in_thread else self._full_until
            self._warn("outbox", self._full + "; nothing is lost, and this goes on once it can be written")
            return False
        if self._full:
            self._full = ""
            self._warn("outbox again", "the outbox can be written again")
            self._lock.notify_all()
        return True

    # ---- the I/O thread

    def _emit(self, kind: str, detail: Any) -> None:
        if self._on_event:
            try:
                self._on_event(kind, detail)
            except Exception:   # a mistake of the application must not stop the exchange
                traceback.print_exc()

    def _run(self) -> None:
        try:
            closed = self._connections()
        except Exception as error:   # such as a full disk: whoever waits for an outcome must hear of it
            traceback.print_exc()
            closed = Closed(93, NEVER, 0.0, f"the client failed: {error!r}")
        with self._lock:
            self.closed = closed
            for ticket in self._outbox.queue:
                kind = "kept" if self._durable else "not accepted" if ticket.number is None else "unknown"
                ticket.outcome = ticket.told or Outcome(kind, 0, closed.text)
            self._lock.notify_all()
            with contextlib.suppress(sqlite3.Error):   # what is committed stays, whatever closing makes of it
                self._outbox.close()
            for each in (self._selector, self._waker, self._woken):
                each.close()
        _living.discard(self)

    def _connections(self) -> Closed:
        """One connection after the other, until one is the last. Returns how that ended."""
        failed = mute = 0
        while True:
            link: Optional[_Link] = None
            began = time.monotonic()
            try:
                link = self._open()
                self._emit("connected", self._address)
                closed = self._serve(link)
            except (OSError, UnicodeError) as error:   # the latter of a name that can't be one
                closed = _closed("socket error", f"no connection to {self._address[0]}:{self._address[1]}: {error}")
            finally:
                if link:
                    self._selector.unregister(link.sock)
                    link.sock.close()
            self._away = closed.text
            mute = self._count_mute(mute, link, closed)
            if mute >= self._mute_max:
                closed = replace(closed, retry=NEVER, text=NO_GATEWAY.format(*self._address), no_gateway=True)
            self._emit("disconnected", closed)
            if link and link.hello.session and (closed.code == BAD_TOKEN or link.astray):
                # this session is out of reach, but a new one is not (5.3, 8.2)
                self._until(lambda: self._give_up_session(0, NO_TOKEN, 0))
                closed = replace(closed, retry=NOW)
            if closed.retry == NEVER or not self._reconnect:
                return closed
            failed = self._failures(failed, link, closed)
            wait = closed.delay + random.uniform(0.0, min(self._longest, self._first * 2 ** min(failed, 40)))   # 8.2
            wait = max(wait, began + self._first - time.monotonic())
            if not (link and link.welcome) and not self._leaving():
                waiting = len(self._outbox.queue)
                self._warn("away", closed.text + (f"; {waiting} message{'s' * (waiting > 1)} not sent or not receipted"
                                                  if waiting else "") + "; it tries again and again")
            self._emit("reconnecting", wait)
            until = time.monotonic() + wait
            self._until(lambda: time.monotonic() >= until, until)
            self._until(lambda: not self._full or self._store(self._outbox.probe))   # it couldn't be attached anyway
            if self._leaving():
                code = DONE if self._closing == "done" else BACK_SOON
                return Closed(code, NEVER, 0.0, GOODBYES[code])

    def _until(self, true: Callable[[], bool], until: Optional[float] = None) -> None:
        """Waits without a connection until something is true, or this client leaves."""
        while not self._leaving() and not true():
            self._select(DISK_AGAIN if until is None else until - time.monotonic())

    def _store(self, work: Callable[[], None]) -> bool:
        with self._lock:
            return self._on_disk(work)

    def _failures(self, before: int, link: Optional[_Link], closed: Closed) -> int:
        """The n of 8.2, after a connection or an attempt has ended."""
        attached = link is not None and link.welcome is not None
        if link and attached and time.monotonic() - link.attached_at >= self._steady:
            return 0
        if closed.code == REPLACED:
            return before + 1
        if link and link.settled:
            return 0
        announced = link is not None and attached and (link.announced or (link.said_bye and closed.retry == NOW))
        return before if announced or (link and link.said_bye and closed.code == DRAIN) else before + 1

    def _count_mute(self, before: int, link: Optional[_Link], closed: Closed) -> int:
        """How many connections in a row were taken, and ended without an error and without a byte (8.2)."""
        at_end = link is not None and link.mute and closed.code == CODES["peer closed"][0]
        return before + 1 if at_end and not self._outbox.session else 0

    def _leaving(self) -> bool:
        """Whether a close has nothing more to wait for."""
        with self._lock:
            return self._closing == "back" or (self._closing == "done" and not self._outbox.queue)

    def _select(self, timeout: float) -> int:
        """Waits for the socket or for `_wake`, and says what the socket is ready for."""
        ready = 0
        for key, events in self._selector.select(min(max(0.0, timeout), 3600.0)):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
            else:
                ready = events
        return ready

    def _open(self) -> _Link:
        sock = self._connect()
        try:
            return self._greet(sock)
        except BaseException:
            sock.close()
            raise

    def _greet(self, sock: socket.socket) -> _Link:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What waits in the kernel waits before an answer or a question: on a slow link that should be little.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1 << 14)
        with self._lock:   # in one step, for what is in the inbox comes again: `committed` doesn't cover it
            self._inbox.clear()
            box = self._outbox
            # What the gateway was told once it may send again, in this session also to a client that takes less now.
            message_max = max(self._hello.message_max, box.told_max)
            if box.session and message_max > box.told_max:   # which has to be stored before it is told (5.8)
                if not self._on_disk(lambda: box.remove([], told_max=message_max)):
                    raise OSError(self._full)
            hello = replace(self._hello, session=box.session, token=box.token, committed=box.cursor,
                            acknowledged=box.settled, message_max=message_max,
                            window_bytes=max(self._hello.window_bytes, message_max))
        self._selector.register(sock, selectors.EVENT_READ)
        now = time.monotonic()
        return _Link(sock, FrameReader(hello.message_max), hello, memoryview(PREFACE + encode(hello)), now, now, now)

    def _connect(self) -> socket.socket:
        """Tries one address after the other, each for its share of the time that is left."""
        until = time.monotonic() + PATIENCE
        fault = OSError("the name has no address")
        addresses = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(max(0.01, (until - time.monotonic()) / (len(addresses) - i)))
                sock.connect(address)
                return sock
            except OSError as error:
                fault = error
                if sock:
                    sock.close()
        raise fault

    def _serve(self, link: _Link) -> Closed:
        """The loop of one connection."""
        while link.closed is None:
            try:
                wait = self._write(link)
                self._selector.modify(link.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.out else 0))
                if self._select(wait) & selectors.EVENT_READ:
                    self._read(link)
                self._look_at_clock(link)
            except ProtocolError as error:
                closed = _closed(error.reason, f"the gateway broke the protocol: {error}")
                if not link.welcome and error.reason in NO_FRAME:
                    text = f"{closed.text}; perhaps {NO_GATEWAY.format(*self._address)}"
                    closed = replace(closed, text=text, no_gateway=True)
                self._part(link, closed, str(error))
        return link.closed

    def _part(self, link: _Link, end: Closed, text: str = "") -> None:
        """Says BYE behind what is being written, and then reads until the other side ends too (8.2)."""
        if link.parted is None:
            link.parted = time.monotonic()
            link.end = end
            link.out = memoryview(bytes(link.out) + encode(Bye(end.code, NEVER, 0, self._outbox.cursor, text[:120])))

    def _look_at_clock(self, link: _Link) -> None:
        now = time.monotonic()
        vanished = ""
        if self._full and link.welcome and self._store(self._outbox.probe):
            self._settle(link)   # what could not be written then
        if link.parted is not None:
            if now >= link.parted + LINGER:
                link.closed = link.closed or link.end
        elif link.welcome is None:
            if now >= link.began + PATIENCE:
                vanished = f"no WELCOME came within {PATIENCE:.0f} s"
        elif link.out:   # a question goes out behind it, so its time does not run yet
            link.asked = link.asked and now
            if now >= link.spoke + 2 * link.timeout:
                vanished = f"the gateway took nothing for {2 * link.timeout:.1f} s"
        elif link.asked is not None and now >= link.asked + link.timeout:
            vanished = f"the gateway did not answer within {link.timeout:.1f} s"
        if vanished:
            link.closed = link.closed or _closed("peer vanished", vanished)

    def _write(self, link: _Link) -> float:
        """Writes until the socket is full or nothing waits. Returns how many seconds may pass until the next time."""
        for _ in range(32):   # then reading has its turn
            if not link.out:
                frame = self._next(link)
                if frame:
                    link.out = memoryview(encode(frame))
            try:
                if link.out:
                    written = link.sock.send(link.out)
                    link.out = link.out[written:]
                    link.spoke = time.monotonic()
                    continue
                if link.parted is not None:
                    link.sock.shutdown(socket.SHUT_WR)   # a second time does nothing
            except BlockingIOError:
                pass
            except OSError as error:   # reading goes on, for the gateway's BYE may still be there
                self._part(link, _closed("socket error", f"the connection broke: {error}"))
                link.out = memoryview(b"")
            break
        else:
            return 0.0
        if link.welcome is None or link.parted is not None or self._full:
            return 0.1
        return CONFIRM_AFTER / 2 if self._outbox.settled > link.confirmed else min(link.interval, link.timeout) / 8

    def _next(self, link: _Link) -> Optional[Frame]:
        """The frame to write next, the most urgent first (6). All but messages are made from what is the case, so
        that they never pile up."""
        now = time.monotonic()
        box = self._outbox
        cursor = box.cursor
        welcome = link.welcome
        if link.parted is not None:
            return None
        leaving = self._leaving() and (welcome is not None or self._closing == "back")
        if welcome and link.answer_due:
            link.answer_due = False
            return Beat(2)
        if welcome and cursor > link.acknowledged:
            link.acknowledged = cursor
            return Receipt(cursor)
        news = box.settled - link.confirmed
        if welcome and news and (news >= CONFIRM_COUNT or leaving or now >= link.settled_at + CONFIRM_AFTER):
            for number in range(link.confirmed + 1, box.settled + 1):
                self._emit("confirmed", number)
            link.confirmed = box.settled
            return Confirm(box.settled)
        if leaving:
            code = DONE if self._closing == "done" else BACK_SOON
            self._part(link, Closed(code, NEVER, 0.0, GOODBYES[code]))
        if leaving or welcome is None:
            return None
        if link.asked is None and now >= link.heard + link.timeout:
            link.asked = now
            return Beat(1)
        if link.is_new or now >= link.spoke + link.interval:   # no message has a number before that is written
            link.is_new = False
            return Beat(0)
        return self._next_message(link, welcome)

    def _next_message(self, link: _Link, welcome: Welcome) -> Optional[Message]:
        box = self._outbox
        flight = 0   # bytes
        with self._lock:
            if not link.ready and link.sent < min(len(box.queue), welcome.window_messages):
                batch: List[Ticket] = []
                for i, ticket in enumerate(itertools.islice(box.queue, welcome.window_messages)):
                    flight += ticket.size
                    if flight > welcome.window_bytes:
                        break
                    if i >= link.sent:
                        batch.append(ticket)
                batch = box.few(batch)
                if batch and self._on_disk(lambda: box.assign(batch)):
                    link.ready.extend(batch)
                    link.sent += len(batch)
            read: List[bytes] = []
            if not link.ready or not self._on_disk(lambda: read.append(box.payload(link.ready[0]))):
                return None
            ticket = link.ready.popleft()
            payload = read[0]
        assert ticket.number
        link.written = ticket.number
        self._emit("sent again" if ticket.number <= link.former else "sent", ticket.number)
        return Message(ticket.number, payload)

    def _read(self, link: _Link) -> None:
        try:
            data = link.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            link.closed = link.end or _closed("socket error", f"the connection broke: {error}")
            return
        if not data:
            if link.reader.inside and not link.end:
                raise ProtocolError("truncated frame", "the stream ended inside it")
            link.closed = link.end or _closed("peer closed", "the gateway closed the connection without a word")
            return
        link.mute = False
        if link.end is None or link.end.code <= BACK_SOON:   # else it broke a rule, and what it says is void
            link.reader.feed(data)
            proofs = link.reader.proofs
            try:
                frame = link.reader.next()
                while frame and link.closed is None:
                    self._handle(link, frame)
                    frame = link.reader.next()
            finally:   # the receipts of one read are settled in one transaction, and count whatever came after them
                if link.reader.proofs != proofs:
                    link.heard = time.monotonic()
                    link.asked = None
                self._settle(link)

    def _handle(self, link: _Link, frame: Frame) -> None:
        if isinstance(frame, Bye):
            delay = frame.delay / 1000 if frame.retry == LATER else 0.0
            text = frame.text or f"code {frame.code}, without a sentence"
            closed = Closed(frame.code, frame.retry, delay, text, no_gateway=frame.code == RAW_LISTENER)
            self._emit("bye", closed)
            link.said_bye = link.end is None
            link.closed = link.end or closed
        elif link.parted is not None and not isinstance(frame, (Receipt, Refuse)):
            pass   # 4: after our BYE only receipts count
        elif isinstance(frame, Welcome) and link.welcome is None:
            self._welcome(link, frame)
        elif link.welcome is None:
            raise ProtocolError("frame out of place", f"{type(frame).__name__} before WELCOME")
        elif isinstance(frame, Beat):
            link.answer_due = link.answer_due or frame.kind == 1
        elif isinstance(frame, Notice):
            link.announced = link.announced or frame.code in (1, 2)
            if frame.code == RECEIPTS_STOPPED:
                self._warn("receipts", f"the gateway gives no receipts for now: {frame.text}")
            elif frame.code == READING_RESTS:
                self._warn("rests", f"the gateway reads nothing more for now, a share of what it keeps is used up: "
                                    f"{frame.text}")
            self._emit("notice", frame)
        elif isinstance(frame, Message):
            self._incoming(link, frame)
        elif isinstance(frame, Receipt) and link.receipted <= frame.committed <= link.written:
            link.settled = link.settled or frame.committed > link.receipted
            link.receipted = frame.committed
        elif (isinstance(frame, Refuse) and link.receipted < frame.number <= link.written
              and len(link.refusals) < REFUSED_MAX):
            link.refusals[frame.number] = frame
        elif isinstance(frame, Confirm) and frame.floor <= link.acknowledged:
            pass   # it allows to forget refusals, and there are none
        else:
            raise ProtocolError("frame out of place", repr(frame)[:80])

    def _incoming(self, link: _Link, message: Message) -> None:
        if message.number != link.received + 1:
            raise ProtocolError("sequence gap", f"{message.number} after {link.received}")
        link.received = message.number
        with self._lock:
            self._inbox.append(message)
            if (len(self._inbox) > link.hello.window_messages
                    or sum(len(each.payload) for each in self._inbox) > link.hello.window_bytes):
                raise ProtocolError("window exceeded", f"{len(self._inbox)} messages")
            self._lock.notify_all()

    def _welcome(self, link: _Link, welcome: Welcome) -> None:
        """5.3 and 5.5."""
        hello = link.hello
        box = self._outbox
        if welcome.outcome == 0:
            stored = self._give_up_session(welcome.session, welcome.token, hello.message_max)
        elif welcome.session != hello.session:
            link.astray = True
            raise ProtocolError("frame out of place", "WELCOME resumes a session that HELLO did not name")
        elif welcome.committed < hello.acknowledged:
            link.astray = True
            raise ProtocolError("malformed frame", "WELCOME doesn't cover what HELLO says was acknowledged")
        elif welcome.committed > box.highest:   # what is stored here is older than what was sent (5.5)
            if self._give_up_session(0, NO_TOKEN, 0):
                text = "this client is older than what it has sent: a new session"
                self._part(link, Closed(BACK_SOON, NOW, 0.0, text))
                return
            stored = False
        else:
            cursor = max(box.cursor, welcome.acknowledged)
            stored = self._store(lambda: box.remove([], token=welcome.token, cursor=cursor))
        too_long = [(ticket, Outcome("not accepted", 1, f"the gateway takes {welcome.message_max} bytes"))
                    for ticket in box.queue if ticket.number is None and ticket.size > welcome.message_max]
        if not stored or not self._finish(too_long):   # a frame must not go out before that is stored (5.8)
            self._part(link, Closed(BACK_SOON, LATER, DISK_AGAIN, self._full))
            return
        if welcome.outcome:
            if welcome.acknowledged > hello.committed:
                self._emit("lost incoming", (hello.committed + 1, welcome.acknowledged))
            if welcome.lost_to:
                self._emit("lost", (welcome.lost_from, welcome.lost_to))
        link.welcome = welcome
        link.reader.opened = True
        link.is_new = welcome.outcome == 0
        link.attached_at = time.monotonic()
        self._away = ""
        self.durability = welcome.durability
        # A beat takes time on its way. Never less than 50 ms, so that a gateway can't keep this thread busy.
        link.interval = max(50, welcome.beat_interval) * 0.00075
        link.timeout = max(50, welcome.beat_interval, welcome.beat_timeout) * 0.001
        self._emit("resumed" if welcome.outcome else "new session", welcome.session)
        with self._lock:
            link.received = link.acknowledged = box.cursor
            self._message_max = welcome.message_max
        link.confirmed = box.settled   # HELLO has told it
        link.former = box.highest
        link.written = link.receipted = welcome.committed
        link.refusals = {number: Refuse(number, code, REFUSED_BECAUSE.get(code, ""))
                         for number, code in welcome.refused}
        self._settle(link)

    def _settle(self, link: _Link) -> None:
        """Ends everything up to the last receipt: refused if that was said, else committed (5.3, 7.3)."""
        done: List[Tuple[Ticket, Outcome]] = []
        assert link.welcome or not link.receipted
        durability = link.welcome.durability if link.welcome else 0
        committed = Outcome("committed", 0, DURABILITY.get(durability, f"durability {durability}"), durability)
        with self._lock:
            in_flight = self._outbox.in_flight()
        for ticket in in_flight:
            if (ticket.number or 0) > link.receipted:
                break
            refuse = link.refusals.get(ticket.number or 0)
            done.append((ticket, Outcome("not accepted", refuse.code, refuse.text) if refuse else committed))
        while done:
            first = self._outbox.settled <= link.confirmed
            few = len(self._outbox.few([ticket for ticket, _ in done]))
            part = done[:few]
            done = done[few:]
            settled = (part[-1][0].number or 0) if done else link.receipted
            if not self._finish(part, settled=settled):
                return
            link.settled_at = time.monotonic() if first else link.settled_at
            link.refusals = {number: refuse for number, refuse in link.refusals.items() if number > settled}
            link.sent = max(0, link.sent - len(part))

    def _finish(self, done: List[Tuple[Ticket, Outcome]], **state: Any) -> bool:
        """Tells how messages ended, and only then forgets them, so that a crash in between can't swallow it. False
        if the outbox can't be written; then they have not ended, and are not told again."""
        done = [(ticket, ticket.told or outcome) for ticket, outcome in done]
        for ticket, outcome in done:
            if ticket.told is None:
                ticket.told = outcome
                if outcome.kind == "not accepted":
                    self._emit("refused", (ticket.number or 0, outcome.code, outcome.text))
                elif outcome.kind == "committed":
                    self._emit("committed", (ticket.number, outcome.durability))
                else:
                    self._emit(outcome.kind, ticket.number)
        with self._lock:
            if not self._on_disk(lambda: self._outbox.remove([ticket for ticket, _ in done], **state)):
                return False
            for ticket, outcome in done:
                ticket.outcome = outcome
            self._lock.notify_all()
        return True

    def _give_up_session(self, session: int, token: bytes, told_max: int) -> bool:
        """What was sent and has not ended is unknown; what was never sent goes into the next session (5.3)."""
        unknown = Outcome("unknown", 0, "the session ended before the receipt came")
        with self._lock:
            done = [(ticket, unknown) for ticket in self._outbox.in_flight()]
        if not self._finish(done, session=session, token=token, settled=0, cursor=0, told_max=told_max):
            return False
        self._outbox.highest = 0
        return True


_living: Set[Client] = set()   # those that nobody has closed


def _exit_all() -> None:
    began = time.monotonic()
    for client in list(_living):
        client._exit(began)


atexit.register(_exit_all)


# ---- the command line

def _say(*words: Any) -> None:
    line = " ".join(readable(each if isinstance(each, bytes) else str(each)) for each in words)
    try:
        sys.stdout.write(line + "\n")   # in one piece, because two threads do
        sys.stdout.flush()
    except BrokenPipeError:   # nobody listens; what the outbox has goes on next time
        os._exit(1)


class _Events:
    """Says what happens, and counts what was not committed."""

    def __init__(self) -> None:
        self.not_committed = 0
        self.input_failed = False

    def __call__(self, kind: str, detail: Any) -> None:
        if kind in ("refused", "unknown"):
            self.not_committed += 1
        if kind == "committed":
            number, durability = detail
            promise = [] if durability in (1, 2) else [f"({DURABILITY.get(durability, f'durability {durability}')})"]
            return _say("received", number, *promise)
        if isinstance(detail, (Closed, Notice)):
            detail = (detail.code, detail.text)
        elif isinstance(detail, float):
            detail = f"in {detail:.1f} s"
        _say(kind, *(detail if isinstance(detail, tuple) else (detail,)))


def _lines() -> Iterator[Optional[bytes]]:
    """The lines of stdin, None for one that is longer than any message. It reads the descriptor, for a thread that
    waits inside sys.stdin holds a lock that the interpreter wants when it ends."""
    parts: List[bytes] = []   # of the line that has not ended
    size = 0
    while True:
        data = os.read(0, 1 << 16)
        first, *others = data.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > Message.ROOM:
            parts.clear()
        for other in others:
            yield b"".join(parts) if size <= Message.ROOM else None
            parts = [other]
            size = len(other)
        if not data:
            if size:
                yield b"".join(parts) if size <= Message.ROOM else None
            return


def _send_lines(client: Client, events: _Events) -> None:
    """Every line of stdin is a message. At the end of the input it waits for all of them."""
    try:
        for line in _lines():
            try:
                if line is None:
                    raise ValueError("the line is longer than any message")
                client.send_nowait(line, None)
            except ValueError as error:
                events.not_committed += 1
                _say("not sent", error)
    except Ended:
        return
    except OSError as error:
        events.input_failed = True
        _complain(f"the input can't be read to its end: {error}")
    client.close(timeout=CLOSE_WAIT)


def _complain(text: str) -> None:
    print(f"pulsegate: {readable(text)}", file=sys.stderr)


def _count(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}"


CLOSE_WAIT = 30.0   # seconds at the end of the input, until every message has ended
EXIT_FAILED, EXIT_ENDED, EXIT_INTERRUPTED = 1, 3, 130
EXIT_CODES = """\
exit codes, those of `pulsegate connect --id`:
  0    every message was committed
  1    nobody there speaks the pulse protocol, or the input or the outbox can't be used
  2    wrong arguments
  3    a message was not committed, or the gateway says not to come back
  130  interrupted by SIGINT or SIGTERM
"""


def _exit_code(client: Client, events: _Events) -> int:
    """Says how it has ended, and what that is for the shell."""
    closed = client.closed
    left = len(client._outbox.queue)
    assert closed
    if events.not_committed or left:
        _complain(f"{_count(events.not_committed + left)} not committed")
    if closed.code not in GOODBYES:
        _complain(f"giving up: {closed.text}")
    if closed.no_gateway or events.input_failed:
        return EXIT_FAILED
    return 0 if closed.code == DONE and not events.not_committed and not left else EXIT_ENDED


def main() -> int:
    parser = argparse.ArgumentParser(description="Sends each line of stdin to a gateway and says what becomes of it.",
                                     epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT", help="an IPv6 address in brackets")
    parser.add_argument("--id", required=True, help="who this client is")
    parser.add_argument("--outbox", metavar="FILE", help="keep what has not ended in this file")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):   # whatever the locale is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="pulsegate: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    events = _Events()
    host, _, port = options.address.rpartition(":")
    client: Optional[Client] = None
    try:
        try:
            if not host or not 0 < int(port) < 65536:
                raise ValueError("the address is HOST:PORT")
            client = Client(host.strip("[]"), int(port), options.id, outbox=options.outbox, mute_max=3,
                            on_event=events)
        except OutboxError as error:
            _complain(str(error))
            return EXIT_FAILED
        except ValueError as error:
            parser.error(str(error))
        threading.Thread(target=_send_lines, args=(client, events), daemon=True).start()
        for message in client.messages():
            _say("message", message.number, message.payload)
        return _exit_code(client, events)
    except KeyboardInterrupt:
        left = 0
        if client:
            with contextlib.suppress(KeyboardInterrupt):   # a second one waits for no goodbye
                client.close(done=False)
            left = len(client._outbox.queue)
        _complain(f"interrupted: {_count(left)} not ended" + (", kept in the outbox" if left and options.outbox else ""))
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
