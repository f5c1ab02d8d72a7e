"""Moves bytes between a connection's rules and a socket that never blocks."""

from __future__ import annotations

import socket
import time

from .connection import Connection
from .session import Steps

READ_MAX = 1 << 16  # bytes at once
FRAMES_MAX = 32  # that are written at once; then reading has its turn


def prepare(sock: socket.socket) -> None:
    """Sets the options of a connection's socket.

    Answers and questions stand behind all that the kernel has taken, so on a slow link it should take little (6).
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1 << 14)


def take_turn(connection: Connection, sock: socket.socket, *, readable: bool) -> Steps[float]:
    """Reads if there is something, looks at the clock, and writes what the socket takes.

    Returns after how many seconds the next turn is due. It is due earlier if there is something to read, if
    the socket takes more (and `connection.is_writing`), or if the application has done something.
    """
    if readable:
        yield from _read(connection, sock)
    yield from connection.handle_time(time.monotonic())
    if connection.closed or (yield from _write(connection, sock)):
        return 0.0
    return connection.poll_timeout(time.monotonic())


def _read(connection: Connection, sock: socket.socket) -> Steps[None]:
    try:
        data = sock.recv(READ_MAX)
    except BlockingIOError:
        return
    except OSError as error:
        connection.handle_read_error(error)
        return
    if data:
        yield from connection.handle_data(data, time.monotonic())
    else:
        connection.handle_end_of_stream(time.monotonic())


def _write(connection: Connection, sock: socket.socket) -> Steps[bool]:
    """True if more can be written at once."""
    for _ in range(FRAMES_MAX):
        data = yield from connection.poll_output(time.monotonic())
        try:
            if data:
                connection.handle_written(sock.send(data), time.monotonic())
                continue
            if connection.has_parted:
                sock.shutdown(socket.SHUT_WR)  # a second time does nothing
        except BlockingIOError:
            pass
        except OSError as error:
            connection.handle_write_error(error, time.monotonic())
        return False
    return True
