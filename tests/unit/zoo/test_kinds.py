"""The table of kinds, and that nothing else lists them."""

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import anatozoo
from anatozoo.cli.main import COMMANDS
from anatozoo.errors import ConfigError
from anatozoo.serve.inputs import WANTED
from anatozoo.serve.tasks import Task
from anatozoo.zoo.catalogue import manifest
from anatozoo.zoo.kinds import (
    CODES,
    CONTOURS,
    KINDS,
    LABELS,
    VOLUME,
    Kind,
    find_kind,
    goldens,
    kind_of_golden,
)
from anatozoo.zoo.registry import METHODS

PACKAGE = Path(anatozoo.__file__).parent
HOME = {PACKAGE / "zoo" / "kinds.py", PACKAGE / "tasks", PACKAGE / "results"}
READERS = {PACKAGE / name for name in ("zoo", "serve", "cli", "training", "metrics", "__init__.py")}
"""Where answers of all kinds are dealt with; elsewhere "labels" and "codes" are mere words."""
ALLOWED = {
    "cli/audit.py": {"scores"},  # an argument
    "cli/convert.py": {"labels"},  # a setting of networks
    "cli/phenotypes.py": {"mesh"},  # a column
    "cli/evaluate.py": {"labels"},  # an attribute of models
    "fairness/audit.py": {"scores"},  # a table of them
    "io/dicom_out/codes.py": {"volume"},  # what is measured
    "io/dicom_out/gsps.py": {"contours"},  # what a file holds
    "io/labelme.py": {"shapes"},  # a key of LabelMe's files
    "metrics/measurements.py": {"volume"},  # what is measured
    "serve/images.py": {"translated"},  # a word of a sentence about a run
    "serve/inputs.py": {"volume"},  # what files hold
    "serve/registrations.py": {"labels"},  # how label maps are warped
    "serve/volumes.py": {"volume", "restored"},  # words of a sentence about a run
    "zoo/golden_results.py": {"volume", "translated", "scores"},  # tensors and attributes of results
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_classes_of_a_kind_are_there(kind: Kind) -> None:
    assert inspect.isclass(kind.task_class())
    assert callable(kind.result_class().save)
    if kind.job:
        assert issubclass(kind.job_class(), Task)
        assert len(kind.takes) == 2 or kind.takes[0] in WANTED
    else:
        with pytest.raises(ConfigError, match=f"checkpoints that give {kind.name}") as caught:
            kind.job_class()
        assert kind.command is None or kind.command.split()[1] in COMMANDS
        assert (kind.command or "anatozoo.load") in str(caught.value)


@pytest.mark.parametrize("entry", METHODS.values(), ids=lambda entry: entry.name)
def test_a_methods_modules_are_of_its_kind(entry) -> None:
    assert entry.kind in KINDS.values()
    assert issubclass(entry.module_class(), entry.kind.task_class())


def test_every_checkpoint_gives_what_its_method_gives() -> None:
    for spec in manifest().checkpoints:
        assert spec.output.record is METHODS[spec.method].kind


def test_some_kinds_segment_images() -> None:
    assert [kind.name for kind in KINDS.values() if kind.segments] == [CONTOURS.name, LABELS.name]


def test_an_unknown_kind_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="no kind is called 'contour'; use contours"):
        find_kind("contour")


def test_a_golden_file_tells_a_kind() -> None:
    assert kind_of_golden({"landmarks/heart": 0}, 2) is CONTOURS
    assert kind_of_golden({"landmarks/heart": 0}, 3) is CONTOURS
    assert kind_of_golden({"mask": 0}, 2) is LABELS
    assert kind_of_golden({"mask": 0}, 3) is VOLUME
    assert kind_of_golden({"image": 0}, 2) is None
    assert [form.attribute for form in goldens()] == [
        *("landmarks", "mask", "displacement_px", "volume", "translated", "scores")
    ]


def test_a_kind_of_another_input_is_not_taken_for_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    sketches = replace(LABELS, name="sketches", takes=("sketch",))
    monkeypatch.setattr("anatozoo.zoo.kinds.kinds", lambda: {"sketches": sketches, **KINDS})
    assert kind_of_golden({"mask": 0}, 3) is VOLUME
    assert kind_of_golden({"mask": 0}, 2) is sketches


def test_another_package_adds_a_kind(tmp_path: Path) -> None:
    info = tmp_path / "their_zoo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anatozoo.kinds]\nsketches = their_kind:SKETCHES\n")
    (tmp_path / "their_kind.py").write_text(
        "from dataclasses import replace\nfrom anatozoo.zoo.kinds import LABELS\n"
        "SKETCHES = replace(LABELS, name=NAME)\n".replace("NAME", "'sketches'")
    )
    code = f"import sys; sys.path.append({str(tmp_path)!r})\nfrom anatozoo.zoo.kinds import *\n"
    code += "print(find_kind('sketches').gives, len(kinds()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"mask {len(KINDS) + 1} False", done.stderr
    (info / "entry_points.txt").write_text("[anatozoo.kinds]\nlabels = their_kind:SKETCHES\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "their-zoo registers their_kind:SKETCHES, which is not a Kind called 'labels'" in done.stderr


def test_nothing_else_lists_kinds() -> None:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if HOME.isdisjoint({path, *path.parents}):
            words = _words(ast.parse(path.read_text(encoding="utf-8"))) & KINDS.keys()
            if READERS.isdisjoint({path, *path.parents}):
                words -= {LABELS.name, CODES.name}
            name = path.relative_to(PACKAGE).as_posix()
            if words := words - ALLOWED.get(name, set()):
                found[name] = words
    assert found == {}


def _words(tree: ast.AST) -> set[str]:
    """String literals that are no keys: tensors of a batch are called "labels" too."""
    keys: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            keys.add(id(node.slice))
        elif isinstance(node, ast.Dict):
            keys |= {id(key) for key in node.keys}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in keys
    }
