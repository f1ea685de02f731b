"""The disk, the terminal, the golden check and the ranks of a job, while files come from the Hub."""

import errno
import io
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import anatozoo
from anatozoo.errors import OutputError, WeightsError
from anatozoo.zoo import files, ranks
from anatozoo.zoo.files import write_atomically
from anatozoo.zoo.hub import resolve
from tests.support.hub_server import HubServer
from tests.support.zoo_fixtures import COMMIT, TinyResult

WEIGHTS = "*model.safetensors"
OTHER = f"hf:toys/other@{COMMIT}"


def kept(tmp_path: Path) -> list[str]:
    """Names of the files in the cache."""
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]


# --- the disk ---------------------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    """A file on a disk with room for 100 bytes."""

    def write(self, data: object) -> int:
        if self.tell() + len(bytes(data)) > 100:  # type: ignore[call-overload]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        return FullDisk(self, "r+") if mode == "r+b" else real(self, mode, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(
            OutputError, match=r"the disk is full\. Set ANATOZOO_HOME to another folder, or make"
        ):
            resolve("tiny-toy")
    assert not any(name.endswith(".part") or name == "model.safetensors" for name in kept(tmp_path))
    assert resolve("tiny-toy").is_dir()


def test_a_read_only_cache_is_read_and_said_to_be_read_only(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve("tiny-toy")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "cache")

    for name in ("mkdir", "rename", "replace", "symlink", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    hub.requests.clear()
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert hub.requests == []
    with pytest.raises(OutputError, match="Read-only file system"):
        resolve(OTHER)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        resolve("tiny-toy")


def test_leftovers_of_killed_processes_are_removed_later_and_not_at_once(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.bin"
    old, fresh, foreign = (
        tmp_path / ".x.bin.old.part",
        tmp_path / ".x.bin.new.part",
        tmp_path / ".y.bin.a.part",
    )
    for part in (old, fresh, foreign):
        part.write_bytes(b"half")
    os.utime(old, (1, 1))
    os.utime(foreign, (1, 1))
    write_atomically(target, lambda part: part.write_bytes(b"whole"))
    assert (old.exists(), fresh.exists(), foreign.exists()) == (False, True, True)
    assert files.is_being_written(tmp_path)


def test_a_file_system_without_links_gets_copies(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = resolve("tiny-toy")
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert resolve("tiny-toy", offline=True) == folder


def test_a_file_system_without_locks_still_works(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert resolve("tiny-toy").is_dir()


# --- what a user sees -------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
def test_at_most_one_bar_and_none_without_a_terminal(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    hub.fault("cut", file=WEIGHTS, method="GET", times=1)
    resolve("tiny-toy")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (captured.err != "") == terminal
    assert "\n" not in captured.err.strip("\r\n ")
    assert set(re.findall(r"toys/\w+|\w+\.safetensors", captured.err)) == (
        {"toys/tiny"} if terminal else set()
    )


def test_other_ranks_show_no_bar(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "3")
    resolve("tiny-toy")
    assert capsys.readouterr().err == ""


def test_the_golden_check_runs_on_request(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert anatozoo.load("tiny-toy", golden_check=True).checkpoint_name == "tiny-toy"
    assert anatozoo.load(OTHER, golden_check=True).checkpoint_name == "tiny-toy"
    monkeypatch.setattr(
        "tests.support.zoo_fixtures.TinyModule.predict",
        lambda self, image: TinyResult({"heart": np.full((5, 2), 99.0)}),
    )
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    with pytest.raises(WeightsError, match="fails its golden test"):
        anatozoo.load("tiny-toy", golden_check=True)


def test_a_repository_without_a_golden_test_cannot_be_checked_by_one(hub: HubServer) -> None:
    repo = hub.repos["toys/other"]
    commit = repo.commit({name: entry for name, entry in repo.files.items() if name != "golden.safetensors"})
    name = f"hf:toys/other@{commit.oid}"
    assert anatozoo.load(name).checkpoint_name == "tiny-toy"
    with pytest.raises(WeightsError, match=r"golden\.safetensors does not exist"):
        anatozoo.load(name, golden_check=True)


# --- ranks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 0)),
        ({"RANK": "5", "LOCAL_RANK": "1"}, (5, 1)),
        ({"SLURM_PROCID": "6", "SLURM_LOCALID": "2"}, (6, 2)),
        ({"LOCAL_RANK": "3"}, (3, 3)),
        ({"RANK": "x", "LOCAL_RANK": ""}, (0, 0)),
    ],
)
def test_ranks_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: tuple[int, int]
) -> None:
    for name in (*ranks.RANKS, *ranks.LOCAL_RANKS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (ranks.rank(), ranks.local_rank()) == expected


def test_a_rank_whose_first_never_comes_helps_itself(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(ranks, "HEAD_START_S", 0.3)
    start = time.perf_counter()
    assert resolve("tiny-toy").is_dir()
    assert 0.3 < time.perf_counter() - start < 60


def test_a_rank_waits_as_long_as_something_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(ranks, "HEAD_START_S", 0.2)
    signs = iter([True] * 6 + [False] * 1000)
    start = time.perf_counter()
    ranks.wait_for_first_rank(lambda: False, lambda: next(signs))
    assert 0.6 < time.perf_counter() - start < 60
    monkeypatch.setattr(ranks, "LONGEST_S", 0.3)
    start = time.perf_counter()
    ranks.wait_for_first_rank(lambda: False, lambda: True)
    assert 0.3 < time.perf_counter() - start < 60
