"""What goes for every request, whatever becomes of it: a line in the log, safe headers, an end.

A request may be refused before its body is read. Such an answer closes the connection, and what the client
has sent meanwhile is read and forgotten for a moment: a connection that is closed over unread bytes is reset,
and the answer may be lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.requests import ClientDisconnect

from anatozoo.service.desk import Desk

LOG = logging.getLogger("anatozoo.service")
LINGER_SECONDS = 2.0
_HEADERS = [
    (b"cache-control", b"no-store"),  # answers are about patients
    (b"x-content-type-options", b"nosniff"),
]


class Edge:
    """An ASGI application around another one.

    Args:
        app: the application.
        desk: counts the answers to predictions.
    """

    def __init__(self, app: Any, desk: Desk) -> None:
        self.app, self.desk = app, desk

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, exchange = time.perf_counter(), _Exchange(scope, receive, send)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499
        except Exception as error:  # its text may quote the request
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = "" if place is None else f" ({place.tb_frame.f_code.co_filename}:{place.tb_lineno})"
            LOG.error("%s%s", type(error).__name__, where)
        is_prediction = scope.get("path", "").startswith("/predict/")
        if is_prediction:
            self.desk.count(exchange.status)
        # Never the address itself: it may hold a name.
        route, seconds = getattr(scope.get("route"), "path", "unknown address"), time.perf_counter() - start
        level = logging.INFO if is_prediction or exchange.status >= 400 else logging.DEBUG
        LOG.log(
            level, "%s %s: %d, %.3f s", scope["method"], self._what(route, scope), exchange.status, seconds
        )

    def _what(self, route: str, scope: Any) -> str:
        """The address as the service knows it, with the model's name where it is one that is served."""
        name = scope.get("path_params", {}).get("model")
        known = any(model["name"] == name for model in self.desk.computer.models)
        return route.replace("{model}", str(name) if known else "unknown model")


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._receive, self._send = receive, send
        self.status = 0
        headers = dict(scope["headers"])
        self.unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    async def receive(self) -> Any:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.unread = False
        return message

    async def send(self, message: Any) -> None:
        """Send a message to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = [*_HEADERS, *([(b"connection", b"close")] if self.unread else [])]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        elif self.unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while self.unread:
                    await self.receive()
        except TimeoutError:
            return
