"""`docs/private-zoo.md` carried out: its package built and installed, its files written, its commands run."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "docs" / "private-zoo.md").read_text(encoding="utf-8")
FILE = re.compile(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)

# Does what a shell would with the page's lines, in one process, for importing torch is what takes long.
DRIVER = r"""
import contextlib, io, json, os, runpy, shlex, sys
from anatozoo.cli.main import main

sys.path.insert(0, "")
steps = []
for line in json.loads(sys.argv[1]):
    words = shlex.split(os.path.expandvars(line))
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            os.environ[name] = value
        elif words[0] == "anatozoo":
            code = main(words[1:])
        elif words[:2] == ["python3", "-m"]:
            sys.argv[1:] = words[3:]
            try:
                runpy.run_module(words[2], run_name="__main__")
            except SystemExit as stop:
                code = stop.code
        else:
            runpy.run_path(words[1], run_name="__main__")
    steps.append({"line": line, "code": code, "out": out.getvalue()})
    print(json.dumps(steps[-1]), flush=True)
"""


def fenced(language: str) -> list[str]:
    """Blocks that are no files."""
    return re.findall(rf"^```{language}\n(.*?)^```", FILE.sub("", PAGE), flags=re.DOTALL | re.MULTILINE)


def build_and_install(package: Path, site: Path) -> None:
    """What pip does with a pure Python package: ask its backend for a wheel, unpack it."""
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    wheels = package / "dist"
    wheels.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheels)], cwd=package, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files; its package is in `site`."""
    pytest.importorskip("setuptools", reason="the page's package is built by setuptools")
    folder = tmp_path_factory.mktemp("clinic")
    for name, text in FILE.findall(PAGE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    build_and_install(folder / "discshape", folder / "site")
    return folder


@pytest.fixture(scope="module")
def steps(clinic: Path) -> list[dict[str, Any]]:
    """Every command of the page, and its Python at the end."""
    lines = [line for block in fenced("bash") for line in block.splitlines() if "pip install" not in line]
    assert sum("pip install ./discshape" in block for block in fenced("bash")) == 1
    (clinic / "use.py").write_text("\n".join(fenced("python")), encoding="utf-8")
    done = run(clinic, ["-c", DRIVER, json.dumps([*lines, "python3 use.py"])])
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"line"')]


def run(clinic: Path, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "ANATOZOO_MANIFEST"}
    env |= {"PYTHONPATH": str(clinic / "site"), "ANATOZOO_HOME": str(clinic / "cache"), "PWD": str(clinic)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=clinic,
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def output(steps: list[dict[str, Any]], start: str) -> str:
    (found,) = (step for step in steps if step["line"].startswith(start))
    return str(found["out"])


def test_the_page_holds_a_whole_package_and_a_whole_zoo() -> None:
    assert [name for name, _ in FILE.findall(PAGE)] == [
        "discshape/pyproject.toml",
        "discshape/discshape/__init__.py",
        "discshape/discshape/about.py",
        "discshape/discshape/module.py",
        "make_weights.py",
        "zoo/manifest.yaml",
    ]


def test_every_command_of_the_page_succeeds(steps: list[dict[str, Any]]) -> None:
    assert {step["line"]: step["code"] for step in steps if step["code"]} == {}
    assert len(steps) == 9


def test_hashes_and_card_are_written(clinic: Path, steps: list[dict[str, Any]]) -> None:
    assert "disc-clinic/model.safetensors: sha256 " in output(steps, "python3 -m anatozoo.zoo.maintain")
    card = (clinic / "zoo/checkpoints/disc-clinic/README.md").read_text(encoding="utf-8")
    assert card == output(steps, "anatozoo card")
    assert "Version 1.0.0. Method: disc shape (our clinic, unpublished). Part of a private zoo" in card
    assert "pipeline_tag: image-segmentation" in card


def test_the_page_s_commands_show_the_checkpoint(clinic: Path, steps: list[dict[str, Any]]) -> None:
    assert "disc-clinic " in output(steps, "anatozoo list")
    assert "hybridgnet-jsrt " in output(steps, "anatozoo list")
    info = output(steps, "anatozoo info")
    assert re.search(r"method +disc shape\n", info)
    assert re.search(r"private zoo +\S*zoo/manifest.yaml\n", info)
    assert "golden test: 0.0000 px away" in output(steps, "anatozoo verify")
    assert output(steps, "anatozoo predict").startswith("1 image: 1 segmented")
    assert (clinic / "out" / "one.json").is_file()


def test_the_page_s_model_finds_the_disc(steps: list[dict[str, Any]]) -> None:
    x, y = map(float, re.findall(r"[\d.]+", output(steps, "python3 use.py")))
    assert x == pytest.approx(30, abs=2)
    assert y == pytest.approx(20, abs=2)


def test_listing_imports_neither_torch_nor_the_package(clinic: Path, steps: list[dict[str, Any]]) -> None:
    code = (
        "import sys; from anatozoo.cli.main import main; code = main(['list', '--method', 'disc'])\n"
        "print(sorted({'torch', 'huggingface_hub', 'discshape'} & set(sys.modules))); sys.exit(code)"
    )
    done = run(clinic, ["-c", code], ANATOZOO_MANIFEST="zoo/manifest.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("disc-clinic")
    assert done.stdout.splitlines()[-1] == "[]"


def test_info_and_card_import_what_the_package_says_about_the_method(
    clinic: Path, steps: list[dict[str, Any]]
) -> None:
    code = (
        "import sys; from anatozoo.cli.main import main; code = main(['info', 'disc-clinic'])\n"
        "print(sorted({'torch', 'discshape.about', 'discshape.module'} & set(sys.modules))); sys.exit(code)"
    )
    done = run(clinic, ["-c", code], ANATOZOO_MANIFEST="zoo/manifest.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "['discshape.about']"


def test_without_the_package_the_manifest_says_what_to_install(
    clinic: Path, steps: list[dict[str, Any]]
) -> None:
    done = run(clinic, ["-m", "anatozoo", "list"], ANATOZOO_MANIFEST="zoo/manifest.yaml", PYTHONPATH="")
    assert done.returncode == 1
    assert re.search(r"zoo/manifest\.yaml:5: disc-clinic\.method: no method is called 'disc'", done.stderr)
    assert "once the package is installed" in done.stderr


def test_without_the_variable_nothing_is_added(clinic: Path, steps: list[dict[str, Any]]) -> None:
    done = run(clinic, ["-m", "anatozoo", "info", "disc-clinic"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "no checkpoint is called 'disc-clinic'" in done.stderr
