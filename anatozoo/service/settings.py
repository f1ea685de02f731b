"""What a service is told: its models, its address, its limits and its token."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from anatozoo.errors import ConfigError
from anatozoo.io.untrusted import read_text

TOKEN_VARIABLE = "ANATOZOO_TOKEN"
SHORTEST_TOKEN = 16
_BACKLOG = 128


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Attributes:
        models: checkpoints, as for `anatozoo.load`.
        host: address to listen on.
        port: port; 0 lets the system choose one.
        token: what clients have to send as ``Authorization: Bearer TOKEN``; None asks for nothing.
        queue: how many requests are in hand at once, the one that is computed included.
        max_mb: the largest body of a request in MB (10⁶ bytes).
        timeout_s: how long a body may take to arrive, and how long its prediction may then compute.
        threads: threads of the computation; None takes a thread for each core that the process may use.
        device: where the models compute.

    Raises:
        ConfigError: a value is not possible.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    queue: int = 16
    max_mb: float = 256.0
    timeout_s: float = 120.0
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise ConfigError(f"name each model once, as in --models a,b; not {','.join(self.models)!r}.")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port {self.port} must be 1 to 65535, or 0 for any that is free.")
        numbers = {"queue": self.queue, "max_mb": self.max_mb, "timeout_s": self.timeout_s}
        for name, value in {**numbers, "threads": self.threads or 1}.items():
            if not 0 < value < 1e6:
                raise ConfigError(f"{name}={value} must be a positive number below a million.")
        token = self.token
        if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or " " in token):
            raise ConfigError(
                f"the token must be {SHORTEST_TOKEN} or more ASCII characters without blanks; make one by "
                '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"`.'
            )

    @property
    def max_bytes(self) -> int:
        """The largest body of a request in bytes."""
        return int(self.max_mb * 1e6)

    @property
    def is_open(self) -> bool:
        """Whether other machines may reach the service, and nothing asks them who they are."""
        return self.token is None and not _is_loopback(self.host)


def read_token(file: Path | None) -> str | None:
    """The token of a file or else of the environment; None where neither is given.

    The variable is taken out of the environment, so that no process that decodes files inherits it.

    Raises:
        ConfigError: the file cannot be read, or there is nothing in it.
    """
    text = os.environ.pop(TOKEN_VARIABLE, None)
    if file is not None:
        text = read_text(file, ConfigError, 2**16)
    if text is not None and not text.strip():
        raise ConfigError(f"the token is empty; write one into {file or TOKEN_VARIABLE}.")
    return None if text is None else text.strip()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before weights are loaded.

    Clients that come before the service is ready wait in its queue.

    Raises:
        ConfigError: the port is in use or not allowed, or the host is not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is in use; choose another by --port, or stop the program that has it."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ConfigError(
                f"port {port} may not be used by this user; choose one of 1024 or more by --port."
            ) from error
        raise ConfigError(
            f"cannot listen on {host!r}, port {port} ({error.strerror or error}); give an address of this "
            "machine by --host, such as 127.0.0.1."
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
