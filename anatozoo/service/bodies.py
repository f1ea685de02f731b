"""Read the body of a request into memory, as far as its size and time are allowed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anatozoo.service.desk import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

FIELD = "file"
"""Name of the parts of a form that are files."""
MOST_FILES = 2000
_RAW = ("application/dicom", "application/octet-stream", "application/gzip", "application/x-gzip")
_HOW = (
    f"send a form with parts called {FIELD!r} (curl -F {FIELD}=@scan.dcm), or the bytes of one file with the "
    "content type application/dicom, application/octet-stream or that of its picture, as image/png."
)


@dataclass
class Upload:
    """Files of a request.

    Attributes:
        content: their bytes, one file after another.
        ends: where each of them ends.
    """

    content: bytearray = field(default_factory=bytearray)
    ends: list[int] = field(default_factory=list)


async def read_upload(request: Request, max_bytes: int, timeout_s: float, what: str = "service") -> Upload:
    """Read the files of a request.

    Args:
        request: the request; its body is a form, ``multipart/related`` or the bytes of one file.
        max_bytes: the largest body.
        timeout_s: how long the body may take to arrive.
        what: what takes it, in words.

    Raises:
        Refusal: it is too large or too slow, of another content type, damaged, or holds no file.
    """
    upload = Upload()
    take, finish = _reader(request.headers.get("content-type", ""), upload)
    stated, received = request.headers.get("content-length", ""), 0
    if stated.isdecimal() and (len(stated) > 18 or int(stated) > max_bytes):
        raise _too_large(max_bytes, what)
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise _too_large(max_bytes, what)
                take(chunk)
    except TimeoutError as error:
        raise Refusal(
            408, f"the request did not arrive within {timeout_s:g} seconds; send it again."
        ) from error
    finish()
    if not upload.ends:
        raise Refusal(422, f"the request holds no file: {_HOW}")
    return upload


def _too_large(max_bytes: int, what: str) -> Refusal:
    """What to say of a body that is too large."""
    return Refusal(
        413,
        f"the request is larger than {max_bytes / 1e6:g} MB, the limit here; shrink the image, or "
        f"start the {what} with a larger --max-mb.",
    )


def _reader(content_type: str, upload: Upload) -> tuple[Callable[[bytes], object], Callable[[], None]]:
    """What takes the chunks of a body of this type, and what to call after the last."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "multipart/related"):
        parts = _Parts(content_type, upload, any_name=kind == "multipart/related")
        return parts.take, parts.finish
    if kind not in ("", *_RAW) and not kind.startswith("image/"):
        raise Refusal(415, f"the content type {kind[:80]!r} is none of a file's: {_HOW}")

    def finish() -> None:
        if upload.content:
            upload.ends.append(len(upload.content))

    return upload.content.extend, finish


class _Parts:
    """Takes a multipart body apart while it arrives.

    Args:
        content_type: of the request, with the boundary.
        upload: where files go.
        any_name: whether parts are files whatever their name.

    Raises:
        Refusal: there is no boundary.
    """

    def __init__(self, content_type: str, upload: Upload, *, any_name: bool) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Refusal(400, "the content type names no boundary; let the client make the form.")
        self.upload, self.any_name = upload, any_name
        self.name, self.value = bytearray(), bytearray()
        self.field: bytes | None = None
        self.complete = False
        self._options = parse_options_header
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self.name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._check,
                "on_part_data": lambda data, start, end: upload.content.extend(data[start:end]),
                "on_part_end": lambda: upload.ends.append(len(upload.content)),
                "on_end": self._end,
            },
        )

    def take(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            Refusal: they are no parts, or the wrong ones.
        """
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Refusal(400, "the form is damaged; let the client make it.") from error

    def finish(self) -> None:
        """Make sure that the last part was complete.

        Raises:
            Refusal: it was not.
        """
        if not self.complete:
            raise Refusal(400, "the request ends within a part; send it again.")

    def _begin(self) -> None:
        self.field = None
        if len(self.upload.ends) >= MOST_FILES:
            raise Refusal(413, f"the request has more than {MOST_FILES} files; send one series at a time.")

    def _header_end(self) -> None:
        if bytes(self.name).lower() == b"content-disposition":
            self.field = self._options(bytes(self.value))[1].get(b"name", b"")
        self.name.clear()
        self.value.clear()

    def _check(self) -> None:
        if not self.any_name and self.field != FIELD.encode():
            found = (self.field or b"").decode("utf-8", "replace")[:80]
            raise Refusal(
                422, f"the form has a part called {found!r}; call the files {FIELD!r}, and no other."
            )

    def _end(self) -> None:
        self.complete = True
