"""A Hugging Face Hub on this machine, in pure Python, for the real `huggingface_hub` client.

It speaks the client's HTTP protocol without xet: repositories, cards, uploads by LFS, commits, tags, trees,
files by redirect and by range, tokens, private and gated repositories, and the Hub's error codes. It
misbehaves on request (`Fault`) and notes what it is asked.
"""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_server_api import answer_api
from tests.support.hub_server_files import answer_file, answer_storage
from tests.support.hub_server_repos import Fault, Repo, User

STORAGE = "/storage/"
__all__ = ["Fault", "HubServer", "Repo", "User", "running"]


class HubServer(ThreadingHTTPServer):
    """The Hub's state and its log.

    Args:
        repos: repositories by name.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *repos: Repo) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = {repo.repo_id: repo for repo in repos}
        self.users = {
            "hf_writer": User("alice", orgs=("toys",)),
            "hf_reader": User("bob", orgs=("toys",), can_write=False),
            "hf_stranger": User("carol"),
        }
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.storage_requests: list[str] = []
        self.tokens_at_storage = 0
        """How often a token was sent to the storage, which is another host and must not see it."""
        self.ranges = True
        """Whether a request for the rest of a file is understood."""
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage_url(self) -> str:
        """The same server under another name, as the real storage is another host."""
        return f"http://localhost:{self.server_address[1]}{STORAGE}"

    def fault(self, kind: str, **settings: Any) -> Fault:
        """Let something go wrong from now on."""
        fault = Fault(kind, **settings)
        self.faults.append(fault)
        return fault

    def take(self, kinds: tuple[str, ...], method: str, path: str) -> Fault | None:
        """The first fault of these kinds that fits, counted as happened."""
        with self.lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.fits(method, path):
                    fault.happened += 1
                    fault.reached.set()
                    return fault
        return None

    def sent(self, pattern: str) -> list[str]:
        """Requests whose line contains a text."""
        return [line for line in self.requests if pattern in line]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here; anything else shows."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(server: HubServer) -> Iterator[HubServer]:
    """Serve until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        for fault in server.faults:
            fault.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.dispatch()

    def do_GET(self) -> None:
        self.dispatch()

    def do_POST(self) -> None:
        self.dispatch()

    def do_PUT(self) -> None:
        self.dispatch()

    def do_DELETE(self) -> None:
        self.dispatch()

    def dispatch(self) -> None:
        # Read first: a connection that is closed with something unread is reset, and the answer is lost.
        self.body = self.read_body()
        parts = urlsplit(self.path)
        self.where = unquote(parts.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        at_storage = self.where.startswith(STORAGE)
        with self.server.lock:
            log = self.server.storage_requests if at_storage else self.server.requests
            log.append(f"{self.command} {self.path} {self.headers.get('Range') or ''}".rstrip())
            if at_storage and self.headers.get("Authorization"):
                self.server.tokens_at_storage += 1
        if slow := self.server.take(("slow",), self.command, self.where):
            slow.released.wait(slow.seconds)
        if fault := self.server.take(("status",), self.command, self.where):
            extra = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return self.refuse(fault.status, fault.code, headers=extra)
        if at_storage:
            return answer_storage(self, self.where.removeprefix(STORAGE))
        if self.where.startswith("/api/") or "/info/lfs/" in self.where:
            return answer_api(self)
        return answer_file(self)

    def user(self) -> User | None:
        """Whose token came with the request; None for nobody's."""
        return self.server.users.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def has_wrong_token(self) -> bool:
        return bool(self.headers.get("Authorization")) and self.user() is None

    def readable(self, repo_id: str, *, content: bool = False) -> Repo | None:
        """The repository, if this user may see it (and its files); else the refusal is on its way."""
        repo, user = self.server.repos.get(repo_id), self.user()
        if self.has_wrong_token():
            self.refuse(401, "", "Invalid credentials in Authorization header")
            return None
        if repo is None or (repo.private and not (user and user.owns(repo_id))):
            self.refuse(404 if user else 401, "RepoNotFound", "Repository not found")
            return None
        if content and repo.gated and not (user and (user.owns(repo_id) or user.name in repo.granted)):
            self.refuse(403 if user else 401, "GatedRepo", "Access to this model is restricted.")
            return None
        return repo

    def reply(
        self,
        content: bytes = b"",
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Send an answer; `length` is what Content-Length says where it is not the truth."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: object, status: int = 200) -> None:
        self.reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def refuse(
        self, status: int, code: str = "", message: str = "", *, headers: dict[str, str] | None = None
    ) -> None:
        extra = {"X-Error-Code": code} if code else {}
        extra |= {"X-Error-Message": message} if message else {}
        self.reply(b"", status, {**extra, **(headers or {})})

    def break_off(self, *, reset: bool) -> None:
        """End the connection in the middle of an answer, by a reset or by a mere close."""
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
