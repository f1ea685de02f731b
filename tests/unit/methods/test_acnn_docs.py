"""The numbers of parameters that the page of ACNN states are those of the networks."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from anatozoo.cli.settings import METHODS_FOLDER, with_bases
from anatozoo.methods.acnn.network import trainable_parameters
from anatozoo.zoo.registry import METHODS

PAGE = Path(__file__).parents[3] / "docs/acnn.md"
FAMILY = ("acnn", "acnnprior", "acnntl", "acnnsr")
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not part of a package")


def stated() -> dict[str, int]:
    """Configuration -> number of parameters, of every table's row that has one."""
    rows = re.findall(r"^\| `([a-z]+/\w+\.yaml)` \|.*\| ([\d,]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in rows} if PAGE.is_file() else {}


def shipped() -> dict[str, dict[str, Any]]:
    """Configuration of ACNN's methods -> its content, with what its bases give the model."""
    found = {}
    for method in FAMILY:
        for path in sorted((METHODS_FOLDER / method / "configs").glob("*.yaml")):
            contents = [yaml.safe_load(Path(file).read_text("utf-8")) for file in with_bases(str(path))]
            model: dict[str, Any] = {}
            for content in contents:
                frame = model.get("frame", {}) | content["model"].get("frame", {})
                model |= content["model"] | {"frame": frame}
            found[f"{method}/{path.name}"] = contents[-1] | {"model": model}
    return found


def test_every_configuration_is_in_a_table() -> None:
    assert set(stated()) == set(shipped())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_page_states_the_number_of_parameters(name: str) -> None:
    content = shipped()[name]
    module = METHODS[content["method"]].module_class()(**content["model"])
    assert stated()[name] == trainable_parameters(module.network)
