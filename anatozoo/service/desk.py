"""Where requests wait: one is computed at a time, a bounded number waits, and all are counted."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from anatozoo.errors import AnatozooError
from anatozoo.service.models import Answer
from anatozoo.service.process import Computer, Died, TooLong

_LONGEST_RETRY = 60
_WEIGHT = 0.2
"""Of the newest prediction in the running mean of how long one takes."""


class Refusal(Exception):
    """A request that is not answered; the sentence says what to do.

    Args:
        status: of HTTP.
        sentence: for the client.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


class Desk:
    """Takes requests and has them computed.

    Args:
        computer: what computes, one request at a time.
        places: how many requests may be in hand at once.

    Attributes:
        in_hand: how many are.
        counts: answers by what became of them: ``answered``, ``refused`` (4xx), ``failed`` (5xx).
        stopping: whether the service ends, and takes no more requests.
    """

    def __init__(self, computer: Computer, places: int) -> None:
        self.computer, self.places = computer, places
        self.in_hand = 0
        self.counts: Counter[str] = Counter()
        self.stopping = False
        self._seconds = 1.0
        # One thread: the process answers one request after the other.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="anatozoo-service")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place from before the body is read until the answer is there: bodies are kept in memory.

        Raises:
            Refusal: the service ends, or every place is taken.
        """
        if self.stopping:
            raise Refusal(503, "the service is shutting down; ask another one, or again later.")
        if self.in_hand >= self.places:
            wait = min(max(1, math.ceil(self._seconds * self.in_hand)), _LONGEST_RETRY)
            raise Refusal(
                429,
                f"{self.in_hand} requests are in hand already; send this one again in {wait} seconds.",
                {"Retry-After": str(wait)},
            )
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1

    async def ask(self, message: dict[str, Any], content: Any) -> Answer:
        """Have a request computed when its turn comes; one that is cancelled while it waits never is.

        Raises:
            Refusal: it took too long, or the process that computes ended.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, message, content)
        except TooLong as error:
            raise Refusal(504, str(error)) from error
        except Died as error:
            raise Refusal(500, str(error)) from error
        except AnatozooError as error:
            raise Refusal(
                503, f"the models cannot be loaded again: {error}", {"Retry-After": "60"}
            ) from error

    def _ask(self, message: dict[str, Any], content: Any) -> Answer:
        start = time.perf_counter()
        try:
            return self.computer.ask(message, content)
        except (TooLong, Died):
            # Loaded again before the next request comes, which tells why it cannot be, if so.
            self._thread.submit(self._restart)
            raise
        finally:
            self._seconds += _WEIGHT * (time.perf_counter() - start - self._seconds)

    def _restart(self) -> None:
        with suppress(AnatozooError):
            self.computer.restart()

    def count(self, status: int) -> None:
        """Count an answer."""
        self.counts["answered" if status < 400 else "refused" if status < 500 else "failed"] += 1

    def close(self) -> None:
        """End what computes; who still waits is told that it ended."""
        self.stopping = True
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.computer.interrupt()
        self._thread.shutdown(wait=True)
        self.computer.close()
