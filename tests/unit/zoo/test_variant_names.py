"""Checkpoints that are called by a variant of their method, such as ``regnet-jsrt`` of AC-RegNet."""

from pathlib import Path

import pytest

from anatozoo.cli.main import main
from anatozoo.errors import ManifestError
from anatozoo.zoo.catalogue import info, list_models
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.registry import METHODS, find_method
from tests.zoo_fixtures import entry, write_manifest

ABLATIONS = ("regnet-jsrt", "ceregnet-jsrt", "aeregnet-jsrt")
DISPLACEMENT = {"kind": "displacement", "classes": ["lungs", "heart"], "landmarks": None}


def test_no_variant_has_the_name_of_a_method_or_of_another_variant() -> None:
    prefixes = [prefix for method in METHODS.values() for prefix in method.prefixes]
    assert len(set(prefixes)) == len(prefixes)


def test_the_ablations_are_variants_of_their_method() -> None:
    assert find_method("acregnet").prefixes == ("acregnet", "regnet", "ceregnet", "aeregnet")
    assert find_method("unet").prefixes == ("unet",)


@pytest.fixture
def ablations(package: Path) -> Path:
    """A manifest of AC-RegNet and its ablations."""
    names = ("acregnet-jsrt", *ABLATIONS)
    entries = [entry(name=name, method="acregnet", output=DISPLACEMENT) for name in names]
    return write_manifest(package / "checkpoints_manifest.yaml", *entries)


def test_a_manifest_lists_them_under_their_method(ablations: Path) -> None:
    assert list_models(method="acregnet") == ["acregnet-jsrt", *ABLATIONS]
    assert list_models("regnet*") == ["regnet-jsrt"]
    assert info("ceregnet-jsrt").method == "acregnet"


def test_the_commands_know_them(ablations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--method", "acregnet"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ABLATIONS)
    assert main(["info", "regnet-jsrt"]) == 0
    assert "AC-RegNet" in capsys.readouterr().out
    assert main(["card", "aeregnet-jsrt"]) == 0
    assert "aeregnet-jsrt" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "method"), [("regnet-jsrt", "aenet"), ("vgregnet-jsrt", "acregnet")])
def test_a_name_of_no_variant_is_refused(name: str, method: str, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.yaml", entry(name=name, method=method, output=DISPLACEMENT))
    with pytest.raises(ManifestError, match=f"the name must start with the method: {method}-") as caught:
        read_manifest(path)
    assert (method == "acregnet") == ("or regnet-... or ceregnet-" in str(caught.value))
