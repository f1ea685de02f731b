"""Checkpoints that are called by a variant of their method, such as ``regnet-jsrt`` of AC-RegNet."""

from pathlib import Path

import pytest

from anatozoo.cli.main import main
from anatozoo.errors import ConfigError, ManifestError
from anatozoo.zoo.catalogue import info, list_models
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.hub import load
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.registry import METHODS, check_prefix, find_method, find_method_of
from tests.support.zoo_fixtures import entry, write_manifest

ABLATIONS = ("regnet-jsrt", "ceregnet-jsrt", "aeregnet-jsrt")
DISPLACEMENT = {"kind": "field", "classes": ["lungs", "heart"], "landmarks": None}


def test_no_variant_has_the_name_of_a_method_or_of_another_variant() -> None:
    prefixes = [prefix for method in METHODS.values() for prefix in method.prefixes]
    assert len(set(prefixes)) == len(prefixes)


def test_the_ablations_are_variants_of_their_method() -> None:
    assert find_method("acregnet").prefixes == ("acregnet", "regnet", "ceregnet", "aeregnet")
    assert find_method("unet").prefixes == ("unet",)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("acnn-acdc", "acnn"),
        ("acnn-prior-acdc", "acnnprior"),
        ("acnnprior-acdc-v2", "acnnprior"),
        ("acnn-tl-hippocampus", "acnntl"),
        ("acnn-sr-hippocampus", "acnnsr"),
        ("acnnsr-hippocampus", "acnnsr"),
        ("acnn-srilanka", "acnn"),
        ("acnn-acdc-sr", "acnn"),
    ],
)
def test_the_longest_name_of_a_method_counts(name: str, method: str) -> None:
    assert find_method_of(name).name == method
    check_prefix(name, METHODS[method])


def test_a_name_of_a_more_special_method_is_not_another_methods() -> None:
    with pytest.raises(ConfigError, match="starts with acnn-sr- is of the method acnnsr"):
        check_prefix("acnn-sr-hippocampus", METHODS["acnn"])
    with pytest.raises(ConfigError, match=r"must start with the method: acnnsr-\.\.\. or acnn-sr-\.\.\."):
        check_prefix("acnn-prior-acdc", METHODS["acnnsr"])


def test_the_method_of_a_name() -> None:
    assert find_method_of("ceregnet-jsrt").name == find_method_of("acregnet-jsrt-v2").name == "acregnet"
    with pytest.raises(ConfigError, match="no method is called 'vgregnet'"):
        find_method_of("vgregnet-jsrt")


def test_a_checkpoint_is_written_and_read_under_a_variants_name(tmp_path: Path) -> None:
    module = METHODS["acregnet"].module_class()(frame={"size": 16}, label_weight=0.0)
    folder = write_checkpoint_folder(module, tmp_path / "toy", name="regnet-toy", version="1.0.0")
    assert load(str(folder)).checkpoint_name == "regnet-toy"
    with pytest.raises(ConfigError, match="acregnet or regnet or"):
        write_checkpoint_folder(module, tmp_path / "x", name="unet-toy", version="1.0.0")


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
