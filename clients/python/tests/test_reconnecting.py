"""When there is no gateway, and how long the client waits until it tries again."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from unittest import mock

from pulsegate import Unsettled
from pulsegate.frames import (
    Bye,
    Confirm,
    Message,
    Notice,
    Receipt,
)

from .gateway import PATIENCE, Base


class NoGateway(Base):
    def port_of_nobody(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    def test_send_without_a_gateway_says_so_and_the_message_goes_on(self) -> None:
        self.listener.close()
        with self.assertLogs("pulsegate", "WARNING") as logs:
            client = self.client(backoff_longest=0.2)
            self.event("disconnected")
            with self.assertRaisesRegex(Unsettled, "within 0.3 s .*refused.*goes on") as caught:
                client.send(b"x", timeout=0.3)
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertIn(f"127.0.0.1:{self.port}", logs.output[0])
        self.assertIn("refused", logs.output[0])
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(PATIENCE)
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1))
        self.assertEqual(self.kind_of(caught.exception.ticket), "committed")

    def test_warnings_are_few(self) -> None:
        self.listener.close()
        with self.assertLogs("pulsegate", "WARNING") as logs, mock.patch("random.uniform", return_value=0.0):
            self.client(backoff_first=0.01)
            for _ in range(20):
                self.event("disconnected")
        self.assertEqual(len(logs.output), 1)

    def test_what_is_no_payload_is_refused_with_what_to_do(self) -> None:
        client = self.client()
        for send in (client.send, client.submit):
            with self.assertRaisesRegex(TypeError, r"not str: encode it, as in text\.encode\(\)"):
                send("text")
            for wrong in (5, None, [1, 2]):
                with self.assertRaisesRegex(TypeError, "a payload is bytes, not "):
                    send(wrong)
        client.submit(memoryview(b"abcdefgh").cast("I"))
        peer = self.accept()
        peer.welcome()
        peer.expect(Message(1, b"abcdefgh"))

    def test_each_address_gets_its_share_of_the_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as hole, contextlib.ExitStack() as callers:
            for _ in range(4):  # its queue is full, so nothing answers who connects now
                caller = callers.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(hole.getsockname())
            time.sleep(0.05)
            addresses = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", hole.getsockname()),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self.port)),
            ]
            with (
                mock.patch("pulsegate.client.PATIENCE", 3.0),
                mock.patch("pulsegate.aio.PATIENCE", 3.0),
                mock.patch("socket.getaddrinfo", return_value=addresses),
            ):
                client = self.client()
                self.accept().welcome()
                self.event("new session")
            self.assertIsNone(client.closed)

    def test_a_name_that_can_not_be_one_is_no_end(self) -> None:
        client = self.make("a" * 70 + ".example", 7000, "tester", on_event=lambda *event: self.events.put(event))
        self.assertIn("no connection to", self.event("disconnected").text)
        self.assertIsNone(client.closed)

    def test_one_that_never_says_a_byte_is_no_gateway(self) -> None:
        client = self.client(mute_max=3, backoff_first=0.01)
        ticket = client.submit(b"x")
        self.accept().cut_politely()
        self.accept().cut_politely()
        self.accept().send(Bye(60, 2, 0, 0, "the gateway is full"))  # a gateway, so it counts anew
        for _ in range(3):
            self.assertIsNone(client.closed)
            self.accept().cut_politely()
        closed = self.end_of(client)
        self.assertEqual(closed.retry, 0)
        self.assertIn("no gateway of the pulse protocol", closed.text)
        self.assertEqual(self.kind_of(ticket), "not accepted")

    def test_a_client_with_a_session_goes_on(self) -> None:
        client = self.client(mute_max=1, backoff_first=0.01)
        self.accept().welcome()
        self.event("new session")
        for peer in list(self.peers):
            peer.cut()
        for _ in range(3):
            self.accept().cut_politely()
        self.assertIsNone(client.closed)

    def test_what_is_no_frame_ends_it_with_a_sentence(self) -> None:
        client = self.client()
        peer = self.accept()
        peer.sock.sendall(b"welcome to the chat\n")
        closed = self.end_of(client)
        self.assertEqual((closed.code, closed.retry), (33, 0))
        self.assertIn("for raw clients only", closed.text)


class Backoff(Base):
    """The longest wait is always taken: 0.02 s x 2^n."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch("random.uniform", side_effect=lambda _, most: most)
        patch.start()
        self.addCleanup(patch.stop)

    def n(self) -> float:
        """What the next wait says that n is."""
        return math.log2(self.event("reconnecting") / 0.02)

    def fail(self) -> None:  # type: ignore[override]
        self.accept().cut()

    def test_ends_that_say_now_do_not_count(self) -> None:
        self.client(backoff_first=0.02)
        self.fail()
        self.assertAlmostEqual(self.n(), 1)
        for _ in range(3):
            peer = self.accept()
            peer.welcome()
            peer.send(Bye(12, 1, 0, 0, "short deadline"))
            self.assertAlmostEqual(self.n(), 1)
        self.accept().send(Bye(10, 1, 0, 0, "now, but it was never attached"))
        self.assertAlmostEqual(self.n(), 2)

    def test_ends_that_were_announced_do_not_count(self) -> None:
        self.client(backoff_first=0.02)
        self.fail()
        self.assertAlmostEqual(self.n(), 1)
        for code in (1, 2):
            peer = self.accept()
            peer.welcome()
            peer.send(Notice(code, 50, "soon"))
            self.event("notice")
            peer.cut()
            self.assertAlmostEqual(self.n(), 1)
        self.accept().send(Bye(70, 2, 0, 0, "drain"))
        self.assertAlmostEqual(self.n(), 1)
        peer = self.accept()
        peer.welcome()
        peer.send(Notice(3, 0, "receipts have stopped"))
        self.event("notice")
        peer.cut()
        self.assertAlmostEqual(self.n(), 2)

    def test_reading_that_rests_is_a_warning(self) -> None:
        self.client()
        peer = self.accept()
        peer.welcome()
        with self.assertLogs("pulsegate", "WARNING") as logs:
            peer.send(Notice(5, 0, "\x1b"), Notice(5, 0, "again"))
            self.event("notice")
            self.event("notice")
        self.assertEqual(len(logs.output), 1, logs.output)
        self.assertIn("reads nothing more for now, a share of what it keeps is used up", logs.output[0])

    def test_the_first_receipt_begins_anew_but_not_for_the_replaced(self) -> None:
        client = self.client(backoff_first=0.02)
        for n in (1, 2, 3):
            self.fail()
            self.assertAlmostEqual(self.n(), n)
        peer = self.accept()
        peer.welcome()
        client.submit(b"x")
        peer.expect(Message(1, b"x"))
        peer.send(Receipt(1))
        peer.expect(Confirm(1))
        peer.cut()
        self.assertAlmostEqual(self.n(), 0)
        peer = self.accept()
        peer.welcome()
        client.submit(b"y")
        peer.expect(Message(2, b"y"))
        peer.send(Receipt(2), Bye(51, 2, 0, 2, "replaced"))
        self.assertAlmostEqual(self.n(), 1)

    def test_a_welcome_that_settles_begins_anew(self) -> None:
        client = self.client(backoff_first=0.02)
        peer = self.accept()
        peer.welcome()
        client.submit(b"x")
        peer.expect(Message(1, b"x"))
        peer.cut()
        self.assertAlmostEqual(self.n(), 1)
        peer = self.accept()
        peer.welcome()  # which settles nothing
        peer.expect(Message(1, b"x"))
        peer.cut()
        self.assertAlmostEqual(self.n(), 2)
        peer = self.accept()
        peer.welcome(committed=1)
        peer.expect(Confirm(1))
        peer.cut()
        self.assertAlmostEqual(self.n(), 0)

    def test_no_attempt_comes_sooner_than_the_first_wait(self) -> None:
        with mock.patch("random.uniform", return_value=0.0):
            self.client()
            begins = []
            for _ in range(4):
                self.fail()
                begins.append(time.monotonic())
        self.assertGreater(begins[-1] - begins[0], 0.25)
