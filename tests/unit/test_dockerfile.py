"""The Dockerfile and the compose file: safe, of files that are there, and of commands that are understood."""

import argparse
import fnmatch
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
if not (PROJECT / "Dockerfile").is_file():
    pytest.skip("the Dockerfile is not part of a package", allow_module_level=True)


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines put together."""
    lines = [
        line
        for line in (PROJECT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of(name: str) -> list[str]:
    """Arguments of all instructions of this name."""
    return [rest for found, rest in instructions() if found == name]


def served(arguments: list[str]) -> argparse.Namespace:
    """Arguments of `anatozoo serve` as the command understands them."""
    assert arguments[0] == "serve"
    parser = argparse.ArgumentParser()
    importlib.import_module("anatozoo.cli.serve").add_arguments(parser)
    return parser.parse_args(arguments[1:])


def test_instructions_are_those_of_docker_and_in_order() -> None:
    names = [name for name, _ in instructions()]
    known = "FROM ARG WORKDIR COPY RUN ENV USER EXPOSE HEALTHCHECK ENTRYPOINT CMD"
    assert set(names) <= set(known.split())
    assert names[0] == "FROM"
    assert names[-2:] == ["ENTRYPOINT", "CMD"]
    images = [rest.split()[0] for rest in of("FROM")]
    assert len(set(images)) == 1, "an environment is copied between images of one Python"
    assert re.fullmatch(r"python:3\.\d+-slim", images[0])


def test_the_image_runs_as_nobody_special_without_the_network() -> None:
    last = instructions()[max(i for i, (name, _) in enumerate(instructions()) if name == "FROM") :]
    [user] = [rest for name, rest in last if name == "USER"]
    assert int(user) > 999  # a number, which Kubernetes can check
    [variables] = [rest for name, rest in last if name == "ENV"]
    assert "HF_HUB_OFFLINE=1" in variables
    assert not re.search(
        r"TOKEN=|PASSWORD|SECRET", (PROJECT / "Dockerfile").read_text().replace("TORCH_", "")
    )


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    rules = (PROJECT / ".dockerignore").read_text().split()
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {name for rest in of("COPY") if "--from" not in rest for name in rest.split()[:-1]}
    assert "*" in rules
    assert kept == copied
    assert all((PROJECT / name).exists() for name in copied)
    config = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r'^(?:readme = |license-files = \[|")"?([\w.]+)"', config, re.M):
        assert name in copied or fnmatch.fnmatch(name, "anatozoo*"), f"the wheel needs {name}"


def test_commands_are_understood() -> None:
    assert json.loads(of("ENTRYPOINT")[0]) == ["anatozoo"]
    args = served(json.loads(of("CMD")[0]))
    assert args.host == "0.0.0.0"
    [check] = of("HEALTHCHECK")
    assert f"127.0.0.1:{args.port}/health" in check
    assert of("EXPOSE") == [str(args.port)]


def test_compose_locks_the_container_up() -> None:
    [service] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["tmpfs"][0].startswith("/tmp:")
    args = served(service["command"])
    assert args.threads == service["cpus"]
    assert float(service["stop_grace_period"].rstrip("s")) > args.timeout


def test_a_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is not installed")
    # Versions of packages are those that pyproject.toml allows.
    command = [linter, "--ignore", "DL3013", str(PROJECT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def engine() -> str | None:
    """A container engine that answers."""
    for name in ("docker", "podman"):
        found = shutil.which(name)
        if found and not subprocess.run([found, "info"], capture_output=True, check=False).returncode:
            return found
    return None


@pytest.mark.slow
def test_the_image_is_built_and_answers(tmp_path: Path) -> None:
    found = engine()
    if found is None:
        pytest.skip("no container engine answers; the steps run as a script in the next test")
    subprocess.run([found, "build", "-t", "anatozoo-test", str(PROJECT)], check=True)
    limits = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none"]
    command = [found, "run", "--rm", *limits, "anatozoo-test", "verify", "--golden", "hybridgnet-chexmask"]
    subprocess.run(command, check=True)
    address = ["-p", "127.0.0.1::8000", "--read-only", "--tmpfs", "/tmp"]
    name = subprocess.check_output([found, "run", "-d", "--rm", *address, "anatozoo-test"], text=True).strip()
    try:
        port = subprocess.check_output([found, "port", name, "8000"], text=True).rpartition(":")[2].strip()
        assert ready(int(port))["status"] == "ready"
        assert subprocess.check_output([found, "exec", name, "id", "-u"], text=True).strip() == "10001"
    finally:
        subprocess.run([found, "stop", name], check=False)


@pytest.mark.slow
def test_the_steps_of_the_build_work_as_a_script(tmp_path: Path) -> None:
    places = {"/opt/anatozoo": tmp_path / "opt", "/wheels": tmp_path / "wheels", "/src": tmp_path / "src"}
    source = places["/src"]
    for rest in of("COPY"):
        for name in [] if "--from" in rest else rest.split()[:-1]:
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
            source.mkdir(exist_ok=True)
            copy(PROJECT / name, source / name)
    here = os.environ | {"TORCH_INDEX": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    here.pop("PYTHONPATH", None)
    for step in of("RUN"):
        if step.startswith("useradd"):
            continue
        for path, place in places.items():
            step = step.replace(path, str(place))
        step = step.replace("python -m venv", f"{sys.executable} -m venv", 1)
        # The packages that it needs are those of this environment, which are many gigabytes.
        step = step.replace('install --no-cache-dir "', 'install --no-deps --no-cache-dir "')
        subprocess.run(["sh", "-ec", step], cwd=source, env=here, check=True)
    [packages] = (tmp_path / "opt").glob("lib/python*/site-packages")
    assert (packages / "anatozoo/checkpoints_manifest.yaml").is_file()
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    variables = dict(pair.split("=", 1) for pair in of("ENV")[0].split() if not pair.startswith("PATH"))
    (tmp_path / "tmp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(tmp_path / "opt/bin/anatozoo"), *json.loads(of("CMD")[0]), "--port", str(port)],
        cwd=tmp_path / "tmp",
        env=here | variables | {"HOME": str(tmp_path / "tmp"), "TMPDIR": str(tmp_path / "tmp")},
    )
    try:
        assert ready(port)["status"] == "ready"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def ready(port: int, seconds: float = 300) -> dict[str, object]:
    """What /health says once it answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=seconds) as answer:
                found: dict[str, object] = json.load(answer)
                return found
        except OSError:
            assert time.monotonic() < end, "it never answered"
            time.sleep(0.5)
