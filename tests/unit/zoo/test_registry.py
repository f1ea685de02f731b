import subprocess
import sys
from pathlib import Path

import pytest

from anatozoo.errors import ConfigError
from anatozoo.zoo import registry
from anatozoo.zoo.registry import METHODS, find_method, import_class, methods


def test_every_key_is_the_name_of_its_entry() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_both_classes_of_a_method_exist(name: str) -> None:
    import lightning as L

    method = METHODS[name]
    assert issubclass(method.module_class(), L.LightningModule)
    if method.data is not None:
        assert issubclass(method.data_class(), L.LightningDataModule)


def test_a_misspelt_method_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean hybridgnet"):
        find_method("hybridnet")


@pytest.mark.parametrize(
    ("path", "words"),
    [("no_such_package:X", "Install the package"), ("anatozoo.zoo.registry:Missing", "has no class Missing")],
)
def test_a_class_that_cannot_be_imported_says_why(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        import_class(path)


def test_a_method_without_data_module_says_so(tiny_method: None) -> None:
    with pytest.raises(ConfigError, match="names no data module"):
        METHODS["tiny"].data_class()


def _install(site: Path, points: str) -> None:
    """What pip leaves behind of a package that registers something."""
    info = site / "their_zoo-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (site / "their_zoo.py").write_text("raise RuntimeError('listing methods must not import this')\n")


def _methods_seen_with(site: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.append({str(site)!r})\n"
        "from anatozoo.zoo.registry import find_method, methods\n"
        "m = find_method('theirs'); print(sorted(methods()), m.module, m.data)\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_another_package_registers_a_method_without_being_imported(tmp_path: Path) -> None:
    _install(
        tmp_path,
        "[anatozoo.methods]\ntheirs = their_zoo:Module\n[anatozoo.datamodules]\ntheirs = their_zoo:Data\n",
    )
    done = _methods_seen_with(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{sorted([*METHODS, 'theirs'])} their_zoo:Module their_zoo:Data"


def test_a_class_path_of_another_form_is_refused(tmp_path: Path) -> None:
    _install(tmp_path, "[anatozoo.methods]\ntheirs = their_zoo\n")
    done = _methods_seen_with(tmp_path)
    assert "their-zoo registers method theirs as 'their_zoo'" in done.stderr


def test_a_name_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_third_party", lambda: {"hybridgnet": METHODS["hybridgnet"]})
    with pytest.raises(ConfigError, match="two packages offer method 'hybridgnet'"):
        methods()
