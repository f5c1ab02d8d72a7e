"""The client for asyncio in the shape of the one with threads, so that both pass the same tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from pulsegate import Closed, Ended, Message, Outcome
from pulsegate.aio import AsyncClient, AsyncTicket


class ThreadedTicket:
    def __init__(self, client: ThreadedClient, ticket: AsyncTicket) -> None:
        self._client = client
        self._ticket = ticket

    @property
    def number(self) -> int | None:
        return self._ticket.number

    @property
    def outcome(self) -> Outcome | None:
        return self._ticket.outcome

    def wait(self, timeout: float | None = None) -> Outcome | None:
        outcome: Outcome | None = self._client.call(self._ticket.wait(timeout))
        return outcome


class ThreadedClient:
    """An AsyncClient in an event loop in a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = AsyncClient(*arguments, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        try:
            self.call(self._client.start())
        except BaseException:
            self.stop()
            raise

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __enter__(self) -> ThreadedClient:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self.close(done=kind is None)

    @property
    def _session(self) -> Any:
        return self._client._session

    @property
    def closed(self) -> Closed | None:
        return self._client.closed

    @property
    def durability(self) -> int | None:
        return self._client.durability

    @property
    def restored(self) -> list[ThreadedTicket]:
        return [ThreadedTicket(self, ticket) for ticket in self._client.restored]

    def send(self, payload: Any, timeout: float | None = 30.0) -> Any:
        try:
            return self.call(self._client.send(payload, timeout))
        except TimeoutError as error:
            if isinstance(ticket := getattr(error, "ticket", None), AsyncTicket):
                error.ticket = ThreadedTicket(self, ticket)  # type: ignore[attr-defined]
            raise

    def submit(self, payload: Any, timeout: float | None = 0.0) -> ThreadedTicket:
        return ThreadedTicket(self, self.call(self._client.submit(payload, timeout)))

    def receive(self, timeout: float | None = None) -> Message | None:
        message: Message | None = self.call(self._client.receive(timeout))
        return message

    def messages(self) -> Iterator[Message]:
        while True:
            try:
                message = self.receive()
            except Ended:
                return
            if message:
                yield message

    def close(self, **options: Any) -> Closed | None:
        closed: Closed | None = self.call(self._client.close(**options))
        return closed

    def stop(self) -> None:
        """Ends the event loop, once nobody needs the client any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
