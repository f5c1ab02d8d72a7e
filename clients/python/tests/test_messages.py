"""Messages in both directions, and heartbeats between them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any
from unittest import mock

from pulsegate import Ended, Full, Outcome
from pulsegate.frames import (
    Beat,
    Bye,
    Confirm,
    Message,
    Receipt,
    Refuse,
    encode,
)

from .gateway import NEXT_TOKEN, PATIENCE, TOKEN, Base, Peer


class Sending(Base):
    def test_three_legs_and_goodbye(self) -> None:
        client = self.client()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.id), (0, bytes(16), "tester"))
        peer.welcome()
        ticket = client.submit(b"one")
        peer.expect(Message(1, b"one"))
        self.assertIsNone(ticket.wait(0.05))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        self.assertEqual(self.kind_of(ticket), "committed")
        self.assertEqual(ticket.number, 1)
        self.closing(client)
        peer.goodbye()
        self.assertEqual(self.end_of(client).code, 0)
        with self.assertRaises(Ended):
            client.submit(b"late")

    def test_send_blocks_until_committed_and_close_waits(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(client.send(b"x")))
        thread.start()
        peer.expect(Message(1, b"x"))
        self.closing(client)
        self.assertTrue(peer.quiet(0.1))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))  # before BYE 0 (7.4)
        peer.goodbye()
        thread.join()
        self.assertEqual(outcomes[0].kind, "committed")

    def test_eight_settled_are_confirmed_at_once(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        for _number in range(1, 10):
            client.submit(b"")
        peer.expect(*(Message(number, b"") for number in range(1, 10)))
        peer.send(Receipt(8))
        peer.expect(Confirm(8))
        peer.send(Receipt(9))
        peer.expect(Confirm(9))

    def test_resume_after_cut_with_the_same_numbers(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        tickets = [client.submit(text) for text in (b"a", b"b", b"c")]
        peer.expect(Message(1, b"a"), Message(2, b"b"), Message(3, b"c"))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        peer.cut()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (7, TOKEN, 1))
        peer.welcome(committed=2, token=NEXT_TOKEN)  # settles 2
        peer.expect_in_any_order(Message(3, b"c"), Confirm(2))
        self.assertEqual(self.kind_of(tickets[1]), "committed")
        self.assertIsNone(tickets[2].outcome)
        peer.send(Receipt(3))
        self.assertEqual(self.kind_of(tickets[2]), "committed")
        self.assertEqual([ticket.number for ticket in tickets], [1, 2, 3])

    def test_refusal_and_refusal_in_welcome(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome()
        tickets = [client.submit(b"x") for _ in range(3)]
        peer.expect(*(Message(number, b"x") for number in (1, 2, 3)))
        peer.send(Refuse(1, 2, "too much"))
        self.assertIsNone(tickets[0].wait(0.05))  # only the RECEIPT settles it (7.3)
        peer.send(Receipt(1))
        self.assertEqual(tickets[0].wait(PATIENCE), Outcome("not accepted", 2, "too much"))
        peer.cut()
        peer = self.accept()
        peer.welcome(committed=3, refused=((1, 2), (3, 3)))
        self.assertEqual(self.kind_of(tickets[1]), "committed")
        self.assertEqual(tickets[2].wait(PATIENCE), Outcome("not accepted", 3, "not wanted"))
        peer.expect(Confirm(3))

    def test_unknown_after_outcome_0_and_the_unsent_go_on(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=1)
        sent, waiting = client.submit(b"sent"), client.submit(b"waiting")
        peer.expect(Message(1, b"sent"))
        peer.cut()
        peer = self.accept()
        peer.welcome(outcome=0, session=8, token=NEXT_TOKEN, committed=0)
        self.assertEqual(self.kind_of(sent), "unknown")
        peer.expect(Message(1, b"waiting"))
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(waiting), "committed")
        peer.cut()
        peer = self.accept()
        self.assertEqual((peer.hello.session, peer.hello.token, peer.hello.acknowledged), (8, NEXT_TOKEN, 1))

    def test_the_window_is_obeyed(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=2, window_bytes=10, message_max=10)
        for payload in (b"1", b"2", b"123456789", b"12"):
            client.submit(payload)
        peer.expect(Message(1, b"1"), Message(2, b"2"))
        self.assertTrue(peer.quiet(0.1))
        peer.send(Receipt(1))
        peer.expect(Message(3, b"123456789"))
        peer.send(Receipt(2))
        peer.expect(Confirm(2))
        self.assertTrue(peer.quiet(0.1))  # by bytes
        peer.send(Receipt(3))
        peer.expect(Message(4, b"12"))

    def test_too_long_for_the_gateway(self) -> None:
        client = self.client()
        long, short = client.submit(b"12345"), client.submit(b"1234")
        peer = self.accept()
        peer.welcome(message_max=4)
        peer.expect(Message(1, b"1234"))
        self.assertEqual(self.kind_of(long), "not accepted")
        with self.assertRaises(ValueError):
            client.submit(b"12345")
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(short), "committed")

    def test_full(self) -> None:
        client = self.client(outbox_bytes_max=1000)
        first = client.submit(bytes(500))
        with self.assertRaises(Full):
            client.submit(bytes(10))
        with self.assertRaises(ValueError):
            client.submit(bytes(1000))
        peer = self.accept()
        peer.welcome()
        peer.read()
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(first), "committed")
        client.submit(bytes(10))


class Receiving(Base):
    def test_messages_are_receipted_when_taken(self) -> None:
        client = self.client(window_messages=3)
        peer = self.accept()
        self.assertEqual(peer.hello.window_messages, 3)
        peer.welcome()
        self.assertEqual(peer.read(), Beat(0))
        peer.send(Message(1, b"a"), Message(2, b"b"))
        self.assertTrue(peer.quiet(0.1))
        self.assertEqual(client.receive(PATIENCE), Message(1, b"a"))
        peer.expect(Receipt(1))
        peer.cut()  # 2 has come, but is not taken
        peer = self.accept()
        self.assertEqual(peer.hello.committed, 1)
        peer.welcome()
        self.assertIsNone(client.receive(0.05))
        peer.send(Confirm(1), Message(2, b"b"))
        self.assertEqual(client.receive(PATIENCE), Message(2, b"b"))
        peer.expect(Receipt(2))

    def test_messages_taken_without_a_connection(self) -> None:
        client = self.client(outbox=self.outbox)
        peer = self.accept()
        peer.welcome()
        peer.send(Message(1, b"a"), Message(2, b"b"), Bye(70, 2, 300, 0, ""))
        self.event("reconnecting")
        self.assertEqual([next(client.messages()).payload for _ in range(2)], [b"a", b"b"])
        self.assertEqual(self.accept().hello.committed, 2)

    def test_a_window_that_is_not_obeyed(self) -> None:
        client = self.client(window_messages=2)
        peer = self.accept()
        peer.welcome()
        peer.send(*(Message(number, b"") for number in (1, 2, 3)))
        peer.goodbye(38)
        self.assertEqual(self.end_of(client).code, 38)


class Heartbeats(Base):
    def test_question_is_answered_before_what_waits(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.welcome(window_messages=1)
        client.submit(b"a")
        client.submit(b"b")
        peer.expect(Message(1, b"a"))
        peer.send(Beat(1), Receipt(1))
        peer.expect(Beat(2))
        peer.expect_in_any_order(Message(2, b"b"), Confirm(1))

    def test_beats_come_in_time(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=100, beat_timeout=10000)
        self.assertEqual(peer.read(), Beat(0))  # at once, because the session is new
        times = [time.monotonic()]
        for _ in range(8):
            self.assertEqual(peer.read(), Beat(0))
            times.append(time.monotonic())
        gaps = [later - earlier for earlier, later in zip(times, times[1:])]
        self.assertLess(min(gaps), 0.1)  # a machine that is busy may make others longer
        self.assertGreater(times[-1] - times[0], 8 * 0.03)

    def test_silent_gateway_is_asked_once_and_given_up(self) -> None:
        clock, ahead = time.monotonic, 0.0  # silence passes when this test says so, however busy the machine is
        patch = mock.patch("time.monotonic", lambda: clock() + ahead)
        patch.start()
        self.addCleanup(patch.stop)
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=400, beat_timeout=600_000)
        for answers in ((), (Beat(2),)):  # an answer ends the silence, and it begins anew
            peer.send(*answers, Beat(1))
            peer.expect(Beat(2))  # so all that was sent has been heard
            ahead += 601
            peer.expect(Beat(1))
        ahead += 601
        peer.expect(None)
        self.assertEqual(self.event("disconnected").code, 92)

    def test_zero_intervals_do_not_spin(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome(beat_interval=0, beat_timeout=0)
        before, until, count = time.process_time(), time.monotonic() + 0.3, 0
        peer.sock.settimeout(0.3)
        while time.monotonic() < until and peer.sock.recv(100):
            count += 1
            peer.send(Beat(2))
        self.assertLess(count, 100)
        self.assertLess(time.process_time() - before, 0.25)


class SlowLink(Base):
    def slow_peer(self, **welcome: Any) -> Peer:
        self.listener.close()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.settimeout(PATIENCE)
        self.port = self.listener.getsockname()[1]
        self.sender = self.client()
        peer = self.accept()
        peer.welcome(**welcome)
        self.event("new session")
        return peer

    def test_a_large_message_on_a_slow_link_arrives(self) -> None:
        peer = self.slow_peer(beat_interval=500, beat_timeout=1000)
        self.sender.submit(bytes(60_000))
        data, began = b"", time.monotonic()
        while len(data) < 60_000 and time.monotonic() < began + 30:
            time.sleep(0.05)
            data += peer.sock.recv(1000)
            peer.send(Beat(0))  # a gateway says that it lives while parts of a message come in (6)
        self.assertGreaterEqual(len(data), 60_000)
        self.assertGreater(time.monotonic() - began, 2 * 1.0)  # without them it would have gone
        self.assertNotIn("disconnected", [kind for kind, _ in list(self.events.queue)])
        self.assertEqual(self.event("disconnected").code, 92)  # now it says nothing any more

    def test_an_answer_overtakes_what_waits(self) -> None:
        peer = self.slow_peer()
        for _ in range(500):
            self.sender.submit(bytes(2000))
        time.sleep(0.3)  # what fits into the system's buffers is there
        peer.send(Beat(1))
        time.sleep(0.1)
        before = 0
        while (frame := peer.read()) != Beat(2):
            before += len(encode(frame))
        self.assertLess(before, 60_000)


class Promises(Base):
    def test_in_memory_only_is_said(self) -> None:
        for durability, words in (
            (0, "in memory only"),
            (1, "with the operating system"),
            (2, "synced to disk"),
            (7, "durability 7"),
        ):
            client = self.client()
            peer = self.accept()
            peer.welcome(durability=durability)
            ticket = client.submit(b"x")
            peer.expect(Message(1, b"x"))
            peer.send(Receipt(1))
            self.assertEqual(ticket.wait(PATIENCE), Outcome("committed", 0, words, durability))
            self.assertEqual(self.event("committed"), (1, durability))
            self.assertEqual(client.durability, durability)
            self.closing(client)
            peer.expect(Confirm(1))
            peer.goodbye()
