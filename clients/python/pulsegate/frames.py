"""Frames as they stand on the wire, and the reader that cuts a stream into them (PROTOCOL.md 3).

Numbers in brackets are sections of PROTOCOL.md. Frames carry milliseconds and bytes, as the protocol
does. This module knows nothing of connections: which frame may come when is decided in connection.py.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

PREFACE = b"PULSE\x00\x01\n"
NO_TOKEN = bytes(16)
CURSOR_MAX = (1 << 63) - 1  # the highest cursor in HELLO and WELCOME (9)
BODY_MAX = 1024  # bytes of every body but that of MESSAGE (3.3)
TEXT_MAX = 512  # bytes (9)
ID_MAX = 128  # bytes (9)
MESSAGE_MAX = 16_000_000  # bytes: the highest `message_max` (5.1, 5.2)
REFUSED_MAX = 64  # refusals in HELLO and WELCOME (5.7)

Refused = tuple[tuple[int, int], ...]
"""Refusals (5.7): the number of a message and a code, each."""


class ProtocolError(Exception):
    """The other side broke a rule. `reason` is one of the reasons of 8.3, in its words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Frame:
    """What all frames have in common.

    The body is a fixed part, which is all fields in their order, and in some frames a tail of at most
    `ROOM` bytes, which is the last field. Padding in `FIXED` is the protocol's *zero*.
    """

    TYPE: ClassVar[int]
    FIXED: ClassVar[struct.Struct]
    ROOM: ClassVar[int] = 0

    def body(self) -> bytes:
        """The body as it is sent."""
        values = [getattr(self, each.name) for each in dataclasses.fields(self)]  # type: ignore[arg-type]
        if not self.ROOM:
            return self.FIXED.pack(*values)
        *fixed, tail = values
        return self.FIXED.pack(*fixed) + self.write_tail(tail)

    @classmethod
    def parse(cls, body: bytes) -> Frame:
        """The frame of a body whose length is allowed. Fields are checked in their order (3.1)."""
        make: Callable[..., Frame] = cls
        fixed = cls.FIXED.unpack_from(body)
        if not cls.ROOM:
            return make(*fixed)
        head = make(*fixed, cls.read_tail(b""))
        if not head.is_sound() or head.body() != body[: cls.FIXED.size]:
            raise ProtocolError("malformed frame", repr(head)[:80])
        return make(*fixed, cls.read_tail(body[cls.FIXED.size :]))

    @staticmethod
    def read_tail(raw: bytes) -> Any:
        """The last field from its bytes: text, unless a frame says otherwise."""
        return _text(raw)

    @staticmethod
    def write_tail(tail: Any) -> bytes:
        """The bytes of the last field."""
        text: str = tail
        return text.encode("utf-8")

    def is_sound(self) -> bool:
        """Whether all fields are in their ranges."""
        return True


@dataclass(frozen=True)
class Hello(Frame):
    """The client's first frame (5.1)."""

    TYPE = 1
    FIXED = struct.Struct(">BxHIIIIIQ16sQQ")  # with the length of the id behind the lifetime
    ROOM = ID_MAX + 10 * REFUSED_MAX  # the id and the refusals

    lifetime: int  # 0 whatever the listener gives, 1 short, 2 long
    beat_min: int  # ms
    beat_max: int  # ms; 0 for both: no wish
    window_messages: int
    window_bytes: int
    message_max: int  # bytes
    session: int  # 0 for a new one
    token: bytes
    committed: int  # the gateway's messages up to this number are taken
    acknowledged: int  # the client's messages up to this number are settled
    id: str
    refused: Refused = ()

    def body(self) -> bytes:
        id = self.id.encode("utf-8")
        fixed = self.FIXED.pack(
            self.lifetime,
            len(id),
            self.beat_min,
            self.beat_max,
            self.window_messages,
            self.window_bytes,
            self.message_max,
            self.session,
            self.token,
            self.committed,
            self.acknowledged,
        )
        return fixed + id + _write_refused(self.refused)

    @classmethod
    def parse(cls, body: bytes) -> Hello:
        make: Callable[..., Hello] = cls
        lifetime, id_length, *others = cls.FIXED.unpack_from(body)
        id_end = cls.FIXED.size + id_length
        return make(lifetime, *others, _text(body[cls.FIXED.size : id_end]), _read_refused(body[id_end:]))

    def is_sound(self) -> bool:
        if self.session == 0 and (self.token, self.committed, self.acknowledged) != (NO_TOKEN, 0, 0):
            return False
        return (
            self.lifetime <= 2
            and self.beat_min <= self.beat_max
            and _can_send(self.window_messages, self.window_bytes, self.message_max)
            and self.committed <= CURSOR_MAX
            and self.acknowledged <= CURSOR_MAX
            and 1 <= len(self.id.encode("utf-8")) <= ID_MAX
            and _in_order(self.refused, self.committed)
        )


