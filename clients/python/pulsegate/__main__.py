"""The command line: `python3 -m pulsegate HOST:PORT --id NAME` sends each line of its input."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from .client import Client
from .codes import DONE, GOODBYES, durability_text
from .frames import Message, Notice
from .outcomes import Closed, Ended, OutboxError
from .text import readable

CLOSE_WAIT = 30.0  # seconds at the end of the input, until every message has ended
MUTE_MAX = 3  # a program for people gives up earlier (8.2)
EXIT_FAILED, EXIT_ENDED, EXIT_INTERRUPTED = 1, 3, 130
EXIT_CODES = """\
exit codes, those of `pulsegate connect --id`:
  0    every message was committed
  1    nobody there speaks the pulse protocol, or the input or the outbox can't be used
  2    wrong arguments
  3    a message was not committed, or the gateway says not to come back
  130  interrupted by SIGINT or SIGTERM
"""


def main() -> int:
    """Runs the program and returns its exit code."""
    options = _parser().parse_args()
    for stream in (sys.stdout, sys.stderr):  # whatever the locale is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="pulsegate: %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    events = _Events()
    client: Client | None = None
    try:
        try:
            host, port = _split(options.address)
            client = Client(host, port, options.id, outbox=options.outbox, mute_max=MUTE_MAX, on_event=events)
        except OutboxError as error:
            _complain(str(error))
            return EXIT_FAILED
        except ValueError as error:
            _parser().error(str(error))
        threading.Thread(target=_send_lines, args=(client, events), daemon=True).start()
        for message in client.messages():
            _say("message", message.number, message.payload)
        return _exit_code(client, events)
    except KeyboardInterrupt:
        left = 0
        if client:
            with contextlib.suppress(KeyboardInterrupt):  # a second one waits for no goodbye
                client.close(done=False)
            left = client.unsettled
        kept = ", kept in the outbox" if left and options.outbox else ""
        _complain(f"interrupted: {_count(left)} not ended{kept}")
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pulsegate",
        description="Sends each line of stdin to a gateway and says what becomes of it.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", metavar="HOST:PORT", help="an IPv6 address in brackets")
    parser.add_argument("--id", required=True, help="who this client is")
    parser.add_argument("--outbox", metavar="FILE", help="keep what has not ended in this file")
    return parser


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("the address is HOST:PORT")
    return host.strip("[]"), int(port)


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
            _say("received", number, *([] if durability in (1, 2) else [f"({durability_text(durability)})"]))
        elif isinstance(detail, (Closed, Notice)):
            _say(kind, detail.code, detail.text)
        elif isinstance(detail, float):
            _say(kind, f"in {detail:.1f} s")
        else:
            _say(kind, *(detail if isinstance(detail, tuple) else (detail,)))


def _send_lines(client: Client, events: _Events) -> None:
    """Every line of stdin is a message. At the end of the input it waits for all of them."""
    try:
        for line in _lines():
            try:
                if line is None:
                    raise ValueError("the line is longer than any message")
                client.submit(line, None)
            except ValueError as error:
                events.not_committed += 1
                _say("not sent", error)
    except Ended:
        return
    except OSError as error:
        events.input_failed = True
        _complain(f"the input can't be read to its end: {error}")
    client.close(timeout=CLOSE_WAIT)


def _lines() -> Iterator[bytes | None]:
    """The lines of stdin, None for one that is longer than any message.

    It reads the descriptor, for a thread that waits inside sys.stdin holds a lock that the interpreter wants
    when it ends.
    """
    parts: list[bytes] = []  # of the line that has not ended
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


def _exit_code(client: Client, events: _Events) -> int:
    """Says how it has ended, and returns what that is for the shell."""
    closed = client.closed
    left = client.unsettled
    assert closed
    if events.not_committed or left:
        _complain(f"{_count(events.not_committed + left)} not committed")
    if closed.code not in GOODBYES:
        _complain(f"giving up: {closed.text}")
    if closed.no_gateway or events.input_failed:
        return EXIT_FAILED
    return 0 if closed.code == DONE and not events.not_committed and not left else EXIT_ENDED


def _say(*words: Any) -> None:
    line = " ".join(readable(each if isinstance(each, bytes) else str(each)) for each in words)
    try:
        sys.stdout.write(line + "\n")  # in one piece, because two threads do
        sys.stdout.flush()
    except BrokenPipeError:  # nobody listens; what the outbox has goes on next time
        os._exit(1)


def _complain(text: str) -> None:
    print(f"pulsegate: {readable(text)}", file=sys.stderr)


def _count(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
