"""The rules of a connection in virtual time: no sockets, and nothing sleeps."""

from __future__ import annotations

import unittest
from typing import Any, TypeVar

from pulsegate.connection import Connection
from pulsegate.frames import (
    PREFACE,
    Beat,
    Bye,
    Confirm,
    Frame,
    FrameReader,
    Hello,
    Message,
    Receipt,
    Refuse,
    Welcome,
    encode,
)
from pulsegate.outbox import Entry, Outbox
from pulsegate.reconnecting import Reconnecting
from pulsegate.session import Session, Steps
from pulsegate.settings import Settings

from .gateway import TOKEN

T = TypeVar("T")


class World:
    """One client without I/O, and the clock that it is told."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.events: list[Any] = []
        self.session = Session(Settings("gateway.example", 7373, "tester", **settings), Outbox(None, "tester"))
        self.connect()

    def connect(self) -> None:
        self.connection = Connection(self.session, self.now)
        self.reader = FrameReader(1 << 20)

    def take(self, steps: Steps[T]) -> T:
        while True:
            try:
                self.events.append(next(steps))
            except StopIteration as end:
                result: T = end.value
                return result

    def submit(self, payload: bytes) -> Entry:
        entry = Entry(0, None, len(payload))
        assert self.session.accept(entry, payload, self.now)
        return entry

    def written(self) -> list[Frame]:
        """What it writes now."""
        while data := self.take(self.connection.poll_output(self.now)):
            self.reader.feed(bytes(data).removeprefix(PREFACE))
            self.connection.handle_written(len(data), self.now)
        frames = []
        while frame := self.reader.next():
            frames.append(frame)
            self.reader.opened = True
        return frames

    def read(self, *frames: Frame) -> None:
        self.take(self.connection.handle_data(b"".join(map(encode, frames)), self.now))

    def attach(self, **fields: Any) -> None:
        hello = self.written()[0]
        assert isinstance(hello, Hello)
        values: dict[str, Any] = {
            "outcome": 1 if hello.session else 0,
            "lifetime": 2,
            "durability": 2,
            "beat_interval": 4000,
            "beat_timeout": 20_000,
            "remaining": 60_000,
            "session_ttl": 60_000,
            "window_messages": 100,
            "window_bytes": 1 << 20,
            "message_max": 1 << 20,
            "server_time": 0,
            "session": 7,
            "token": TOKEN,
            "committed": hello.acknowledged,
            "acknowledged": hello.committed,
            "lost_from": 0,
            "lost_to": 0,
        }
        self.read(Welcome(**{**values, **fields}))

    def wait(self) -> list[Frame]:
        """Lets the time pass that it says, and returns what it writes then."""
        self.now += self.connection.poll_timeout(self.now)
        self.take(self.connection.handle_time(self.now))
        return [] if self.connection.closed else self.written()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class Clock(unittest.TestCase):
    def test_it_beats_at_three_quarters_of_the_interval(self) -> None:
        world = World()
        world.attach()
        self.assertEqual(world.written(), [Beat(Beat.BEAT)])  # at once, for the session is new
        for _ in range(6):
            before = world.now
            self.assertEqual(world.wait(), [Beat(Beat.BEAT)])
            self.assertAlmostEqual(world.now - before, 3.0)

    def test_a_silent_gateway_is_asked_and_then_given_up(self) -> None:
        world = World()
        world.attach()
        began, asked = world.now, 0.0
        while world.connection.closed is None:
            if Beat(Beat.QUESTION) in world.wait():
                self.assertEqual(asked, 0.0)
                asked = world.now
        self.assertAlmostEqual(asked - began, 20.0)
        self.assertAlmostEqual(world.now - asked, 20.0)
        self.assertEqual(world.connection.closed.code, 92)

    def test_an_answer_ends_the_silence(self) -> None:
        world = World()
        world.attach()
        for _ in range(5):
            while Beat(Beat.QUESTION) not in world.wait():
                self.assertIsNone(world.connection.closed)
            world.read(Beat(Beat.ANSWER))
        self.assertLess(world.now, 1000.0 + 5 * 20.1)

    def test_it_waits_ten_seconds_for_welcome(self) -> None:
        world = World()
        world.written()
        while world.connection.closed is None:
            world.wait()
        self.assertAlmostEqual(world.now - 1000.0, 10.0, delta=0.2)
        self.assertEqual(world.connection.closed.code, 92)

    def test_what_is_settled_is_confirmed_within_twenty_milliseconds(self) -> None:
        world = World()
        world.attach()
        world.submit(b"x")
        self.assertEqual(world.written(), [Beat(Beat.BEAT), Message(1, b"x")])
        world.read(Receipt(1))
        self.assertEqual(world.written(), [])
        before = world.now
        self.assertEqual(world.wait(), [Confirm(1)])
        self.assertLessEqual(world.now - before, 0.020)

    def test_a_gateway_that_takes_nothing_is_given_up(self) -> None:
        world = World()
        world.attach()
        self.assertTrue(world.take(world.connection.poll_output(world.now)))  # and it is not written
        while world.connection.closed is None:
            world.now += world.connection.poll_timeout(world.now)
            world.take(world.connection.handle_time(world.now))
        self.assertAlmostEqual(world.now - 1000.0, 40.0)

    def test_after_its_bye_it_reads_on_for_a_second(self) -> None:
        world = World()
        world.attach()
        entry = world.submit(b"x")
        world.written()
        world.session.leave(done=False)
        self.assertEqual(world.written(), [Bye(1)])
        world.read(Message(1, b"ignored"), Receipt(1))
        self.assertEqual(entry.outcome and entry.outcome.kind, "committed")
        self.assertFalse(world.session.inbox)
        while world.connection.closed is None:
            world.wait()
        self.assertAlmostEqual(world.now - 1000.0, 1.0, delta=0.2)


class Telling(unittest.TestCase):
    def test_an_end_is_told_before_the_outbox_forgets_it(self) -> None:
        world = World()
        world.attach()
        world.submit(b"x")
        world.submit(b"y")
        world.written()
        waiting = []
        data = encode(Refuse(2, 3, "no")) + encode(Receipt(2))
        for event in world.connection.handle_data(data, world.now):
            waiting.append((event[0], len(world.session.outbox.queue)))
        self.assertEqual(waiting, [("committed", 2), ("refused", 2)])
        self.assertEqual(len(world.session.outbox.queue), 0)

    def test_what_a_step_changes_stays_consistent_while_others_come_between(self) -> None:
        world = World()
        world.attach()
        world.submit(b"x")
        world.written()
        for _ in world.connection.handle_data(encode(Receipt(1)), world.now):
            world.submit(b"between")
            world.session.leave(done=True)
        self.assertEqual([frame for frame in world.written() if isinstance(frame, Message)], [Message(2, b"between")])
        world.read(Receipt(2))
        self.assertEqual(world.written(), [Confirm(2), Bye(0)])


class Between(unittest.TestCase):
    def test_nothing_is_tried_before_the_wait_is_over(self) -> None:
        world = World(backoff_first=1.0)
        reconnecting = Reconnecting(world.session)
        for _ in range(20):
            reconnecting.handle_attempt(world.now)
            world.take(reconnecting.handle_failure(OSError("refused"), world.now))
            began = world.now
            while (wait := world.take(reconnecting.poll_wait(world.now))) > 0.0:
                world.now += wait
            self.assertGreaterEqual(world.now - began, 1.0)
            self.assertLessEqual(world.now - began, 60.0)
            self.assertIsNone(reconnecting.ended)

    def test_one_that_is_closed_between_connections_does_not_connect_again(self) -> None:
        world = World()
        reconnecting = Reconnecting(world.session)
        world.take(reconnecting.handle_failure(OSError("refused"), world.now))
        self.assertGreater(world.take(reconnecting.poll_wait(world.now)), 0.0)
        world.session.leave(done=True)
        self.assertEqual(world.take(reconnecting.poll_wait(world.now)), 0.0)
        self.assertEqual(reconnecting.ended and reconnecting.ended.code, 0)
        self.assertEqual(world.kinds(), ["disconnected", "reconnecting"])


if __name__ == "__main__":
    unittest.main()
