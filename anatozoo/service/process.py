"""The service's end of the process that computes: start it, ask it, and start another where it ended."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, ClassVar, Protocol

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.io.children import Child, DecodeError
from anatozoo.io.cores import allowed_cores
from anatozoo.service.folder import empty
from anatozoo.service.models import Answer
from anatozoo.service.settings import Settings

_LOADING_SECONDS = 3600.0


class TooLong(AnatozooError):
    """A prediction took longer than allowed; its process was ended."""


class Died(AnatozooError):
    """The process ended while it computed."""


class Computer(Protocol):
    """What answers requests, one at a time."""

    models: list[dict[str, Any]]
    ready: bool

    def ask(self, message: dict[str, Any], content: Any) -> Answer:
        """Answer a request."""

    def restart(self) -> None:
        """Make ready for the next request after one that failed."""

    def interrupt(self) -> None:
        """Let what is computed fail at once, and nothing else begin."""

    def close(self) -> None:
        """End."""


class Worker:
    """A process with models, `program`; asked by one thread at a time.

    Args:
        settings: models, device, threads and time limit.
        folder: where it puts temporary files; nothing else lies there.

    Attributes:
        models: what each model is, see `anatozoo.service.models.Model.describe`.
        ready: whether a process has loaded them; if not, the next request waits for that.

    Raises:
        AnatozooError: the models cannot be loaded.
    """

    program: ClassVar[str] = "anatozoo.service.worker"

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self._child: Child | None = None
        self._closing = threading.Lock()
        self._closed = self.ready = False
        self.models = self._start()

    def ask(self, message: dict[str, Any], content: Any) -> Answer:
        """Answer a request.

        Args:
            message: ``model``, ``ends``, ``form`` and ``options``, see `Model.answer`.
            content: bytes of its files.

        Raises:
            TooLong: it took longer than the settings allow.
            Died: the process ended; the next request gets a new one.
            AnatozooError: there is no process, and none can be started.
        """
        if self._child is not None and self._child.process.poll() is not None:
            self._end()  # while nothing was computed: this request is not to blame
        if self._child is None:
            self._start()
        child, patience = self._child, self.settings.timeout_s
        assert child is not None
        try:
            about, body = child.ask(message, content, patience, patience)
        except TimeoutError as error:
            self._end()
            raise TooLong(
                f"the prediction took longer than {patience:g} seconds and was given up; send a smaller "
                "image, or start the service with a longer --timeout."
            ) from error
        except (EOFError, OSError) as error:
            status = self._end()
            raise Died(
                f"the process that computes ended on this file (exit status {status}); it may need more "
                "memory than there is."
            ) from error
        return Answer(about["status"], about["name"], b"" if body is None else body.tobytes())

    def restart(self) -> None:
        """Start a process where there is none.

        Raises:
            AnatozooError: the models cannot be loaded.
        """
        if self._child is None:
            self._start()

    def interrupt(self) -> None:
        """Kill the process, so that whoever waits for it waits no more; no other is started."""
        with self._closing:
            self._closed = True
            if self._child is not None:
                self._child.process.kill()

    def close(self) -> None:
        """End the process."""
        self.interrupt()
        self._end()

    def _start(self) -> list[dict[str, Any]]:
        threads = self.settings.threads or _threads()
        environment = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.folder))
        # Libraries read this number when they are loaded; torch is told again.
        environment["OMP_NUM_THREADS"] = str(threads)
        with self._closing:
            if self._closed:
                raise Died("the service ends.")
            child = self._child = Child(self.program, environment)
        request = {
            "load": list(self.settings.models),
            "device": self.settings.device,
            "threads": threads,
        }
        try:
            answer, _ = child.ask(request, b"", _LOADING_SECONDS, _LOADING_SECONDS)
        except DecodeError as error:
            self._end()
            raise ConfigError(str(error)) from error
        except (EOFError, OSError) as error:
            status = self._end()
            raise ConfigError(
                f"the process that computes ended while it loaded {', '.join(self.settings.models)} (exit "
                f"status {status}); run `anatozoo doctor`."
            ) from error
        except BaseException:
            self._end()
            raise
        models: list[dict[str, Any]] = answer["models"]
        self.ready = True
        return models

    def _end(self) -> int:
        with self._closing:
            child, self._child, self.ready = self._child, None, False
            status = 0 if child is None else child.end()
            if self.folder.is_dir():
                empty(self.folder)
        return status


def _threads() -> int:
    """What the environment says, or else a thread for each core that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return allowed_cores()
