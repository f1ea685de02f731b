"""Ask a process of its own to decode untrusted bytes, so that what kills a decoder fails one file.

A few processes (`anatozoo.io.child`) are started when they are first needed and used again; one that died,
took too long or took too much memory is replaced. They end with the process that started them, however that
ends. It is safe to ask from several threads, and after a fork, when the new process starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anatozoo.errors import ImageError
from anatozoo.io.child import WAITING, receive, send, take
from anatozoo.io.limits import MEMORY_BYTES

Answer = tuple[dict[str, Any], "npt.NDArray[Any] | None"]

MOST_CHILDREN = 4
SECONDS = 5.0
"""How long decoding may compute, beside what its size asks for."""
_BYTES_PER_SECOND = 2_000_000
_LOADING_SECONDS = 30.0
_OVER_TIME = getattr(signal, "SIGPROF", 0)
_PIPE_BYTES = 2**20
_HOME = Path(__file__).resolve().parents[2]


class DecodeError(Exception):
    """The decoder said no; `name` is the class of its error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Child:
    """A process that answers requests, see `anatozoo.io.child`; used by one thread at a time.

    Args:
        module: the program.
        environment: variables that it gets beside those of this process.

    Raises:
        ImageError: it cannot be started.
    """

    def __init__(
        self, module: str = "anatozoo.io.child", environment: Mapping[str, str] | None = None
    ) -> None:
        # The same packages as here, but nothing that lies in the working folder: files of others do.
        paths = [*(os.path.abspath(path) for path in sys.path if path), str(_HOME)]
        variables = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
            variables[name] = "1"
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=variables | dict(environment or {}),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise ImageError(
                f"the process {module} cannot be started ({error}); check that {sys.executable!r} is Python, "
                "and that the system lets it start processes."
            ) from error
        self.loaded: set[str] = set()
        if sys.platform == "linux":
            import fcntl

            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):  # the system's quota of pipe memory: only slower
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]  # both are pipes

    def ask(
        self, message: dict[str, Any], content: Any, seconds: float, patience: float | None = None
    ) -> Answer:
        """Send one request and wait for its answer.

        Args:
            message: the request.
            content: bytes that belong to it.
            seconds: how long the process may compute; it is told.
            patience: how long to wait for the answer; None waits 10 times as long as it may compute.

        Raises:
            EOFError, OSError: the process ended; see `end` for how.
            TimeoutError: it took longer.
            DecodeError: it says so.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(WAITING * seconds if patience is None else patience, stop)
        timer.daemon = True
        timer.start()
        pipes: Any = self.process
        try:
            send(pipes.stdin, {**message, "seconds": seconds}, content)
            answer = receive(pipes.stdout)
            if answer is None:
                raise EOFError
            array = None
            if "dtype" in answer:
                array = take(pipes.stdout, np.empty(answer["shape"], np.dtype(answer["dtype"])))
        except (EOFError, OSError) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError
        if answer["error"] is not None:
            raise DecodeError(answer["error"], answer["text"])
        return answer, array

    def end(self) -> int:
        """End the process; give what it ended with, negative for a signal."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        return self.process.wait()

    def forget(self) -> None:
        """Let go of a process that belongs to another one: this one was forked off it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.returncode = 0  # not to be waited for here


class _Pool:
    def __init__(self) -> None:
        self.free = threading.Condition()
        self.idle: list[Child] = []
        self.all: list[Child] = []
        self.starting = 0

    def borrow(self) -> Child:
        with self.free:
            while True:
                while self.idle:
                    child = self.idle.pop()
                    if child.process.poll() is None:
                        return child
                    self._drop(child)
                if len(self.all) + self.starting < MOST_CHILDREN:
                    self.starting += 1
                    break
                self.free.wait()
        try:
            child = Child()
        except BaseException:
            with self.free:
                self.starting -= 1
                self.free.notify()
            raise
        with self.free:
            self.starting -= 1
            self.all.append(child)
        return child

    def give_back(self, child: Child) -> None:
        with self.free:
            self.idle.append(child)
            self.free.notify()

    def drop(self, child: Child) -> int:
        """End a process; give its exit status."""
        with self.free:
            status = self._drop(child)
            self.free.notify()
        return status

    def _drop(self, child: Child) -> int:
        if child in self.all:
            self.all.remove(child)
        return child.end()

    def end(self) -> None:
        with self.free:
            for child in list(self.all):
                self._drop(child)
            self.idle.clear()


_pool = _Pool()


def _after_fork() -> None:
    global _pool
    for child in _pool.all:
        child.forget()
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _pool.end())


def decode(
    operation: str, label: str, content: Any = b"", *, size_bytes: int = 0, **arguments: Any
) -> Answer:
    """Run one of `anatozoo.io.child.OPERATIONS` in another process.

    Args:
        operation: its name.
        label: what is decoded, for messages.
        content: bytes that it needs.
        size_bytes: how many bytes will come back, about; more may take longer.
        arguments: JSON values that it needs.

    Returns:
        What it says beside the array, and the array, if any.

    Raises:
        DecodeError: the decoder refuses the bytes.
        ImageError: it crashed, or took too long or too much memory.
    """
    child = _pool.borrow()
    seconds = SECONDS + (size_bytes + memoryview(content).nbytes) / _BYTES_PER_SECOND
    message = {"operation": operation, **arguments}
    try:
        if operation not in child.loaded:
            _load(child, operation)
        answer = child.ask(message, content, seconds)
    except DecodeError as error:
        _pool.give_back(child)
        if error.name == "MemoryError":
            raise ImageError(
                f"{label} cannot be decoded within {MEMORY_BYTES} bytes of memory; it is damaged, or "
                "has to be shrunk first."
            ) from error
        raise
    except TimeoutError as error:
        _pool.drop(child)
        raise _too_long(label, seconds) from error
    except (EOFError, OSError) as error:
        status = _pool.drop(child)
        if status == -_OVER_TIME:
            raise _too_long(label, seconds) from error
        cause = _cause(status)
        raise ImageError(
            f"{label} is damaged: the decoder crashed on it ({cause}); copy or export it again."
        ) from error
    except BaseException:
        # An interrupt: what the process still has to say belongs to nobody.
        _pool.drop(child)
        raise
    _pool.give_back(child)
    return answer


def _load(child: Child, operation: str) -> None:
    """Let a process import what it needs, which takes long where disks are slow, before its time is taken."""
    try:
        child.ask({"operation": operation, "load": True}, b"", _LOADING_SECONDS)
    except (DecodeError, EOFError, OSError) as error:
        raise ImageError(
            f"the process that decodes images does not start ({str(error) or type(error).__name__}); run "
            "`anatozoo doctor`."
        ) from error
    child.loaded.add(operation)


def _too_long(label: str, seconds: float) -> ImageError:
    return ImageError(
        f"{label} was not decoded within {seconds:.0f} seconds; it is damaged, or has to be shrunk first."
    )


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
