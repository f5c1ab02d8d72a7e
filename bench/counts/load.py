"""Fixed operations on a gateway that runs in another process: the same turns with the same work, on any machine.

Between the rounds the process is stopped. What is sent meanwhile is there as a whole when it goes on, so that it
doesn't matter how fast anybody is.
"""

import contextlib
import functools
import os
import pathlib
import signal
import socket
import struct
import time

PATIENCE = 60
CROWD = 120
LINE = b"beat 0123456789 0123456789 0123\n"
PREFACE = b"PULSE\0\1\n"
BEAT, MESSAGE = 3, 4
WELCOME_BYTES = 4 + 96
RECEIPT_BYTES = 4 + 8


def frame(kind, body):
    return struct.pack(">I", kind << 24 | len(body)) + body


def hello(number):
    name = b"client %09d" % number
    numbers = struct.pack(">BBHIIIIIQ16sQQ", 0, 0, len(name), 0, 0, 64, 65536, 65536, 0, bytes(16), 0, 0)
    return PREFACE + frame(1, numbers + name)


def message(number):
    return frame(MESSAGE, struct.pack(">Q", number) + LINE)


class Gateway:
    """A running gateway: its process, and its listeners by name."""

    def __init__(self, process, addresses):
        self.process, self.addresses = process, addresses
        self.marker = self.connect("answered")

    def connect(self, listener):
        client = socket.create_connection(self.addresses[listener], PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def batch(self, act):
        """What `act` does while the gateway is stopped is there at once when it goes on, and is served."""
        threads = pathlib.Path("/proc/%d/task" % self.process.pid)
        os.kill(self.process.pid, signal.SIGSTOP)
        while any((thread / "stat").read_text().rpartition(") ")[2][0] != "T" for thread in threads.iterdir()):
            time.sleep(0.0002)
        act()
        self.marker.sendall(b"done\n")
        os.kill(self.process.pid, signal.SIGCONT)
        receive(self.marker, len("OK\n"))


    @contextlib.contextmanager
    def crowd(self, listener, greeting):
        """Clients that come all at once, say this, and go all at once."""
        clients = []

        def come():
            for number in range(CROWD):
                clients.append(self.connect(listener))
                clients[-1].sendall(greeting(number))

        self.batch(come)
        yield clients
        self.batch(lambda: [client.close() for client in clients])

    @contextlib.contextmanager
    def sessions(self, listener):
        """Clients that were welcomed, all at once."""
        with self.crowd(listener, hello) as clients:
            for client in clients:
                receive(client, WELCOME_BYTES)
            # A session counts only when its WELCOME is known to have come.
            self.batch(lambda: send(clients, frame(BEAT, b"\0")))
            yield clients


def receive(client, count):
    while count > 0:
        got = client.recv(count)
        if not got:
            raise ConnectionError("the gateway has ended a connection")
        count -= len(got)


def send(clients, data):
    for client in clients:
        client.sendall(data)


def heartbeats(gateway, rounds, listener="raw"):
    """Bytes on a raw connection whose messages are discarded."""
    with gateway.crowd(listener, lambda _: LINE) as clients:
        for _ in range(rounds):
            gateway.batch(lambda: send(clients, LINE))


def answered(gateway, rounds):
    """A line that is answered with a line, alone in its turn."""
    for _ in range(rounds):
        gateway.marker.sendall(LINE)
        receive(gateway.marker, len("OK\n"))


def connections(gateway, rounds, listener="raw"):
    """Accept, a message, and the end that the peer asks for."""
    clients = []

    def come():
        for _ in range(CROWD):
            clients.append(gateway.connect(listener))
            clients[-1].sendall(LINE)
            clients[-1].shutdown(socket.SHUT_WR)

    for _ in range(rounds):
        gateway.batch(come)
        while clients:
            client = clients.pop()
            if client.recv(1):
                raise ConnectionError("the gateway has said something")
            client.close()


def beats(gateway, rounds):
    """BEAT of an attached session."""
    with gateway.sessions("pulse") as clients:
        for _ in range(rounds):
            gateway.batch(lambda: send(clients, frame(BEAT, b"\0")))


def messages(gateway, rounds):
    """MESSAGE that is discarded: commit and RECEIPT."""
    with gateway.sessions("pulse") as clients:
        for number in range(1, rounds + 1):
            gateway.batch(lambda: send(clients, message(number)))
            for client in clients:
                receive(client, RECEIPT_BYTES)


def stored(gateway, rounds):
    """MESSAGE that is stored alone: a commit of its own, and RECEIPT."""
    client = gateway.connect("store")
    client.sendall(hello(0))
    receive(client, WELCOME_BYTES)
    for number in range(1, rounds + 1):
        client.sendall(message(number))
        receive(client, RECEIPT_BYTES)


# By name: what is done, how many of it a round has, and the rounds to begin with.
CASES = {
    "gateway/heartbeat": (heartbeats, CROWD, 15),
    "gateway/heartbeat, auto": (functools.partial(heartbeats, listener="auto"), CROWD, 15),
    "gateway/line answered, a turn of its own": (answered, 1, 2000),
    "gateway/accept, message, end": (connections, CROWD, 10),
    "gateway/accept, message, end, auto": (functools.partial(connections, listener="auto"), CROWD, 10),
    "gateway/BEAT": (beats, CROWD, 15),
    "gateway/MESSAGE, commit, RECEIPT": (messages, CROWD, 10),
    "gateway/MESSAGE stored alone": (stored, 1, 500),
}
