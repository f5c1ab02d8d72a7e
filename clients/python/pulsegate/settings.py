"""What a client is told when it is made, checked, and the times that nobody sets."""

from __future__ import annotations

from dataclasses import dataclass

from .frames import NO_TOKEN, Hello

PATIENCE = 10.0  # seconds for a connect, and for WELCOME (4)
LINGER = 1.0  # seconds that the sender of BYE reads on (8.2)
CONFIRM_AFTER = 0.010  # seconds; 20 ms is the latest (7.4)
CONFIRM_COUNT = 8  # settled messages that are confirmed at once (7.4)
MUTE_MAX = 10  # connections in a row that end without a byte: no gateway of this protocol (8.2)
DISK_AGAIN = 0.5  # seconds between attempts to write an outbox that can't be written
WARN_AGAIN = 30.0  # seconds between warnings of one kind

LIFETIMES = ("any", "short", "long")


@dataclass(frozen=True)
class Settings:
    """The arguments of `Client`, which describes them. ValueError or TypeError if one can't be."""

    host: str
    port: int
    id: str
    lifetime: str = "any"
    beat_min: float = 0.0
    beat_max: float = 0.0
    window_messages: int = 64
    window_bytes: int = 1 << 20
    message_max: int = 1 << 18
    outbox_bytes_max: int = 8 << 20
    reconnect: bool = True
    backoff_first: float = 0.1
    backoff_longest: float = 60.0
    steady: float = 30.0
    mute_max: int = MUTE_MAX

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not isinstance(self.id, str):
            raise TypeError("host and id are text (str)")
        if not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise ValueError(f"port is a number from 1 to 65535, not {self.port!r}")
        if self.lifetime not in LIFETIMES:
            raise ValueError(f'lifetime is "any", "short" or "long", not {self.lifetime!r}')
        if not 0 < self.window_messages < 1 << 32 or not 0 < self.window_bytes < 1 << 32:
            raise ValueError("window_messages and window_bytes are 1 to 4294967295")
        for name in ("beat_min", "beat_max", "backoff_first", "backoff_longest", "steady"):
            check_seconds(name, getattr(self, name))
        if self.beat_min > self.beat_max:
            raise ValueError("beat_max is at least beat_min, or both are 0 for no wish")
        if not self.hello().is_sound():
            raise ValueError("id has 1 to 128 bytes, message_max is 1 to 16,000,000 and at most window_bytes")

    def hello(self) -> Hello:
        """HELLO for a new session."""
        return Hello(
            lifetime=LIFETIMES.index(self.lifetime),
            beat_min=round(self.beat_min * 1000),
            beat_max=round(self.beat_max * 1000),
            window_messages=self.window_messages,
            window_bytes=self.window_bytes,
            message_max=self.message_max,
            session=0,
            token=NO_TOKEN,
            committed=0,
            acknowledged=0,
            id=self.id,
        )


def check_seconds(name: str, seconds: float) -> None:
    """ValueError if this is no duration that the protocol's milliseconds can hold."""
    if not 0 <= seconds <= 4_294_967.295:  # which nan is not
        raise ValueError(f"{name} is 0 to 4294967.295 seconds, not {seconds}")


def check_timeout(timeout: float | None) -> None:
    """ValueError if this is no timeout."""
    if timeout is not None and timeout != timeout:
        raise ValueError("a timeout is a number of seconds, or None to wait for ever; it was nan")


def check_payload(payload: bytes | bytearray | memoryview) -> bytes:
    """The payload as bytes. TypeError if it is something else."""
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        hint = ": encode it, as in text.encode()" if isinstance(payload, str) else ""
        raise TypeError(f"a payload is bytes, not {type(payload).__name__}{hint}")
    return bytes(payload)
