"""Files of the Hub of the tests: `resolve` addresses, the storage behind them, ranges, and their faults."""

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.support.hub_server_repos import Entry

if TYPE_CHECKING:
    from tests.support.hub_server import _Handler

RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


def answer_file(request: "_Handler") -> None:
    """HEAD or GET of ``/org/repo/resolve/revision/file``; a large file is redirected to the storage."""
    match = RESOLVE.fullmatch(request.where)
    if match is None:
        return request.refuse(404, "", "Sorry, we can't find the page you are looking for.")
    repo = request.readable(match["repo"], content=True)
    if repo is None:
        return None
    commit = repo.at(match["revision"])
    if commit is None:
        return request.refuse(404, "RevisionNotFound", f"Invalid rev id: {match['revision']}")
    headers = {"X-Repo-Commit": commit.oid}
    if request.server.take(("commit",), request.command, request.where):
        headers["X-Repo-Commit"] = "e" * 40
    entry = commit.files.get(match["name"])
    if entry is None:
        return request.refuse(404, "EntryNotFound", "Entry not found", headers=headers)
    if request.server.take(("headers",), request.command, request.where):
        return request.reply(b"<html>Please log in to the guest network.</html>")
    headers["ETag"] = f'"{entry.etag}"'
    if not entry.lfs:
        return _send(request, entry, headers)
    headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(len(entry.content))}
    # The name is there for the faults' patterns; the signature stands for what a real address holds.
    address = f"{request.server.storage_url}{entry.sha256}/{quote(match['name'])}?Signature=toy"
    with request.server.lock:
        request.server.objects[entry.sha256] = entry.content
    return request.reply(b"", 302, {**headers, "Location": address})


def answer_storage(request: "_Handler", where: str) -> None:
    """GET of a large file, or PUT of one that is uploaded."""
    oid = where.partition("/")[0]
    if request.command == "PUT":
        from hashlib import sha256

        if sha256(request.body).hexdigest() != oid:
            return request.refuse(400, "", "these bytes have another SHA-256")
        with request.server.lock:
            request.server.objects[oid] = request.body
        return request.reply(b"", 200, {"ETag": f'"{oid}"'})
    content = request.server.objects.get(oid)
    if content is None:
        return request.refuse(404)
    return _send(request, Entry(content, lfs=True), {"ETag": f'"{oid}"'})


def _send(request: "_Handler", entry: Entry, headers: dict[str, str]) -> None:
    server, whole = request.server, entry.content
    if request.command == "HEAD":
        return request.reply(whole, 200, headers)
    if server.take(("flip",), request.command, request.where):
        middle = len(whole) // 2
        whole = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    if other := server.take(("content",), request.command, request.where):
        whole = other.content
    status, part = 200, whole
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
    if asked and server.ranges:
        first, last = int(asked[1]), int(asked[2] or len(whole) - 1)
        if first >= len(whole):
            return request.refuse(416, "", headers={"Content-Range": f"bytes */{len(whole)}"})
        status, part = 206, whole[first : last + 1]
        headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(whole)}"}
    broken = server.take(("cut", "reset"), request.command, request.where)
    if broken is None:
        return request.reply(part, status, headers)
    request.reply(part[: int(len(part) * broken.at)], status, headers, length=len(part))
    return request.break_off(reset=broken.kind == "reset")
