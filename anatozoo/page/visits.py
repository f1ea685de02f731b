"""What the page keeps for those who look at it: in memory, each for himself, never too much."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from anatozoo.page.answers import Answered, Upload

MOST_VISITS = 256
"""Open pages of which something is kept."""
WAITING_SECONDS = 120.0
"""How long an upload waits until its page asks about it; the page may be closed by then."""


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
        most_bytes: what uploads that arrive or wait, and visits, may take together; the newest is kept
            whatever it takes.
        most_waiting: how many uploads may arrive at once, and how many may wait.
    """

    def __init__(self, most_bytes: int, most_waiting: int) -> None:
        self.most_bytes, self.most_waiting = most_bytes, most_waiting
        # Pages that are open; one of which nothing is kept any more has an empty visit.
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._waiting: OrderedDict[str, tuple[float, Upload]] = OrderedDict()
        self._arriving: list[int] = []
        self._lock = threading.Lock()

    @contextmanager
    def arriving(self, nbytes: int) -> Iterator[bool]:
        """Hold room for an upload while it arrives.

        Args:
            nbytes: how large it may become.

        Returns:
            Whether there is room; if not, nothing may be read.
        """
        with self._lock:
            has_room = (
                len(self._arriving) < self.most_waiting and sum(self._arriving) + nbytes <= self.most_bytes
            )
            if has_room:
                self._arriving.append(nbytes)
                self._make_room()
        try:
            yield has_room
        finally:
            if has_room:
                with self._lock:
                    self._arriving.remove(nbytes)

    def leave(self, upload: Upload) -> str:
        """Keep an upload until its page asks about it, by the key that this gives."""
        key = secrets.token_urlsafe()
        with self._lock:
            self._sweep()
            self._waiting[key] = time.monotonic(), upload
            if len(self._waiting) > self.most_waiting:
                self._waiting.popitem(last=False)
            self._make_room(but_key=key)
        return key

    def collect(self, key: str) -> Upload | None:
        """The upload of a key, once; None where it is not kept any more."""
        with self._lock:
            self._sweep()
            found = self._waiting.pop(key, None)
        return None if found is None else found[1]

    def get(self, session: str) -> Visit:
        """The visit of a session; empty where nothing is kept of it."""
        with self._lock:
            if session in self._visits:
                self._visits.move_to_end(session)
            return self._visits.get(session) or Visit()

    def enter(self, session: str) -> None:
        """Say that a page is open; what is put before, or after it was closed, is not kept."""
        with self._lock:
            self._sweep()
            self._visits.setdefault(session, Visit())
            self._visits.move_to_end(session)
            if len(self._visits) > MOST_VISITS:
                self._visits.popitem(last=False)

    def put(self, session: str, upload: Upload, answers: Sequence[Answered]) -> Visit:
        """Keep an upload and what was said of it, in place of what was kept before."""
        visit = Visit(upload, tuple(answers))
        with self._lock:
            if session not in self._visits:
                return visit
            self._visits[session] = visit
            self._visits.move_to_end(session)
            self._make_room(but_session=session)
        return visit

    def forget(self, session: str) -> None:
        """Forget a session, when its page is closed."""
        with self._lock:
            self._sweep()
            self._visits.pop(session, None)

    def of_token(self, token: str) -> Visit | None:
        """The visit whose files have this token in their address."""
        with self._lock:
            visits = list(self._visits.values())
        return next(
            (visit for visit in visits if secrets.compare_digest(visit.token.encode(), token.encode())), None
        )

    def _sweep(self) -> None:
        """Drop the uploads that have waited too long."""
        oldest = time.monotonic() - WAITING_SECONDS
        for key in [key for key, (since, _) in self._waiting.items() if since < oldest]:
            del self._waiting[key]

    def _make_room(self, but_session: str = "", but_key: str = "") -> None:
        """Drop what was used longest ago, visits before uploads whose answer somebody awaits."""
        sizes = {session: visit.nbytes for session, visit in self._visits.items()}
        waiting = {key: len(upload.content) for key, (_, upload) in self._waiting.items()}
        over = sum(self._arriving) + sum(sizes.values()) + sum(waiting.values()) - self.most_bytes
        for session, size in sizes.items():
            if over > 0 and size and session != but_session:
                self._visits[session] = Visit()
                over -= size
        for key, size in waiting.items():
            if over > 0 and key != but_key:
                del self._waiting[key]
                over -= size
