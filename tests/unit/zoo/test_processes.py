"""Real processes: many at once, the ranks of a job, and one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anatozoo.zoo.hub import resolve
from anatozoo.zoo.publish import publish
from tests.support.hub_server import HubServer
from tests.support.hub_server_fixtures import child, child_environment

RESOLVE = """
from anatozoo.zoo.hub import resolve
folder = resolve("tiny-toy")
assert "torch" not in sys.modules
print((folder / "model.safetensors").read_bytes().hex())
"""
NO_LOCKS = """
import filelock
def refuse(*args, **kwargs):
    raise NotImplementedError("no flock here")
filelock.FileLock.acquire = refuse
"""


def start(package: Path, hub: HubServer, code: str, **more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *child(package, code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(hub, **more),
    )


def finish(processes: "list[subprocess.Popen[str]]") -> list[str]:
    outputs = [process.communicate(timeout=900) for process in processes]
    assert [(p.returncode, errors) for p, (_, errors) in zip(processes, outputs, strict=True)] == [
        (0, "") for _ in processes
    ]
    return [output.strip() for output, _ in outputs]


def downloads(hub: HubServer) -> list[str]:
    return [line for line in hub.storage_requests if line.startswith("GET") and "model.safetensors" in line]


def whole(hub: HubServer) -> str:
    return hub.repos["toys/tiny"].files["model.safetensors"].content.hex()


def test_eight_processes_at_once_download_once(hub: HubServer, package: Path) -> None:
    hub.fault("slow", file="*model.safetensors", method="GET", seconds=0.3)
    assert finish([start(package, hub, RESOLVE) for _ in range(8)]) == [whole(hub)] * 8
    assert len(downloads(hub)) == 1


def test_where_locks_do_nothing_all_are_right_all_the_same(hub: HubServer, package: Path) -> None:
    hub.fault("slow", file="*model.safetensors", method="GET", seconds=0.5)
    assert finish([start(package, hub, NO_LOCKS + RESOLVE) for _ in range(8)]) == [whole(hub)] * 8
    assert 1 <= len(downloads(hub)) <= 8
    blobs = list(Path(os.environ["ANATOZOO_HOME"]).rglob("blobs/*"))
    assert len(blobs) == 3
    assert not any(path.name.endswith(".part") for path in blobs)


@pytest.mark.parametrize("names", [("RANK", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_LOCALID")])
def test_the_ranks_of_a_job_download_once_even_without_locks(
    hub: HubServer, package: Path, names: tuple[str, str]
) -> None:
    hub.fault("slow", file="*model.safetensors", method="GET", seconds=0.5)
    others = [
        start(package, hub, NO_LOCKS + RESOLVE, **dict.fromkeys(names, str(rank))) for rank in (3, 2, 1)
    ]
    time.sleep(0.5)
    # The first rank comes last.
    first = start(package, hub, NO_LOCKS + RESOLVE, **dict.fromkeys(names, "0"))
    assert finish([*others, first]) == [whole(hub)] * 4
    assert len(downloads(hub)) == 1
    assert len(hub.requests) == 2 * 3


def test_a_download_that_is_killed_leaves_nothing_broken(
    hub: HubServer, package: Path, tmp_path: Path
) -> None:
    fault = hub.fault("slow", file="*/model.safetensors", method="GET", times=1)
    process = start(package, hub, RESOLVE)
    assert fault.reached.wait(600)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    fault.released.set()
    assert process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "cache").rglob("snapshots/*/model.safetensors"))
    left = list((tmp_path / "cache").rglob(".*.part"))
    assert left
    # What it left disturbs nobody, and goes when it is old.
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes().hex() == whole(hub)
    assert resolve("tiny-toy", offline=True).is_dir()


@pytest.mark.parametrize("place", ["/storage/*", "*/commit/main"])
def test_a_publication_that_is_killed_goes_on(
    hub: HubServer, package: Path, source: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    # Without the golden test, which needs torch: the child does not get as far as reading back.
    code = "from anatozoo.zoo import publish\npublish.build_module = publish.run_golden = print\n"
    code += f"publish.publish({str(source)!r}, 'toys/new')\n"
    fault = hub.fault("slow", file=place, times=1, seconds=600)
    process = start(package, hub, code)
    assert fault.reached.wait(600)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    fault.released.set()
    assert process.returncode == -signal.SIGKILL
    repo = hub.repos["toys/new"]
    # A commit that was on its way arrives all the same.
    while place.endswith("main") and len(repo.commits) < 2:
        time.sleep(0.05)
    found = publish(source, "toys/new")
    assert [commit.message for commit in repo.commits.values()] == ["initial commit", "tiny-toy 1.0.0"]
    assert repo.tags == {"v1.0.0": repo.head} == {found.tag: found.release.revision}
