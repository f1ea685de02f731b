import subprocess
import sys
from pathlib import Path

import pytest

from anatozoo.errors import ConfigError
from anatozoo.zoo import registry
from anatozoo.zoo.classes import import_class
from anatozoo.zoo.registry import METHODS, find_method, methods


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
    with pytest.raises(ConfigError, match=r"did you mean .*hybridgnet"):
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


def _described_with(site: Path, about: str, code: str) -> subprocess.CompletedProcess[str]:
    points = "[anatozoo.methods]\ntheirs = their_zoo:Module\n[anatozoo.about]\ntheirs = their_about:ABOUT\n"
    _install(site, points)
    (site / "their_about.py").write_text(f"ABOUT = {about}\n")
    program = f"import sys; sys.path.append({str(site)!r})\nfrom anatozoo.zoo.registry import *\n{code}\n"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_another_package_says_what_cards_tell_about_its_method(tmp_path: Path) -> None:
    done = _described_with(
        tmp_path,
        "{'title': 'Theirs', 'kind': 'field'}",
        "m = describe_method('theirs'); print(m.title, m.kind.name, find_method('theirs').title, m.paper)",
    )
    assert done.stdout.strip() == "Theirs field theirs see the package their-zoo", done.stderr


def test_without_a_word_of_the_package_a_method_is_called_by_its_name(tmp_path: Path) -> None:
    _install(tmp_path, "[anatozoo.methods]\ntheirs = their_zoo:Module\n")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r})\nfrom anatozoo.zoo.registry import describe_method\n"
        "m = describe_method('theirs'); print(m.title, m.kind)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "theirs None", done.stderr


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ("'Theirs'", "must be a mapping with texts under title, paper, kind"),
        ("{'title': 3}", "must be a mapping with texts"),
        ("{'name': 'Theirs'}", "must be a mapping with texts"),
        ("{'kind': 'magic'}", "no kind is called 'magic'; use contours, labels"),
    ],
)
def test_what_a_package_must_not_say_is_refused(tmp_path: Path, about: str, words: str) -> None:
    done = _described_with(tmp_path, about, "describe_method('theirs')")
    assert "ConfigError: their_about:ABOUT" in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize("name", ["Theirs", "their-method", "their_method"])
def test_a_method_s_name_must_be_able_to_start_a_checkpoint_s(tmp_path: Path, name: str) -> None:
    _install(tmp_path, f"[anatozoo.methods]\n{name} = their_zoo:Module\n")
    assert f"their-zoo registers a method as '{name}'" in _methods_seen_with(tmp_path).stderr


def test_two_packages_with_one_method_are_refused(tmp_path: Path) -> None:
    _install(tmp_path, "[anatozoo.methods]\ntheirs = their_zoo:Module\n")
    other = tmp_path / "other_zoo-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-zoo\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[anatozoo.methods]\ntheirs = other_zoo:Module\n")
    assert "two packages offer method 'theirs'" in _methods_seen_with(tmp_path).stderr
