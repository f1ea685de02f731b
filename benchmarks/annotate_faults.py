"""What `anatozoo annotate` does when something breaks: every fault on real processes, counted.

    python benchmarks/annotate_faults.py [--images 60] [--ray] [--only FAULT ...] [--out FILE]

Drawn chests, 3 % of them damaged files, and a network that takes no time. One run without a fault is the
reference. After each fault the same command is run again where it stopped, and the tables must be those of
the reference, byte for byte, with every image once. The command ends with 1 where that is not so. `--ray`
adds a cluster of three nodes on this machine (`ray.cluster_utils`); the store needs `moto[server]` and
`s3fs`, and is left out without them.
"""

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from annotate_data import TABLES, command, environment, run, tables, write_images, write_model

from anatozoo.zoo.files import write_text

SHARD = 4
PATIENCE = 300


class Bench:
    """A folder with images, a model and the reference.

    Args:
        folder: for all of it.
        images: how many.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.total = folder, images
        self.scans = write_images(folder / "scans", images)
        self.model = write_model(folder)
        self.reference = folder / "reference"
        self.rows: list[dict[str, Any]] = []
        done = run(*self.words(self.reference), env=environment())
        if done.returncode != 3:
            raise SystemExit(f"the reference failed: {done.stderr}")

    def words(self, out: Path, *more: object, source: object = None) -> list[object]:
        """Arguments of a run."""
        first = [source or self.scans, "--model", self.model, "--out", out, "--shard-size", SHARD]
        return [*first, *(more or ("--workers", 1))]

    def start(self, out: Path, *more: object, **how: Any) -> "subprocess.Popen[str]":
        """Begin a run and wait until some of it is done."""
        environ = how.pop("env", environment())
        process = subprocess.Popen(
            command(*self.words(out, *more)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environ, **how,
        )  # fmt: skip
        wait_for(lambda: len(done_shards(out)) >= 2 or process.poll() is not None)
        return process

    def judge(
        self,
        fault: str,
        out: Path,
        codes: list[int],
        said: str,
        *,
        lost_images: int = 0,
        own_source: bool = False,
    ) -> None:
        """Compare the tables with the reference, and note what happened.

        Args:
            fault: what was done.
            out: folder of the results.
            codes: exit codes of the commands, in order.
            said: the sentence of the one that stopped, if one did.
            lost_images: images whose files were taken away, which must have failed.
            own_source: whether the column with the source differs, so that CheXmask's tables are compared.
        """
        with (out / "images.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        counts = Counter(row["id"] for row in found)
        ids = {path.name for path in self.scans.iterdir()}
        same = tables(out) == tables(self.reference)
        if own_source:
            same = tables(out)[1:] == tables(self.reference)[1:]
        failed = sum(row["status"] == "failed" for row in found)
        expected = sum(
            row["status"] == "failed" for row in csv.DictReader((self.reference / "images.csv").open())
        )
        self.rows.append(
            {
                "fault": fault,
                "exit_codes": codes,
                "said": said.strip().splitlines()[-1].replace(str(self.folder), "DIR")
                if said.strip()
                else "",
                "lost": self.total - len(set(counts) & ids),
                "twice": sum(count > 1 for count in counts.values()),
                "failed": failed,
                "same_bytes": same,
                "met": len(counts) == self.total
                and max(counts.values()) == 1
                and (same if not lost_images else failed == expected + lost_images)
                and (out / "_SUCCESS").exists(),
            }
        )
        print(json.dumps(self.rows[-1]), flush=True)


def done_shards(out: Path) -> list[Path]:
    """Shards that stand in the ledger."""
    return list((out / "shards").glob("0*.gz"))


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds.

    Raises:
        TimeoutError: it does not for five minutes.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("nothing happened for five minutes")
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Processes that a process has started, the workers among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            line = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in line:
            found.append(int(path.parent.name))
    return found


def worker_killed(bench: Bench, out: Path) -> None:
    """SIGKILL for one of two workers."""
    process = bench.start(out, "--workers", 2)
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    bench.judge("a worker killed (SIGKILL)", out, [process.returncode], "")


def driver_stopped(bench: Bench, out: Path, number: signal.Signals) -> None:
    """A signal for the process of the command; the same command again."""
    process = bench.start(out)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    again = run("--out", out, "--workers", 1, env=environment())
    bench.judge(f"the driver ended ({number.name})", out, [process.returncode, again.returncode], said)


def disk_full(bench: Bench, out: Path) -> None:
    """A limit on the size of files, which writing meets as a full disk."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    first = run(*bench.words(out), env=environment(), preexec_fn=limited)
    again = run(*bench.words(out), env=environment())
    bench.judge("the disk full", out, [first.returncode, again.returncode], first.stderr)


def source_vanishes(bench: Bench, out: Path) -> None:
    """The folder of the images is renamed in mid-run, and comes back."""
    process = bench.start(out)
    away = bench.scans.with_name("away")
    bench.scans.rename(away)
    _, said = process.communicate(timeout=PATIENCE)
    away.rename(bench.scans)
    again = run("--out", out, "--workers", 1, env=environment())
    bench.judge("the source gone in mid-run", out, [process.returncode, again.returncode], said)


def file_vanishes(bench: Bench, out: Path) -> None:
    """One image is removed in mid-run: it fails, with its reason."""
    last = max(path for path in bench.scans.iterdir())
    content = last.read_bytes()
    process = bench.start(out)
    last.unlink()
    process.communicate(timeout=PATIENCE)
    last.write_bytes(content)
    bench.judge("one image removed in mid-run", out, [process.returncode], "", lost_images=1)


