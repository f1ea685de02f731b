"""What is in the repository and in the wheel: nothing private, nothing huge, nothing undeclared."""

import ast
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "anatozoo"
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIG = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))

# Absolute paths of somebody's machine and addresses of package registries: both break elsewhere.
PRIVATE = re.compile(
    rb"(?<![\w.])/(?:work|home|root|Users|mnt)/\w|/tmp/\w|[\w.-]*(?:pypi\.org|pythonhosted\.org|registry\.npmjs|"
    rb"deb\.debian\.org|download\.pytorch\.org|conda\.anaconda\.org)"
)


@cache
def repository_files() -> list[Path]:
    """Files that git tracks or would track, as they are on disk."""
    if shutil.which("git") is None or not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout, so nothing says which files belong to the repository")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split(
        "\0"
    )
    files = [PROJECT / name for name in names if name]
    return [file for file in files if file.is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    here = Path(__file__).resolve()
    found = {}
    for file in repository_files():
        if file == here or file.suffix in {".safetensors", ".png", ".dcm"}:
            continue
        if match := PRIVATE.search(file.read_bytes()):
            found[str(file.relative_to(PROJECT))] = match.group().decode()
    assert found == {}


@pytest.mark.parametrize(
    "text", [b"see /home/ada/x", b'open("/mnt/scans")', b"index https://pypi" + b".org/simple"]
)
def test_the_search_for_private_text_finds_it(text: bytes) -> None:
    assert PRIVATE.search(text)


def test_no_lock_file_and_no_data_set_is_tracked() -> None:
    names = {file.relative_to(PROJECT).as_posix() for file in repository_files()}
    assert "uv.lock" not in names
    assert not [name for name in names if name.endswith((".ckpt", ".pt", ".pth", ".IMG", ".nii.gz", ".pkl"))]


def test_weights_in_the_wheel_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in PACKAGE.rglob("*.safetensors")}
    assert sum(sizes.values()) < 95e6
    assert max(sizes.values(), default=0) < 20e6


def test_wheel_holds_the_manifest_and_the_type_marker() -> None:
    wheel = CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["anatozoo"]
    assert not any("experiments" in source for source in wheel["force-include"])
    for source, target in wheel["force-include"].items():
        assert (PROJECT / source).is_file()
        assert target == f"anatozoo/{source}"
    assert "checkpoints_manifest.yaml" in wheel["force-include"]
    assert (PACKAGE / "py.typed").is_file()


def test_every_license_file_exists() -> None:
    for name in CONFIG["project"]["license-files"]:
        assert (PROJECT / name).stat().st_size > 0


def test_one_version_everywhere() -> None:
    version = CONFIG["project"]["version"]
    import anatozoo

    assert anatozoo.__version__ == version
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert f"## [{version}]" in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_adds_nothing_to_what_everybody_can_run() -> None:
    workflow = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert (PROJECT / ".ci/run").is_file()
    versions = job["strategy"]["matrix"]["python"]
    named = [line.rpartition(" ")[2] for line in CONFIG["project"]["classifiers"] if ":: 3." in line]
    assert (versions[0], versions[-1]) == (named[0], named[-1])
    assert CONFIG["project"]["requires-python"] == f">={versions[0]}"


def test_templates_and_hooks_are_yaml() -> None:
    files = [PROJECT / ".pre-commit-config.yaml", *(PROJECT / ".github/ISSUE_TEMPLATE").glob("*.yml")]
    assert len(files) > 3
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict), file


def test_import_brings_no_torch() -> None:
    code = (
        "import sys, anatozoo; sys.exit(', '.join({'torch', 'lightning', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {m.relative_to(PROJECT).as_posix(): len(m.read_text("utf-8").splitlines()) for m in MODULES}
    assert {name: n for name, n in lengths.items() if n > 600} == {}
    assert statistics.median(n for n in lengths.values() if n > 5) <= 160
    assert not {Path(name).stem for name in lengths} & {"utils", "helpers", "misc", "common"}


_OF_EXTRAS = {"vtkmodules": "vtk"}
"""Modules of packages that need not be installed here, where their names differ."""


def _imported_names(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def _distribution(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_import_is_a_declared_dependency() -> None:
    project = CONFIG["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    declared = {_distribution(line) for line in [*project["dependencies"], *extras]}
    providers = metadata.packages_distributions()
    undeclared = {}
    for module in MODULES:
        for name in _imported_names(module) - sys.stdlib_module_names - {"anatozoo"}:
            if not {_distribution(d) for d in providers.get(name, [_OF_EXTRAS.get(name, name)])} & declared:
                undeclared[name] = module.relative_to(PROJECT).as_posix()
    assert undeclared == {}


def test_every_lower_bound_says_why_and_none_has_a_cap() -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("\ndependencies = [\n")[1].split("\n]")[0]
    lines = [line for line in block.splitlines() if line.strip().startswith('"')]
    assert len(lines) == len(CONFIG["project"]["dependencies"])
    for line in lines:
        assert re.search(r'>=[\d.]+",\s+# \d', line), line
        assert "<" not in line.split("#")[0], line
