"""Load the service with clients that send good and bad files, and check each answer.

    python benchmarks/serve_load.py [--model unet-jsrt] [--clients 8] [--requests 200] [--out FILE]

Starts `anatozoo serve` on a free port of this machine's loopback. A good file's answer must equal what
`model.predict` says of the same file, a bad one must be refused with its status and one sentence. A request
without an answer is lost; one that is told to come back (429) does, as a client should. Times are multiples
of one prediction by `model.predict`, measured in the same run before and after the load.
"""

import argparse
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.dicom_data import write_scan
from tests.support.phantoms import make_chest_phantom

GOOD_SHARE = 0.6
FORMS = ("multipart", "raw")


@dataclass(frozen=True)
class Case:
    """A request and what has to come back."""

    name: str
    content: bytes
    status: int
    answer: dict[str, Any] | None = None
    query: str = ""


def png(width: int, height: int, seed: int) -> bytes:
    """A phantom as PNG."""
    file = io.BytesIO()
    PIL.Image.fromarray(make_chest_phantom(width, height, seed=seed).image).save(file, "PNG")
    return file.getvalue()


def cases(folder: Path, model: Any) -> tuple[list[Case], list[Case]]:
    """Good requests with their answers, and bad ones."""
    files = {f"{width}.png": png(width, 256, width) for width in (200, 240, 300, 512)}
    for number in range(3):
        path = write_scan(folder / f"{number}.dcm", PixelSpacing=[0.2 + number / 10] * 2)
        files[path.name] = path.read_bytes()
    good = []
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        answer = json.loads(json.dumps(model.predict(path).to_dict() | {"image": "upload"}))
        good.append(Case(name, content, 200, answer))
    whole, scan = files["240.png"], files["0.dcm"]
    wide = whole[:16] + (100_000).to_bytes(4, "big") * 2 + whole[24:]
    flat = io.BytesIO()
    PIL.Image.fromarray(np.full((64, 64), 7, np.uint8)).save(flat, "PNG")
    other = write_scan(folder / "other.dcm", Modality="CT").read_bytes()
    bad = [
        Case("truncated PNG", whole[: len(whole) // 2], 422),
        Case("truncated DICOM", scan[: len(scan) // 2], 422),
        Case("empty", b"", 422),
        Case("text", b"this is no picture\n" * 50, 422),
        Case("huge header", wide, 422),
        Case("constant picture", flat.getvalue(), 422),
        Case("wrong modality", other, 422),
        Case("noise", np.random.default_rng(0).bytes(20_000), 422),
        Case("too large", b"a" * 3_000_000, 413),
        Case("unknown format", whole, 422, query="?format=tiff"),
    ]
    return good, bad


class Load:
    """Sends requests and counts what became of them."""

    def __init__(self, url: str, good: list[Case], bad: list[Case]) -> None:
        self.url, self.good, self.bad = url, good, bad
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    def client(self, seed: int, requests: int) -> None:
        """One client's requests, one after another."""
        chance = random.Random(seed)
        with httpx.Client(timeout=600, trust_env=False) as client:
            for _ in range(requests):
                case = chance.choice(self.good if chance.random() < GOOD_SHARE else self.bad)
                self.one(client, case, chance.choice(FORMS))

    def one(self, client: httpx.Client, case: Case, form: str) -> None:
        """One request until it is answered."""
        options: dict[str, Any] = {"files": {"file": (f"{case.name}.dcm", case.content)}}
        if form == "raw":
            options = {"content": case.content, "headers": {"content-type": "application/octet-stream"}}
        while True:
            start = time.perf_counter()
            try:
                answer = client.post(self.url + case.query, **options)
            except httpx.HTTPError as error:
                self.counts["lost"] += 1
                self.wrong.append(f"{case.name}: {type(error).__name__}: {error}")
                return
            if answer.status_code != 429:
                break
            self.counts["told to come back"] += 1
            time.sleep(float(answer.headers["retry-after"]))
        seconds = time.perf_counter() - start
        problem = self.problem(case, answer)
        if problem:
            self.counts["wrong"] += 1
            self.wrong.append(f"{case.name}: {problem}")
        elif case.status == 200:
            self.counts["good"] += 1
            self.seconds.append(seconds)
        else:
            self.counts["refused"] += 1

    def problem(self, case: Case, answer: httpx.Response) -> str:
        """What is wrong with an answer; empty if nothing."""
        if answer.status_code != case.status:
            return f"status {answer.status_code} instead of {case.status}: {answer.text[:200]}"
        if case.answer is not None:
            return "" if answer.json() == case.answer else "the answer is another than that of predict"
        return "" if answer.json()["error"].endswith(".") else "no sentence"


def one_prediction(model: Any, folder: Path, good: list[Case], times: int = 3) -> float:
    """Seconds of one prediction: the median over the good files."""
    found = []
    for case in good * times:
        start = time.perf_counter()
        model.predict(folder / case.name)
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def memory_mb(pid: int) -> float:
    """Memory of a process and its children in MB; 0 where the system does not tell."""
    found = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        parent = re.search(r"^PPid:\s+(\d+)", text, re.M)
        resident = re.search(r"^VmRSS:\s+(\d+)", text, re.M)
        if resident and (int(status.parent.name) == pid or (parent and int(parent[1]) == pid)):
            found += int(resident[1]) / 1000
    return found


def main() -> int:
    """Run the load; the exit code is 1 if a request was lost or answered wrongly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="hybridgnet-chexmask")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200, help="of each client")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)

    import torch

    import anatozoo

    torch.set_num_threads(args.threads)
    model = anatozoo.load(args.model, trainable=False)
    with tempfile.TemporaryDirectory() as name:
        folder, temporary = Path(name), Path(name, "service")
        temporary.mkdir()
        good, bad = cases(folder, model)
        command = [sys.executable, "-m", "anatozoo", "serve", "--models", args.model, "--port", "0"]
        command += ["--threads", str(args.threads), "--queue", str(args.queue), "--max-mb", "2"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"TMPDIR": str(temporary)},
            )
        assert server.stdout is not None
        address = re.search(r"http://\S+:\d+", server.stdout.readline())
        assert address, (folder / "log").read_text()
        before = one_prediction(model, folder, good)
        load = Load(f"{address[0]}/predict/{args.model}", good, bad)
        with httpx.Client(timeout=600, trust_env=False) as client:
            for case in good:
                load.one(client, case, "raw")
        alone, load.seconds = float(np.median(load.seconds)), []
        load.counts.clear()
        memory = memory_mb(server.pid)
        start = time.perf_counter()
        with ThreadPoolExecutor(args.clients) as pool:
            list(pool.map(load.client, range(args.clients), [args.requests] * args.clients))
        wall = time.perf_counter() - start
        after_mb = memory_mb(server.pid)
        left = [path for path in temporary.rglob("*") if path.is_file() and path.suffix != ".lock"]
        after = one_prediction(model, folder, good)
        server.send_signal(signal.SIGTERM)
        code = server.wait(120)
        log_text = (folder / "log").read_text()
    one = (before + after) / 2
    p50, p95 = np.percentile(load.seconds, [50, 95]) / one
    asked = args.clients * args.requests
    numbers = {
        "model": args.model,
        "clients": args.clients,
        "requests": asked,
        "answered": load.counts["good"] + load.counts["refused"],
        "lost": load.counts["lost"],
        "wrong": load.counts["wrong"],
        "good": load.counts["good"],
        "refused": load.counts["refused"],
        "told to come back": load.counts["told to come back"],
        "one prediction ms": round(1000 * one, 1),
        "one client alone, multiple": round(alone / one, 2),
        "p50, multiple": round(float(p50), 2),
        "p95, multiple": round(float(p95), 2),
        "requests per second": round(asked / wall, 2),
        "memory before and after MB": [round(memory), round(after_mb)],
        "files left": len(left),
        "names in the log": sum(case.name in log_text for case in good + bad),
        "exit code": code,
    }
    for key, value in numbers.items():
        print(f"{key:<28} {value}")
    for line in load.wrong[:10]:
        print(line)
    if args.out:
        args.out.write_text(json.dumps(numbers, indent=2) + "\n")
    fine = not (load.wrong or left or code or numbers["names in the log"])
    return 0 if fine and numbers["answered"] == asked else 1


if __name__ == "__main__":
    raise SystemExit(main())