def two_at_once(bench: Bench, out: Path) -> None:
    """A second command over the same folder."""
    process = bench.start(out)
    process.send_signal(signal.SIGSTOP)  # so that it is still there when the second has started
    second = run("--out", out, "--workers", 1, env=environment())
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE)
    bench.judge("two commands at once", out, [process.returncode, second.returncode], second.stderr)


def result_damaged(bench: Bench, out: Path) -> None:
    """A result is cut short before the tables are written."""
    run(*bench.words(out), env=environment())
    path = sorted(done_shards(out))[1]
    path.write_bytes(path.read_bytes()[:-40])
    first = run("--out", out, "--workers", 1, env=environment())
    again = run("--out", out, "--workers", 1, env=environment())
    bench.judge("a shard's result cut short", out, [first.returncode, again.returncode], first.stderr)


def array(bench: Bench, out: Path) -> None:
    """The script of the SLURM array, its tasks by bash, two at once; one is killed and run again."""
    made = run(*bench.words(out, "--engine", "slurm", "--tasks", 3), env=environment())

    def task(number: int) -> "subprocess.Popen[bytes]":
        environ = {**environment(), "SLURM_ARRAY_TASK_ID": str(number)}
        return subprocess.Popen(
            ["bash", str(out / "annotate.sbatch")],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    first, second = task(0), task(1)
    wait_for(lambda: len(done_shards(out)) >= 2)
    first.kill()
    codes = [made.returncode, first.wait(), second.wait(), task(2).wait(), task(0).wait()]
    bench.judge("a task of the array killed, and requeued", out, codes, "")


@contextmanager
def busy_store(scans: Path) -> Iterator[str]:
    """An S3-compatible server on this machine: every third answer is 503, and all come late."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    inner, asked = DomainDispatcherApplication(create_backend_app), [0]

    def flaky(environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET" and "chest" in environ["PATH_INFO"]:
            asked[0] += 1
            time.sleep(0.05)
            if asked[0] % 3 == 0:
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [
                    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                ]
        return inner(environ, start_response)

    server = make_server("127.0.0.1", 0, flaky, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["FSSPEC_S3_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import s3fs

    store = s3fs.S3FileSystem(endpoint_url=os.environ["FSSPEC_S3_ENDPOINT_URL"])
    store.mkdir("archive")
    for path in scans.iterdir():
        store.pipe_file(f"archive/scans/{path.name}", path.read_bytes())
    try:
        yield "s3://archive/scans"
    finally:
        server.shutdown()


def store_busy(bench: Bench, out: Path) -> None:
    """Images in the store above."""
    with busy_store(bench.scans) as url:
        first = run(*bench.words(out, source=url), env=environment())
    bench.judge("a store that answers 503 and late", out, [first.returncode], first.stderr, own_source=True)


def on_ray(bench: Bench, folder: Path) -> None:
    """Three nodes of Ray on this machine: without a fault, with a node lost, with the head lost."""
    from ray.cluster_utils import Cluster

    def cluster(nodes: int = 3) -> Any:
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(nodes - 1):
            found.add_node(num_cpus=1)
        return found

    def begin(name: str, there: Any) -> "subprocess.Popen[str]":
        return bench.start(
            folder / name,
            "--engine",
            "ray",
            "--address",
            there.address,
            "--workers",
            3,
            start_new_session=True,
        )

    there = cluster()
    process = begin("ray", there)
    process.communicate(timeout=PATIENCE)
    bench.judge("Ray on three nodes, no fault", folder / "ray", [process.returncode], "")
    process = begin("node", there)
    there.remove_node(there.list_all_nodes()[-1], allow_graceful=False)
    process.communicate(timeout=PATIENCE)
    bench.judge("a node of Ray lost", folder / "node", [process.returncode], "")
    process = begin("head", there)
    there.shutdown()
    try:
        process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    there = cluster(2)
    again = run("--out", folder / "head", "--engine", "ray", "--address", there.address, env=environment())
    there.shutdown()
    codes = [process.returncode, again.returncode]
    bench.judge("the head of Ray lost, and started anew", folder / "head", codes, "")


def main() -> int:
    """Parse the options, break things, and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=60, help="default: 60")
    parser.add_argument("--ray", action="store_true", help="also a cluster of Ray")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="these alone; FILE keeps the others")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background ignores it, for children too
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bench = Bench(folder, options.images)
        faults: dict[str, Callable[[], None]] = {
            "worker": lambda: worker_killed(bench, folder / "worker"),
            **{
                each.name: partial(driver_stopped, bench, folder / each.name, each)
                for each in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
            },
            "disk": lambda: disk_full(bench, folder / "disk"),
            "source": lambda: source_vanishes(bench, folder / "source"),
            "file": lambda: file_vanishes(bench, folder / "file"),
            "two": lambda: two_at_once(bench, folder / "two"),
            "damaged": lambda: result_damaged(bench, folder / "damaged"),
            "array": lambda: array(bench, folder / "array"),
        }
        if find_spec("moto") and find_spec("s3fs"):
            faults["store"] = lambda: store_busy(bench, folder / "store")
        if options.ray:
            faults["ray"] = lambda: on_ray(bench, folder)
        earlier: dict[str, Any] = {}
        if options.only and options.out is not None and options.out.exists():
            earlier = {row["fault"]: row for row in json.loads(options.out.read_text())["faults"]}
        met = False
        for name in options.only or faults:
            faults[name]()
            rows = list((earlier | {row["fault"]: row for row in bench.rows}).values())
            met = all(row["met"] for row in rows)
            about = {"images": options.images, "shard_size": SHARD, "tables": list(TABLES)}
            if options.out is not None:  # after each, for the next may take minutes
                write_text(options.out, json.dumps({**about, "faults": rows, "met": met}, indent=2) + "\n")
    print(f"no image lost and none twice: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
