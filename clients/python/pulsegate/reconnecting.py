"""When a client comes back after a connection has ended, and when it gives up (8.2).

Like connection.py it knows no sockets and no clock.
"""

from __future__ import annotations

import random
from dataclasses import replace

from .codes import BACK_SOON, BAD_TOKEN, CODES, DONE, DRAIN, GOODBYES, NEVER, NOW, REPLACED
from .connection import Connection, no_gateway
from .outcomes import Closed
from .session import Session, Steps
from .settings import DISK_AGAIN


class Reconnecting:
    """Decides what follows each connection and each attempt.

    ended: how the client ends, once no connection follows.
    """

    def __init__(self, session: Session) -> None:
        self.ended: Closed | None = None
        self._session = session
        self._failures = 0  # the n of 8.2
        self._mute = 0  # connections in a row that were taken, and ended without an error and without a byte
        self._began = 0.0  # when the newest attempt did
        self._again_at = 0.0  # when the next one may
        self._gives_up = False  # the session is out of reach, and that is not stored yet

    def handle_attempt(self, now: float) -> None:
        """A connection is tried now."""
        self._began = now

    def handle_failure(self, error: Exception, now: float) -> Steps[None]:
        """It could not connect."""
        settings = self._session.settings
        text = f"no connection to {settings.host}:{settings.port}: {error}"
        yield from self.handle_end(None, Closed.because("socket error", text), now)

    def handle_end(self, connection: Connection | None, closed: Closed, now: float) -> Steps[None]:
        """A connection has ended, or (None) an attempt. Sets `ended` if that was the last."""
        session = self._session
        settings = session.settings
        session.away = closed.text
        self._count_mute(connection, closed)
        if self._mute >= settings.mute_max:
            text = no_gateway(settings.host, settings.port)
            closed = replace(closed, retry=NEVER, text=text, no_gateway=True)
        yield "disconnected", closed
        if connection and connection.hello.session and (closed.code == BAD_TOKEN or connection.is_astray):
            # This session is out of reach, but a new one is not (5.3, 5.5).
            self._gives_up = not (yield from session.give_up(now))
            closed = replace(closed, retry=NOW)
        if closed.retry == NEVER or not settings.reconnect:
            self.ended = closed
            return
        self._count_failure(connection, closed, now)
        longest = min(settings.backoff_longest, settings.backoff_first * 2 ** min(self._failures, 40))
        wait = closed.delay + random.uniform(0.0, longest)
        wait = max(wait, self._began + settings.backoff_first - now)
        self._again_at = now + wait
        if not (connection and connection.welcome) and not session.is_leaving:
            self._warn_away(closed, now)
        yield "reconnecting", wait

    def poll_wait(self, now: float) -> Steps[float]:
        """How many seconds to wait before this is asked again; 0 if it is time to connect, or to end.

        Whoever waits is woken early when the application closes the client.
        """
        session = self._session
        if session.is_leaving:  # one that isn't connected needn't connect to say goodbye (7.6)
            code = BACK_SOON if session.means_to_return else DONE
            self.ended = Closed(code, NEVER, 0.0, GOODBYES[code])
            return 0.0
        if now < self._again_at:
            return self._again_at - now
        if self._gives_up:
            self._gives_up = not (yield from session.give_up(now))
        if self._gives_up or not session.probe(now):
            return DISK_AGAIN  # it could not store what WELCOME brings
        return 0.0

    def _count_mute(self, connection: Connection | None, closed: Closed) -> None:
        at_end = connection is not None and connection.is_mute and closed.code == CODES["peer closed"][0]
        self._mute = self._mute + 1 if at_end and not self._session.outbox.state.session else 0

    def _count_failure(self, connection: Connection | None, closed: Closed, now: float) -> None:
        attached = connection is not None and connection.welcome is not None
        if connection and attached and now >= connection.attached_at + self._session.settings.steady:
            self._failures = 0
        elif closed.code == REPLACED:
            self._failures += 1
        elif connection and connection.has_settled:
            self._failures = 0
        elif connection and self._was_announced(connection, closed):
            pass
        else:
            self._failures += 1

    @staticmethod
    def _was_announced(connection: Connection, closed: Closed) -> bool:
        if connection.said_bye and closed.code == DRAIN:
            return True
        return bool(connection.welcome) and (connection.is_announced or (connection.said_bye and closed.retry == NOW))

    def _warn_away(self, closed: Closed, now: float) -> None:
        waiting = len(self._session.outbox.queue)
        rest = f"; {waiting} message{'s' * (waiting > 1)} not sent or not receipted" if waiting else ""
        self._session.warn("away", f"{closed.text}{rest}; it tries again and again", now)