@dataclass(frozen=True)
class Welcome(Frame):
    """The gateway's answer to HELLO (5.2)."""

    TYPE = 2
    FIXED = struct.Struct(">BBBxIIIIIIIQQ16sQQQQ")
    ROOM = 10 * REFUSED_MAX

    outcome: int  # 0 a new session, 1 the session is resumed
    lifetime: int  # 1 short, 2 long
    durability: int  # what committed means, see codes.DURABILITY
    beat_interval: int  # ms: how often the client has to send something
    beat_timeout: int  # ms of silence after which the connection is ended
    remaining: int  # ms until the connection's planned end
    session_ttl: int  # ms that the session is kept without a connection
    window_messages: int
    window_bytes: int
    message_max: int  # bytes
    server_time: int  # ms since 1970-01-01 UTC
    session: int
    token: bytes  # for the next HELLO
    committed: int  # the client's messages up to this number are committed or refused
    acknowledged: int  # the gateway's messages up to this number are settled
    lost_from: int  # the first of the client's messages that the gateway has lost (5.5), or 0
    lost_to: int  # the last of them, or 0
    refused: Refused = ()

    @staticmethod
    def read_tail(raw: bytes) -> Refused:
        return _read_refused(raw)

    @staticmethod
    def write_tail(tail: Refused) -> bytes:
        return _write_refused(tail)

    def is_sound(self) -> bool:
        if self.outcome == 0 and (self.committed, self.acknowledged, self.lost_to) != (0, 0, 0):
            return False
        return (
            self.outcome <= 1
            and 1 <= self.lifetime <= 2
            and _can_send(self.window_messages, self.window_bytes, self.message_max)
            and self.session != 0
            and self.committed <= CURSOR_MAX
            and self.acknowledged <= CURSOR_MAX
            and self.lost_from <= self.lost_to
            and (self.lost_from > 0 or self.lost_to == 0)
            and _in_order(self.refused, self.committed)
        )


@dataclass(frozen=True)
class Beat(Frame):
    """A heartbeat (6)."""

    TYPE = 3
    FIXED = struct.Struct(">B")

    kind: int  # one of the three that follow

    BEAT: ClassVar[int] = 0
    QUESTION: ClassVar[int] = 1
    ANSWER: ClassVar[int] = 2

    def is_sound(self) -> bool:
        return self.kind <= 2


@dataclass(frozen=True)
class Message(Frame):
    """A message (7.1). This is also what the application receives."""

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
    """Everything up to this number is committed, or was refused before (7.2)."""

    TYPE = 5
    FIXED = struct.Struct(">Q")

    committed: int


@dataclass(frozen=True)
class Refuse(Frame):
    """A message was not accepted (7.3)."""

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
    """Everything up to this number is settled for its sender (7.4)."""

    TYPE = 7
    FIXED = struct.Struct(">Q")

    floor: int


@dataclass(frozen=True)
class Notice(Frame):
    """Something to be known (8.1). `within` (ms) is what the protocol calls *in*."""

    TYPE = 8
    FIXED = struct.Struct(">HI")
    ROOM = TEXT_MAX

    code: int
    within: int
    text: str = ""


