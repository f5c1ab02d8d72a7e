"""Sends each line of its input to a gateway with the client in Python, and says what becomes of it.

    driver.py HOST PORT ID [OUTBOX]

The second word of a line is its count. `accepted COUNT` is said when the client has taken the message in (with an
outbox: it is on disk); `committed COUNT NUMBER`, `not accepted COUNT NUMBER` and `unknown COUNT NUMBER` when it has
ended; `event KIND DETAIL` for what else happens. At the end of the input everything is settled: `closed CODE`.
"""

import collections
import os
import random
import sys
import threading

import pulsegate
from pulsegate import reconnecting


class Quick:
    """Comes back within milliseconds."""

    @staticmethod
    def uniform(low, high):
        return random.uniform(low, min(high, 0.05))


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())   # in one piece, because two threads do


def on_event(kind, detail):
    if kind not in ("sent", "sent again", "committed", "confirmed"):
        code = getattr(detail, "code", detail)
        say("event", kind, code)


def main():
    host, port, name = sys.argv[1:4]
    outbox = sys.argv[4] if len(sys.argv) > 4 else None
    reconnecting.random = Quick
    client = pulsegate.Client(host, int(port), name, outbox=outbox, outbox_bytes_max=1 << 16, on_event=on_event)
    pending = collections.deque()
    more = threading.Condition()

    def tell():
        while True:
            with more:
                more.wait_for(lambda: pending)
                count, ticket = pending.popleft()
            if ticket is None:
                return
            say(ticket.wait().kind, count, ticket.number)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    for line in sys.stdin.buffer:
        payload = line.rstrip(b"\n")
        count = payload.split()[1].decode()
        ticket = client.submit(payload, None)
        say("accepted", count)
        with more:
            pending.append((count, ticket))
            more.notify()
    with more:
        pending.append((None, None))
        more.notify()
    teller.join()
    closed = client.close()
    say("closed", closed.code)


if __name__ == "__main__":
    main()
