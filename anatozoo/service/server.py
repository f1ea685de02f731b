"""Run a service: take the port, load the models, answer until a signal comes, finish what is in hand."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anatozoo.service.app import make_app
from anatozoo.service.desk import Desk
from anatozoo.service.edge import Edge
from anatozoo.service.folder import private_folder
from anatozoo.service.process import Worker
from anatozoo.service.settings import Settings, listen

HEAD_SECONDS = 10.0
"""How long a client may take to send the head of a request."""
MOST_CONNECTIONS = 256
IDLE_SECONDS = 15
"""How long a connection without a request stays."""
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


class Protocol(H11Protocol):
    """HTTP of uvicorn, which waits for ever for a head; this one closes the connection."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._head is None and self.timeout_keep_alive_task is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class Announcing(uvicorn.Server):
    """A server that says where it is as soon as it answers, when signals end it as they should.

    Args:
        config: of uvicorn.
        words: what to say, before the address.
    """

    def __init__(self, config: uvicorn.Config, words: str) -> None:
        super().__init__(config)
        self.words = words

    async def startup(self, sockets: Any = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        host, port = sockets[0].getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        print(f"anatozoo: {self.words} at http://{where}:{port} (Ctrl+C ends it)", flush=True)


class Server(Announcing):
    """A server that, told to end, first finishes what is in hand, and refuses what comes meanwhile.

    Args:
        config: of uvicorn.
        desk: knows what is in hand.
        patience: how long that may take in seconds.

    Attributes:
        signal: the signal that ended it.
    """

    def __init__(self, config: uvicorn.Config, desk: Desk, patience: float) -> None:
        names = ", ".join(model["name"] for model in desk.computer.models)
        super().__init__(config, f"serving {names}")
        self.desk, self.patience = desk, patience
        self.signal: int | None = None
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests; the second signal ends at once."""
        if self.desk.stopping:
            self.should_exit = self.force_exit = True
        self.signal, self.desk.stopping = sig, True
        self._deadline = time.monotonic() + self.patience

    async def on_tick(self, counter: int) -> bool:
        """End when nothing is in hand any more."""
        if self.desk.stopping and (not self.desk.in_hand or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)


def serve(settings: Settings, about: list[dict[str, Any]]) -> int:
    """Run a service until a signal ends it.

    Args:
        settings: models, address, limits and token.
        about: what ``/models`` says of each model beside its description.

    Returns:
        The exit code: 0, or 130 after an interrupt.

    Raises:
        ConfigError: the port is in use.
        AnatozooError: a model cannot be loaded.
    """
    _log_to_stderr()
    # While weights are loaded, too; and the first process of a container no signal ends by itself.
    before = signal.signal(signal.SIGTERM, leave)
    try:
        return _serve(settings, about)
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(settings: Settings, about: list[dict[str, Any]]) -> int:
    # Taken first: that it is in use is said before weights are loaded.
    with listen(settings.host, settings.port) as socket, private_folder() as folder:
        desk = Desk(Worker(settings, folder), settings.queue)
        try:
            app = make_app(desk, settings, about)
            config = config_of(
                Edge(app, desk), lifespan="off", proxy_headers=False, timeout_graceful_shutdown=5
            )
            server = Server(config, desk, 2 * settings.timeout_s)
            server.run(sockets=[socket])
            print("anatozoo: the service has ended", flush=True)
        finally:
            desk.close()
    return EXIT_INTERRUPTED if server.signal == signal.SIGINT else 0


def config_of(app: Any, **more: Any) -> uvicorn.Config:
    """How this package serves an application: HTTP alone, with limits, and without names in the log.

    Args:
        app: an ASGI application.
        more: settings that the service and the page do not share.
    """
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,  # it would show addresses, which may hold names
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        **more,
    )


def leave(sig: int, frame: FrameType | None) -> None:
    """End by a signal as programs do that nobody told otherwise."""
    raise SystemExit(EXIT_TERMINATED)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("anatozoo.service", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "anatozoo.service" else logging.WARNING)