@dataclass(frozen=True)
class Bye(Frame):
    """The last frame of its sender (8.2)."""

    TYPE = 9
    FIXED = struct.Struct(">HBxIQ")
    ROOM = TEXT_MAX

    code: int
    retry: int = 0  # codes.NEVER, NOW or LATER
    delay: int = 0  # ms
    committed: int = 0
    text: str = ""

    def is_sound(self) -> bool:
        return self.retry <= 2


FRAMES: dict[int, type[Frame]] = {
    kind.TYPE: kind for kind in (Hello, Welcome, Beat, Message, Receipt, Refuse, Confirm, Notice, Bye)
}


def encode(frame: Frame) -> bytes:
    """Header and body of one frame."""
    body = frame.body()
    return (frame.TYPE << 24 | len(body)).to_bytes(4, "big") + body


class FrameReader:
    """Cuts a stream into frames: `feed` what one read gave, then call `next` until it returns None.

    A header is checked as soon as it is there, so no more than one allowed frame is ever kept.

    message_max: bytes, what this side told the other one; it applies once `opened` is set, which is
        after WELCOME (3.3).
    proofs: counts what shows that the other side is alive (3.4).
    """

    def __init__(self, message_max: int, *, opened: bool = False) -> None:
        self.message_max = message_max
        self.opened = opened
        self.proofs = 0
        self._buffer = bytearray()
        self._counted = 0  # proofs that the unfinished MESSAGE has given

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Adds what was read."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next frame, or None if more has to be read first. ProtocolError if it breaks a rule of 3."""
        while len(self._buffer) >= 4:
            type = self._buffer[0]
            length = int.from_bytes(self._buffer[1:4], "big")
            known = FRAMES.get(type)
            self._check_header(type, known, length)
            if len(self._buffer) < 4 + length:
                if known is Message:
                    self._count_parts()
                return None
            body = bytes(self._buffer[4 : 4 + length])
            frame = known.parse(body) if known else None
            # Padding that isn't 0 shows here: the body doesn't come out as it went in.
            if frame and not (frame.is_sound() and (known is Message or frame.body() == body)):
                raise ProtocolError("malformed frame", repr(frame)[:80])
            del self._buffer[: 4 + length]
            self.proofs += 1
            self._counted = 0
            if frame:
                return frame
        return None

    def _check_header(self, type: int, known: type[Frame] | None, length: int) -> None:
        if known is None and type < 0x80:
            raise ProtocolError("unknown frame", f"type {type:#04x}")
        limit = self.message_max + 8 if known is Message and self.opened else BODY_MAX
        if length > limit:
            raise ProtocolError("frame too large", f"{length} bytes, where {limit} are allowed")
        if known and not known.FIXED.size <= length <= known.FIXED.size + known.ROOM:
            raise ProtocolError("malformed frame", f"{length} bytes for {known.__name__}")

    def _count_parts(self) -> None:
        proofs = (len(self._buffer) - 4) // 1024
        self.proofs += proofs - self._counted
        self._counted = proofs


def _can_send(window_messages: int, window_bytes: int, message_max: int) -> bool:
    """A window of nothing would never let anything be sent."""
    return window_messages >= 1 and 1 <= message_max <= min(MESSAGE_MAX, window_bytes)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("text is not utf-8", str(error)) from None


def _read_refused(raw: bytes) -> Refused:
    if len(raw) % 10 or len(raw) > 10 * REFUSED_MAX:
        raise ProtocolError("malformed frame", "the list of refusals")
    return tuple(struct.iter_unpack(">QH", raw))


def _write_refused(refused: Refused) -> bytes:
    return b"".join(struct.pack(">QH", number, code) for number, code in refused)


def _in_order(refused: Refused, committed: int) -> bool:
    numbers = [number for number, _ in refused]
    ascending = all(before < after for before, after in zip(numbers, numbers[1:]))
    return ascending and all(0 < number <= committed for number in numbers)
