"""The page's own addresses, for uploads and files, and what goes for every request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from anatozoo.page.actions import Page
from anatozoo.page.answers import Upload, clean_name
from anatozoo.page.words import ALL
from anatozoo.service.bodies import read_upload
from anatozoo.service.desk import Refusal
from anatozoo.service.models import MEDIA_TYPES
from anatozoo.service.settings import Settings

SERIES = "series"
"""What the files of a series are called together."""
_MARK = "x-anatozoo"
"""A header that other sites cannot send without being allowed to."""
_OPEN = ("queue/", "heartbeat/", "startup-events", "cancel", "reset")
"""Addresses of Gradio below its prefix that the page needs; others upload to disk, or show files of it."""
_PREFIX = "/gradio_api/"
_LARGEST_EVENT = 2**20
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; frame-ancestors 'self'; form-action 'self'"
)
"""Nothing of another machine, whatever Gradio may ask for."""


def make_app(page: Page, settings: Settings) -> FastAPI:
    """The application without Gradio's part.

    Args:
        page: what visitors have sent, and files.
        settings: the limits.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.post("/page/upload")
    async def upload(request: Request, name: str = "") -> JSONResponse:
        if request.headers.get(_MARK) is None:
            raise Refusal(403, "uploads are taken from the page itself alone.")
        stated = request.headers.get("content-length", "")
        size = int(stated) if stated.isdecimal() and len(stated) < 18 else settings.max_bytes
        with page.visits.arriving(min(size, settings.max_bytes)) as has_room:
            if not has_room:
                raise Refusal(429, "too many uploads arrive already; drop it again in a minute.")
            found = await read_upload(request, settings.max_bytes, settings.timeout_s, "page")
        called = SERIES if len(found.ends) > 1 else clean_name(name)
        return JSONResponse({"key": page.visits.leave(Upload(called, found.content, tuple(found.ends)))})

    @app.get(f"/page/files/{{token}}/{ALL}")
    def archive(token: str) -> Response:
        return _file(page.archive(token), "anatozoo.zip", "application/zip")

    @app.get("/page/files/{token}/{number}/{name}")
    def file(token: str, number: int, name: str) -> Response:
        return _file(page.file(token, number, name), name)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": error.sentence}, error.status, error.headers)

    return app


def _file(content: bytes | None, name: str, kind: str | None = None) -> Response:
    if content is None:
        raise Refusal(404, "this file is not kept any more; drop the image again.")
    kind = kind or MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
    # Names are those of uploads, which have no quotes; see `clean_name`.
    named = name.encode("ascii", "replace").decode().replace("?", "_")
    return Response(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{named}"'}
    )


class Guard:
    """An ASGI application around another one: no address that writes to disk or shows it, safe headers.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        own = path.startswith("/page/")
        if path.startswith(_PREFIX) and not path.removeprefix(_PREFIX).startswith(_OPEN):
            await _refuse(scope, receive, send, 404, "there is no such address.")
            return
        headers = dict(scope["headers"])
        if _is_here(scope):
            # Compressing takes many times as long as the way does.
            scope = {**scope, "headers": [h for h in scope["headers"] if h[0] != b"accept-encoding"]}
        length = headers.get(b"content-length", b"0")
        is_long = b"transfer-encoding" in headers or not length.isdigit() or int(length) > _LARGEST_EVENT
        if is_long and not own:
            await _refuse(scope, receive, send, 413, "the request is too large.")
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    *([(b"cache-control", b"no-store")] if own else []),
                ]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, guarded)


def _is_here(scope: Any) -> bool:
    """Whether the browser runs on this machine."""
    return bool(scope.get("client")) and scope["client"][0] in ("127.0.0.1", "::1")


async def _refuse(scope: Any, receive: Any, send: Any, status: int, sentence: str) -> None:
    await JSONResponse({"error": sentence}, status)(scope, receive, send)
