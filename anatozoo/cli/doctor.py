"""``anatozoo doctor``: describe this machine, and name what would go wrong on it."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import anatozoo
from anatozoo.cli.doctor_data import describe_folder
from anatozoo.cli.table import format_fields
from anatozoo.organs import ORGAN_SETS, PAIRS
from anatozoo.zoo import catalogue
from anatozoo.zoo.cache import cache_root
from anatozoo.zoo.hub import is_local

PACKAGES = ("torch", "lightning", "timm", "monai", "torchmetrics", "numpy", "pydicom", "SimpleITK")
DECODERS = {
    "JPEG": ("PIL", "libjpeg", "gdcm"),
    "JPEG lossless": ("libjpeg", "gdcm"),
    "JPEG 2000": ("openjpeg", "PIL", "gdcm"),
    "JPEG-LS": ("jpeg_ls", "libjpeg", "gdcm"),
}
"""Modules that let pydicom read a kind of compressed pixels; without compression it needs none."""

# In a process of its own: a broken CUDA installation can end the interpreter, and doctor must say so.
_TORCH_PROBE = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = torch.backends.mps.is_available()
print(json.dumps({"gpus": gpus, "mps": mps, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `problem` says what to do, None where all is well."""

    topic: str
    text: str
    problem: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="also show which cases of this data set `anatozoo fit` would use",
    )
    parser.add_argument("--layout", help="layout of the data set, as in --data.layout of `anatozoo fit`")
    parser.add_argument(
        "--organs",
        help="organs that each case must have, for example lungs,heart, or a set of them by its name, for "
        "example lungs_heart",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 where something has to be done."""
    findings = [
        Finding("anatozoo", anatozoo.__version__),
        Finding("python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        Finding("packages", packages()),
        *torch_devices(),
        slurm(os.environ),
        cache(cache_root()),
        Finding("checkpoints", checkpoints()),
        decoders(),
    ]
    if args.data is not None:
        names = [name.strip() for name in (args.organs or "").split(",") if name.strip()]
        # A pair of sides, which is also the name of a set, may be annotated as one.
        sets = {name: organs for name, organs in ORGAN_SETS.items() if name not in PAIRS}
        organs = [organ for name in names for organ in sets.get(name, (name,))] or None
        lines, problems = describe_folder(args.data, args.layout, organs)
        findings += [Finding("data", line) for line in lines]
        findings += [Finding("data", "see below", problem) for problem in problems]
    print(format_fields([(finding.topic, finding.text) for finding in findings]), end="")
    problems = [finding.problem for finding in findings if finding.problem]
    for problem in problems:
        print(f"\nPROBLEM: {problem}")
    return 1 if problems else 0


def packages() -> str:
    """Versions of the packages that matter, without importing them."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return ", ".join(found)


def torch_devices() -> list[Finding]:
    """Where networks can run."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH_PROBE], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return [
            Finding("devices", "unknown", "importing torch takes over two minutes: is the disk that slow?")
        ]
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Finding("devices", "unknown", f"torch cannot be imported ({reason}); install it again.")]
    probe = json.loads(done.stdout.splitlines()[-1])
    names = [
        f"cpu ({probe['threads']} threads)",
        *(f"cuda:{i} ({name})" for i, name in enumerate(probe["gpus"])),
    ]
    problem = None
    if probe["cuda"] and not probe["gpus"] and Path("/proc/driver/nvidia").exists():
        problem = (
            f"an NVIDIA driver is here, but torch (CUDA {probe['cuda']}) sees no GPU; compare nvidia-smi."
        )
    return [Finding("devices", ", ".join(names + ["mps"] * probe["mps"]), problem)]


def slurm(environment: Mapping[str, str]) -> Finding:
    """Whether a SLURM job's tasks fit its GPUs: Lightning starts one process a GPU and waits for all of them.

    Args:
        environment: the process's environment variables.
    """
    if "SLURM_JOB_ID" not in environment:
        return Finding("slurm", "not inside a job")
    tasks = environment.get("SLURM_NTASKS_PER_NODE", environment.get("SLURM_NTASKS", "1"))
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    gpus = environment.get("SLURM_GPUS_ON_NODE") or str(len([gpu for gpu in visible.split(",") if gpu]))
    text = f"job {environment['SLURM_JOB_ID']}: {tasks} tasks and {gpus} GPUs a node"
    problem = None
    if gpus not in ("0", tasks):
        problem = (
            f"{tasks} tasks but {gpus} GPUs a node: a fit would hang or use one GPU. Write "
            f"#SBATCH --ntasks-per-node={gpus}, start with srun, and use --trainer.devices {gpus}."
        )
    return Finding("slurm", text, problem)


def cache(root: Path) -> Finding:
    """Where downloads go, and whether they can."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return Finding("cache", f"{root} (writable)")
    return Finding("cache", str(root), f"{root} cannot be written: set ANATOZOO_HOME to a folder of yours.")


def checkpoints() -> str:
    """How many checkpoints are on this machine."""
    specs = catalogue.select()
    return f"{sum(is_local(spec) for spec in specs)} of {len(specs)} are on this machine"


def decoders() -> Finding:
    """Which compressed DICOM files can be read."""
    words = [
        f"{kind} {'yes' if any(find_spec(module) for module in modules) else 'no'}"
        for kind, modules in DECODERS.items()
    ]
    hint = "; pip install pylibjpeg-libjpeg adds what is missing" if "no" in " ".join(words).split() else ""
    return Finding("dicom", f"uncompressed yes, {', '.join(words)}{hint}")
