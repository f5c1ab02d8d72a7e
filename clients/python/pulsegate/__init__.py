"""A client of the pulse protocol, version 1. It needs Python 3.9 or newer, and nothing else.

    import pulsegate

    with pulsegate.Client("gateway.example", 7373, "sensor-7", outbox="sensor-7.db") as client:
        outcome = client.send(b"hello")      # waits until the gateway has it, at most 30 s
        print(outcome.kind)                  # "committed", "not accepted" or "unknown"
        for message in client.messages():    # what the gateway sends
            print(message.number, message.payload)

The client reconnects, resumes its session, and sends again what the gateway has not committed. With an outbox
file all of this outlives the process, however it ends. What goes wrong meanwhile is logged as a warning, by
the logger "pulsegate". Times are in seconds, sizes in bytes. Numbers in brackets, here and in all comments, are
sections of PROTOCOL.md.

For asyncio there is `pulsegate.aio.AsyncClient`, with the same methods and promises. Read on in this order:
client.py or aio.py (what a program calls), session.py and connection.py (the rules), outbox.py (what is stored),
frames.py (what is on the wire).
"""

from .client import Client, Ticket
from .frames import Message, Notice
from .outcomes import Closed, Ended, Full, OutboxError, Outcome, Unsettled
from .text import readable

__all__ = [
    "Client",
    "Closed",
    "Ended",
    "Full",
    "Message",
    "Notice",
    "OutboxError",
    "Outcome",
    "Ticket",
    "Unsettled",
    "readable",
]
