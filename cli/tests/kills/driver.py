"""Sends each line of its input to a gateway with the client in Python, and says what becomes of it.

    driver.py threads|asyncio HOST PORT ID [OUTBOX]

The second word of a line is its count. `accepted COUNT` is said when the client has taken the message in (with an
outbox: it is on disk); `committed COUNT NUMBER`, `not accepted COUNT NUMBER` and `unknown COUNT NUMBER` when it has
ended; `event KIND DETAIL` for what else happens. At the end of the input everything is settled: `closed CODE`.
"""

import asyncio
import os
import queue
import random
import sys
import threading

import pulsegate
from pulsegate import reconnecting
from pulsegate.aio import AsyncClient


class Quick:
    """Comes back within milliseconds."""

    @staticmethod
    def uniform(low, high):
        return random.uniform(low, min(high, 0.05))


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())  # in one piece, because two threads do


def on_event(kind, detail):
    if kind not in ("sent", "sent again", "committed", "confirmed"):
        code = getattr(detail, "code", detail)
        say("event", kind, code)


def with_threads(*arguments, **options):
    client = pulsegate.Client(*arguments, **options)
    pending = queue.Queue()

    def tell():
        while True:
            count, ticket = pending.get()
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
        pending.put((count, ticket))
    pending.put((None, None))
    teller.join()
    say("closed", client.close().code)


async def with_asyncio(*arguments, **options):
    async def tell():
        while True:
            count, ticket = await pending.get()
            if ticket is None:
                return
            say((await ticket.wait()).kind, count, ticket.number)

    loop = asyncio.get_running_loop()
    pending = asyncio.Queue()
    async with AsyncClient(*arguments, **options) as client:
        teller = asyncio.ensure_future(tell())
        while True:
            line = await loop.run_in_executor(None, sys.stdin.buffer.readline)
            if not line:
                break
            payload = line.rstrip(b"\n")
            count = payload.split()[1].decode()
            ticket = await client.submit(payload, None)
            say("accepted", count)
            pending.put_nowait((count, ticket))
        pending.put_nowait((None, None))
        await teller
    say("closed", client.closed.code)


def main():
    way, host, port, name = sys.argv[1:5]
    outbox = sys.argv[5] if len(sys.argv) > 5 else None
    reconnecting.random = Quick
    arguments = (host, int(port), name)
    options = {"outbox": outbox, "outbox_bytes_max": 1 << 16, "on_event": on_event}
    if way == "asyncio":
        asyncio.run(with_asyncio(*arguments, **options))
    else:
        with_threads(*arguments, **options)


if __name__ == "__main__":
    main()
