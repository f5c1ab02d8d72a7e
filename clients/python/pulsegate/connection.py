"""The rules of one connection, without a socket: bytes and times go in, bytes and events come out.

Numbers in brackets are sections of PROTOCOL.md. See session.py for what outlives a connection, and for
what a generator of events is.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace

from .codes import (
    BACK_SOON,
    DONE,
    DRAINING,
    GOODBYES,
    LATER,
    NEVER,
    NOW,
    PLANNED_END,
    RAW_LISTENER,
    READING_RESTS,
    RECEIPTS_STOPPED,
    REFUSED_BECAUSE,
    TOO_LARGE,
    durability_text,
)
from .frames import (
    PREFACE,
    REFUSED_MAX,
    Beat,
    Bye,
    Confirm,
    Frame,
    FrameReader,
    Message,
    Notice,
    ProtocolError,
    Receipt,
    Refuse,
    Welcome,
    encode,
)
from .outbox import Entry
from .outcomes import Closed, Outcome
from .session import Session, Steps
from .settings import CONFIRM_AFTER, CONFIRM_COUNT, DISK_AGAIN, LINGER, PATIENCE

# What comes before WELCOME and is no frame comes from no gateway (8.2).
NO_FRAME = ("unknown frame", "frame too large", "malformed frame", "text is not utf-8")


def no_gateway(host: str, port: int) -> str:
    """What to tell people where nobody speaks the protocol."""
    return (
        f"there is no gateway of the pulse protocol at {host}:{port}, or its listener is for raw clients only: "
        'check the address, and set protocol = "pulse" or "auto" for that listener'
    )


class Connection:
    """One connection, from HELLO to its end.

    closed: how it has ended, None until then.
    """

    def __init__(self, session: Session, now: float) -> None:
        self.session = session
        self.hello = session.begin(now)
        self.closed: Closed | None = None
        self.welcome: Welcome | None = None
        self.attached_at = 0.0  # when WELCOME came
        self.is_mute = True  # nothing has come yet
        self.is_announced = False  # the gateway said that this connection will end
        self.said_bye = False  # the gateway did
        self.has_settled = False  # a receipt or WELCOME has settled a message here
        self.is_astray = False  # its WELCOME was for what HELLO did not ask for

        self._reader = FrameReader(self.hello.message_max)
        self._out = memoryview(PREFACE + encode(self.hello))  # what is left of the frame that is being written
        self._began = now
        self._heard = now  # when the gateway last proved that it is alive
        self._spoke = now  # when something was last written
        self._interval = 0.0  # seconds after which to beat
        self._timeout = 0.0  # seconds of silence after which to ask, and again to give up
        self._is_new = False  # the gateway forgets a new session of which it hears nothing (5.4)
        self._answer_due = False
        self._asked: float | None = None  # when the question was written that has no answer
        self._parted: float | None = None  # when BYE was made; nothing is said after it
        self._end: Closed | None = None  # how it ends, once parted

        # Messages to the gateway.
        self._sent = 0  # how many, from the front of the outbox, are in this window
        self._ready: deque[Entry] = deque()  # those of them that are not written yet
        self._former = 0  # the highest number that went out on an earlier connection
        self._written = 0  # the highest number that went out here, or that WELCOME covers
        self._receipted = 0  # the highest number that receipts, or WELCOME, cover
        self._refusals: dict[int, Refuse] = {}
        self._confirmed = 0  # our floor, as the gateway knows it
        self._settled_at = 0.0  # when the first message was settled that is not confirmed

        # Messages from the gateway.
        self._received = 0  # the highest number that came here, or that HELLO covers
        self._acknowledged = 0  # our last receipt, or what HELLO covers

    # ---- what is to be written

    @property
    def is_writing(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self._out)

    @property
    def has_parted(self) -> bool:
        """Whether BYE is the last that is written, so that then the stream is ended."""
        return self._parted is not None

    def poll_output(self, now: float) -> Steps[memoryview]:
        """What to write next, empty if there is nothing. Then call `handle_written`."""
        if not self._out:
            frame = yield from self._next_frame(now)
            if frame:
                self._out = memoryview(encode(frame))
        return self._out

    def handle_written(self, count: int, now: float) -> None:
        """The socket took so many bytes of it."""
        self._out = self._out[count:]
        self._spoke = now

    def handle_write_error(self, error: OSError, now: float) -> None:
        """It can't be written to any more. Reading goes on, for the gateway's BYE may still be there."""
        self._part(Closed.because("socket error", f"the connection broke: {error}"), now)
        self._out = memoryview(b"")

    def poll_timeout(self, now: float) -> float:
        """The longest time, in seconds, until `handle_time` and `poll_output` have to be called again."""
        if self.welcome is None or self.has_parted or self.session.full:
            return 0.1
        if self._out:
            return max(0.0, self._spoke + 2 * self._timeout - now)
        silent_since = self._heard if self._asked is None else self._asked
        due = min(self._spoke + self._interval, silent_since + self._timeout)
        if self.session.outbox.state.settled > self._confirmed:
            due = min(due, self._settled_at + CONFIRM_AFTER)
        return max(0.0, due - now)

    def _next_frame(self, now: float) -> Steps[Frame | None]:
        """The most urgent frame (6). Only messages wait in a queue: any other frame is made when it is written."""
        if self.has_parted:
            return None
        leaving = self.session.is_leaving
        if self.welcome is None:
            # Where there is no session yet, nothing is known to the gateway that would have to be settled.
            if leaving and (self.session.means_to_return or not self.hello.session):
                self._say_goodbye(now)
            return None
        if self._answer_due:
            self._answer_due = False
            return Beat(Beat.ANSWER)
        state = self.session.outbox.state
        if state.cursor > self._acknowledged:
            self._acknowledged = state.cursor
            return Receipt(state.cursor)
        news = state.settled - self._confirmed
        if news and (news >= CONFIRM_COUNT or leaving or now >= self._settled_at + CONFIRM_AFTER):
            settled = state.settled
            for number in range(self._confirmed + 1, settled + 1):
                yield "confirmed", number
            self._confirmed = settled
            return Confirm(settled)
        if leaving:
            self._say_goodbye(now)
            return None
        if self._asked is None and now >= self._heard + self._timeout:
            self._asked = now
            return Beat(Beat.QUESTION)
        if self._is_new or now >= self._spoke + self._interval:  # before a message of the session has a number
            self._is_new = False
            return Beat(Beat.BEAT)
        return (yield from self._next_message(self.welcome, now))

    def _next_message(self, welcome: Welcome, now: float) -> Steps[Message | None]:
        if not self._ready:
            self._fill_window(welcome, now)
        if not self._ready:
            return None
        payloads: list[bytes] = []
        entry = self._ready[0]
        if not self.session.store(lambda: payloads.append(self.session.outbox.payload(entry)), now):
            return None
        self._ready.popleft()
        assert entry.number is not None
        self._written = entry.number
        yield "sent again" if entry.number <= self._former else "sent", entry.number
        return Message(entry.number, payloads[0])

    def _fill_window(self, welcome: Welcome, now: float) -> None:
        """Gives numbers to messages, as far as the gateway's window allows (7.1)."""
        outbox = self.session.outbox
        if self._sent >= min(len(outbox.queue), welcome.window_messages):
            return
        batch: list[Entry] = []
        flight = 0  # bytes
        for i, entry in enumerate(itertools.islice(outbox.queue, welcome.window_messages)):
            flight += entry.size
            if flight > welcome.window_bytes:
                break
            if i >= self._sent:
                batch.append(entry)
        batch = outbox.few(batch)
        if batch and self.session.store(lambda: outbox.assign(batch), now):
            self._ready.extend(batch)
            self._sent += len(batch)

    def _say_goodbye(self, now: float) -> None:
        code = BACK_SOON if self.session.means_to_return else DONE
        self._part(Closed(code, NEVER, 0.0, GOODBYES[code]), now)

    def _part(self, end: Closed, now: float, text: str = "") -> None:
        """Says BYE behind what is being written, and then reads until the other side ends too (8.2)."""
        if self.has_parted:
            return
        self._parted = now
        self._end = end
        bye = Bye(end.code, NEVER, 0, self.session.outbox.state.cursor, text[:120])
        self._out = memoryview(bytes(self._out) + encode(bye))

    # ---- what is read, and the time

    def handle_data(self, data: bytes, now: float) -> Steps[None]:
        """What one read gave. The receipts in it are settled together, whatever came after them."""
        self.is_mute = False
        if self._end is not None and self._end.code > BACK_SOON:
            return  # the gateway broke a rule, so what it says counts no more
        self._reader.feed(data)
        proofs = self._reader.proofs
        fault: ProtocolError | None = None
        try:
            frame = self._reader.next()
            while frame and self.closed is None:
                yield from self._handle_frame(frame, now)
                frame = self._reader.next()
        except ProtocolError as error:
            fault = error
        if self._reader.proofs != proofs:
            self._heard = now
            self._asked = None
        yield from self._settle(now)
        if fault:
            self._break_off(fault, now)

    def handle_end_of_stream(self, now: float) -> None:
        """The gateway has ended its side of the stream."""
        if self._reader.inside and not self._end:
            self._break_off(ProtocolError("truncated frame", "the stream ended inside it"), now)
        else:
            text = "the gateway closed the connection without a word"
            self.closed = self._end or Closed.because("peer closed", text)

    def handle_read_error(self, error: OSError) -> None:
        """Nothing more can be read."""
        self.closed = self._end or Closed.because("socket error", f"the connection broke: {error}")

    def handle_time(self, now: float) -> Steps[None]:
        """Ends what has taken too long, and writes what could not be written to the outbox."""
        vanished = ""
        if self.session.full and self.welcome and self.session.probe(now):
            yield from self._settle(now)
        if self._parted is not None:
            if now >= self._parted + LINGER:
                self.closed = self.closed or self._end
        elif self.welcome is None:
            if now >= self._began + PATIENCE:
                vanished = f"no WELCOME came within {PATIENCE:.0f} s"
        elif self._out:
            if self._asked is not None:
                self._asked = now  # the question waits behind this, so its time does not run yet
            if now >= self._spoke + 2 * self._timeout:
                vanished = f"the gateway took nothing for {2 * self._timeout:.1f} s"
        elif self._asked is not None and now >= self._asked + self._timeout:
            vanished = f"the gateway did not answer within {self._timeout:.1f} s"
        if vanished:
            self.closed = self.closed or Closed.because("peer vanished", vanished)

    def _break_off(self, fault: ProtocolError, now: float) -> None:
        closed = Closed.because(fault.reason, f"the gateway broke the protocol: {fault}")
        if not self.welcome and fault.reason in NO_FRAME:
            settings = self.session.settings
            text = f"{closed.text}; perhaps {no_gateway(settings.host, settings.port)}"
            closed = replace(closed, text=text, no_gateway=True)
        self._part(closed, now, str(fault))

    def _handle_frame(self, frame: Frame, now: float) -> Steps[None]:
        if isinstance(frame, Bye):
            yield from self._handle_bye(frame)
        elif self.has_parted and not isinstance(frame, (Receipt, Refuse)):
            pass  # after our BYE only receipts count (4)
        elif isinstance(frame, Welcome) and self.welcome is None:
            yield from self._handle_welcome(frame, now)
        elif self.welcome is None:
            raise ProtocolError("frame out of place", f"{type(frame).__name__} before WELCOME")
        elif isinstance(frame, Beat):
            self._answer_due = self._answer_due or frame.kind == Beat.QUESTION
        elif isinstance(frame, Notice):
            yield from self._handle_notice(frame, now)
        elif isinstance(frame, Message):
            self._handle_message(frame)
        elif isinstance(frame, Receipt) and self._receipted <= frame.committed <= self._written:
            self._receipted = frame.committed
        elif isinstance(frame, Refuse) and self._may_be_refused(frame.number):
            self._refusals[frame.number] = frame
        elif isinstance(frame, Confirm) and frame.floor <= self._acknowledged:
            pass  # it allows this side to forget refusals, and this client refuses nothing
        else:
            raise ProtocolError("frame out of place", repr(frame)[:80])

    def _may_be_refused(self, number: int) -> bool:
        return self._receipted < number <= self._written and len(self._refusals) < REFUSED_MAX

    def _handle_bye(self, bye: Bye) -> Steps[None]:
        delay = bye.delay / 1000 if bye.retry == LATER else 0.0
        text = bye.text or f"code {bye.code}, without a sentence"
        closed = Closed(bye.code, bye.retry, delay, text, no_gateway=bye.code == RAW_LISTENER)
        yield "bye", closed
        self.said_bye = self._end is None
        self.closed = self._end or closed

    def _handle_notice(self, notice: Notice, now: float) -> Steps[None]:
        self.is_announced = self.is_announced or notice.code in (PLANNED_END, DRAINING)
        if notice.code == RECEIPTS_STOPPED:
            self.session.warn("receipts", f"the gateway gives no receipts for now: {notice.text}", now)
        elif notice.code == READING_RESTS:
            rests = "the gateway reads nothing more for now, a share of what it keeps is used up"
            self.session.warn("rests", f"{rests}: {notice.text}", now)
        yield "notice", notice

    def _handle_message(self, message: Message) -> None:
        if message.number != self._received + 1:
            raise ProtocolError("sequence gap", f"{message.number} after {self._received}")
        self._received = message.number
        inbox = self.session.inbox
        inbox.append(message)
        size = sum(len(each.payload) for each in inbox)
        if len(inbox) > self.hello.window_messages or size > self.hello.window_bytes:
            raise ProtocolError("window exceeded", f"{len(inbox)} messages")

    # ---- WELCOME, and how messages end

    def _handle_welcome(self, welcome: Welcome, now: float) -> Steps[None]:
        """5.3 and 5.5. A frame must not go out before all of this is stored (5.8)."""
        outbox = self.session.outbox
        if welcome.outcome == 0:
            stored = yield from self.session.give_up(
                now, session=welcome.session, token=welcome.token, told_max=self.hello.message_max
            )
        elif welcome.session != self.hello.session:
            self.is_astray = True
            raise ProtocolError("frame out of place", "WELCOME resumes a session that HELLO did not name")
        elif welcome.committed < self.hello.acknowledged:
            self.is_astray = True
            raise ProtocolError("malformed frame", "WELCOME doesn't cover what HELLO says was acknowledged")
        elif welcome.committed > outbox.highest:  # what is stored here is older than what was sent (5.5)
            stored = yield from self.session.give_up(now)
            if stored:
                text = "this client is older than what it has sent: a new session"
                self._part(Closed(BACK_SOON, NOW, 0.0, text), now)
                return
        else:
            cursor = max(outbox.state.cursor, welcome.acknowledged)
            stored = self.session.store(lambda: self.session.write(token=welcome.token, cursor=cursor), now)
        stored = stored and (yield from self._finish_too_long(welcome.message_max, now))
        if not stored:
            self._part(Closed(BACK_SOON, LATER, DISK_AGAIN, self.session.full), now)
            return
        if welcome.outcome:
            yield from self._tell_losses(welcome)
        self._attach(welcome, now)
        yield "resumed" if welcome.outcome else "new session", welcome.session
        yield from self._settle(now)

    def _finish_too_long(self, message_max: int, now: float) -> Steps[bool]:
        """What was never sent and is longer than the gateway takes is not accepted (5.2)."""
        outcome = Outcome("not accepted", TOO_LARGE, f"the gateway takes {message_max} bytes")
        queue = self.session.outbox.queue
        ends = [(entry, outcome) for entry in queue if entry.number is None and entry.size > message_max]
        return (yield from self.session.finish(ends, now))

    def _tell_losses(self, welcome: Welcome) -> Steps[None]:
        if welcome.acknowledged > self.hello.committed:
            yield "lost incoming", (self.hello.committed + 1, welcome.acknowledged)
        if welcome.lost_to:
            yield "lost", (welcome.lost_from, welcome.lost_to)

    def _attach(self, welcome: Welcome, now: float) -> None:
        session = self.session
        state = session.outbox.state
        self.welcome = welcome
        self.attached_at = now
        session.away = ""
        session.durability = welcome.durability
        session.message_max = welcome.message_max
        self._reader.opened = True
        self._is_new = welcome.outcome == 0
        # A beat takes time on its way (6). Never less than 50 ms, so that no gateway keeps this client busy.
        self._interval = max(50, welcome.beat_interval) * 0.00075
        self._timeout = max(50, welcome.beat_interval, welcome.beat_timeout) * 0.001
        self._received = self._acknowledged = state.cursor
        self._confirmed = state.settled  # HELLO has told it
        self._former = session.outbox.highest
        self._written = self._receipted = welcome.committed
        self._refusals = {
            number: Refuse(number, code, REFUSED_BECAUSE.get(code, "")) for number, code in welcome.refused
        }

    def _settle(self, now: float) -> Steps[None]:
        """Ends everything up to the last receipt: refused if that was said, else committed (5.3, 7.3)."""
        durability = self.welcome.durability if self.welcome else 0
        committed = Outcome("committed", 0, durability_text(durability), durability)
        ends: list[tuple[Entry, Outcome]] = []
        for entry in self.session.outbox.in_flight():
            number = entry.number or 0
            if number > self._receipted:
                break
            refuse = self._refusals.get(number)
            ends.append((entry, Outcome("not accepted", refuse.code, refuse.text) if refuse else committed))
        while ends:
            self.has_settled = True
            is_first = self.session.outbox.state.settled <= self._confirmed
            few = len(self.session.outbox.few([entry for entry, _ in ends]))
            part, ends = ends[:few], ends[few:]
            settled = (part[-1][0].number or 0) if ends else self._receipted
            if not (yield from self.session.finish(part, now, settled=settled)):
                return
            if is_first:
                self._settled_at = now
            self._refusals = {number: each for number, each in self._refusals.items() if number > settled}
            self._sent = max(0, self._sent - len(part))
