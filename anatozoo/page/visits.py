"""What the page keeps for those who look at it: in memory, each for himself, never too much."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from anatozoo.page.answers import Answered, Upload

MOST_WAITING = 8
"""Uploads that nobody has asked about yet."""


@dataclass
class Visit:
    """One page that is open in a browser.

    Attributes:
        upload: what was sent last.
        answers: what the models said of it.
        token: in the address of their files; nobody guesses it, and it changes with the answers.
    """

    upload: Upload | None = None
    answers: tuple[Answered, ...] = ()
    token: str = field(default_factory=secrets.token_urlsafe)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, roughly."""
        own = 0 if self.upload is None else len(self.upload.content)
        return own + sum(answered.nbytes for answered in self.answers)


class Visits:
    """All visits, by the session that the browser has; the one that was used longest ago goes first.

    Args:
        most_bytes: what they may take together; the newest is kept whatever it takes.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._here: set[str] = set()
        self._waiting: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def leave(self, upload: Upload) -> str:
        """Keep an upload until its page asks about it, by the key that this gives."""
        key = secrets.token_urlsafe()
        with self._lock:
            self._waiting[key] = upload
            while len(self._waiting) > 1 and (
                len(self._waiting) > MOST_WAITING or self._bytes_waiting() > self.most_bytes
            ):
                self._waiting.popitem(last=False)
        return key

    def collect(self, key: str) -> Upload | None:
        """The upload of a key, once."""
        with self._lock:
            return self._waiting.pop(key, None)

    def get(self, session: str) -> Visit:
        """The visit of a session; empty where nothing is kept of it."""
        with self._lock:
            if session in self._visits:
                self._visits.move_to_end(session)
            return self._visits.get(session) or Visit()

    def enter(self, session: str) -> None:
        """Say that a page is open; what is put before, or after it was closed, is not kept."""
        with self._lock:
            self._here.add(session)

    def put(self, session: str, upload: Upload, answers: Sequence[Answered]) -> Visit:
        """Keep an upload and what was said of it, in place of what was kept before."""
        visit = Visit(upload, tuple(answers))
        with self._lock:
            if session not in self._here:
                return visit
            self._visits[session] = visit
            self._visits.move_to_end(session)
            while len(self._visits) > 1 and self._bytes_kept() > self.most_bytes:
                self._visits.popitem(last=False)
        return visit

    def forget(self, session: str) -> None:
        """Forget a session, when its page is closed."""
        with self._lock:
            self._visits.pop(session, None)
            self._here.discard(session)

    def of_token(self, token: str) -> Visit | None:
        """The visit whose files have this token in their address."""
        with self._lock:
            visits = list(self._visits.values())
        return next(
            (visit for visit in visits if secrets.compare_digest(visit.token.encode(), token.encode())), None
        )

    def _bytes_waiting(self) -> int:
        return sum(len(upload.content) for upload in self._waiting.values())

    def _bytes_kept(self) -> int:
        return sum(visit.nbytes for visit in self._visits.values())
