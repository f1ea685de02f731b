"""What every test shares: a process per core, no network, one thread, an image, the real data."""

import atexit
import importlib
import ipaddress
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

# Before anything imports torch or matplotlib: each core has a process of tests, and there is no screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Where bytecode must not be written beside sources and torch has none, every process compiles all of torch
# and its like anew. The processes of a run share what they compile, in a folder that goes with it.
if (
    sys.dont_write_bytecode
    and (found := find_spec("torch"))
    and not Path(cache_from_source(str(found.origin))).exists()
):
    sys.pycache_prefix = tempfile.mkdtemp(prefix="anatozoo-tests-")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)

import pytest
from hypothesis import settings

from tests.support.phantoms import ChestPhantom, make_chest_phantom

PROJECT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Test in one process per core, each file in one of them: as `-n auto --dist loadfile` does.

    Not by `addopts`, because the oldest versions are tested without pytest-xdist, and because one process is
    the fastest for one file. `-n 0` turns it off.
    """
    option, is_worker = config.option, hasattr(config, "workerinput")
    is_open = not is_worker and not option.usepdb and getattr(option, "numprocesses", 0) is None
    if is_open and _are_many(config.args):
        option.numprocesses, option.dist = "auto", "loadfile"


def _are_many(args: list[str]) -> bool:
    """Whether the command line names more than one file of tests."""
    return len({arg.partition("::")[0] for arg in args}) > 1 or any(Path(arg).is_dir() for arg in args)


# How long an example takes says more about the machine than about the code.
settings.register_profile("anatozoo", deadline=None)
settings.load_profile("anatozoo")


class NetworkUsed(BaseException):
    """A test tried to leave this machine. Not an Exception, so that no code under test can swallow it."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Let sockets reach this machine only; looking up another machine's name counts as reaching it."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host: object) -> None:
        if not _is_local(host):
            raise NetworkUsed(f"a test tried to reach {host!r}; replace the download by a fixture")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            check(address[0])
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family != socket.AF_UNIX:
            check(address[0])
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests away from the caches of whoever runs them."""
    home = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANATOZOO_HOME", str(home / "anatozoo"))
        patch.setenv("HF_HOME", str(home / "huggingface"))
        patch.setenv("TORCH_HOME", str(home / "torch"))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data sets, which are not part of this repository."""
    path = Path(os.environ.get("ANATOZOO_SHARED", PROJECT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set ANATOZOO_SHARED to the folder that holds them)")
    return path


@pytest.fixture(autouse=True)
def lightning_says_all() -> None:
    """Let Lightning say what it has to say, which scripts of experiments forbid it."""
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)


@pytest.fixture
def evidence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script of `experiments` that the test's module names as ``EXPERIMENT``."""
    folder = PROJECT / "experiments"
    if not folder.is_dir():
        pytest.skip("experiments are not part of a package")
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(request.module.EXPERIMENT)


@pytest.fixture
def chest_phantom() -> ChestPhantom:
    """A generated frontal radiograph, 240 wide and 256 high, with the contours of its five organs."""
    return make_chest_phantom(width=240, height=256)


@pytest.fixture
def own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards the seed that a fit by the command line leaves in the environment."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
