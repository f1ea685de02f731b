"""README and documentation against the package: links, commands, code and names must be real."""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from anatozoo.cli.main import COMMANDS, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, FORWARDED
from anatozoo.cli.predict_report import EXIT_SOME_FAILED
from anatozoo.zoo.catalogue import list_models, manifest
from docs.card_pages import linked, write_cards
from docs.example_pages import GROUPS, LARGEST, stage
from docs.pages import README_ROWS

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "examples/slurm/README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]
TEXTS = {page.relative_to(PROJECT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())


def blocks(text: str, language: str) -> list[str]:
    """Bodies of the fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Arguments of every `anatozoo` command in shell blocks and in running text."""
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]+)`", text)
    found = []
    for line in lines:
        words = line.split("#")[0].split("&&")[-1].strip()
        if match := re.match(r"(?:srun [^\n]*?|(?:python3 -m )?uv run )?anatozoo ([a-z-].*)", words):
            found.append(shlex.split(match[1]))
    return found


ALL_COMMANDS = [(page, command) for page, text in TEXTS.items() for command in commands(text)]


def test_the_pages_show_commands() -> None:
    assert len(ALL_COMMANDS) > 20
    assert ["demo", "--out", "demo"] in [command for _, command in ALL_COMMANDS]


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if not target.startswith(("http://", "https://")):
            assert (PROJECT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", TEXTS)
def test_python_blocks_are_python(page: str) -> None:
    for code in blocks(TEXTS[page], "python"):
        ast.parse(code)


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS, ids=[" ".join(c) for _, c in ALL_COMMANDS])
def test_every_command_is_understood(page: str, command: list[str]) -> None:
    name, *rest = command
    if name in ("--version", "--print-completion") or rest == ["..."]:
        return
    assert name in COMMANDS
    if name in FORWARDED:
        assert rest == [] or "--config" in rest
        return
    parser = argparse.ArgumentParser(prog=name)
    importlib.import_module(COMMANDS[name].module).add_arguments(parser)
    if rest:  # a name alone, as in "`anatozoo fit` trains", is prose
        parser.parse_args(rest)


def test_every_named_checkpoint_exists() -> None:
    names = set(re.findall(r"\bhybridgnet-[a-z0-9-]*[a-z0-9]", EVERYTHING))
    assert names, "the pages name no checkpoint"
    assert names - set(list_models(experiments=True)) <= {"hybridgnet-jsrt-v2"}


def test_every_named_configuration_exists() -> None:
    names = set(re.findall(r"--config ([a-z]+/[\w.-]+\.yaml)", EVERYTHING))
    assert names
    for name in names:
        method, _, file = name.partition("/")
        path = PROJECT / "anatozoo/methods" / method / "configs" / file
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), name


def settings_of(cls: type) -> dict[str, Any]:
    """Arguments of a constructor with their types, those of its bases included where it passes them on."""
    if dataclasses.is_dataclass(cls):
        return typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for each in cls.__mro__:
        if "__init__" not in vars(each):
            continue
        build = vars(each)["__init__"]
        hints, parameters = (
            typing.get_type_hints(build),
            list(inspect.signature(build).parameters.values())[1:],
        )
        named = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        found = {name: hints.get(name) for name in named} | found
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return found


def has_setting(cls: type, path: str) -> bool:
    """Whether a class takes a setting, or as ``frame.size`` one of a record or mapping among its settings."""
    name, _, rest = path.partition(".")
    settings = settings_of(cls)
    if name not in settings or not rest:
        return name in settings
    kinds = (settings[name], *typing.get_args(settings[name]))
    records = [each for each in kinds if dataclasses.is_dataclass(each)]
    if any(dict in (each, typing.get_origin(each)) for each in kinds):
        # What a mapping may hold stands in the class's docstring.
        said = re.search(
            rf"^ +{name}: (?:(?!^ +\w+: ).)*?fields of\s+`([\w.]+)`", cls.__doc__ or "", re.M | re.S
        )
        assert said, f"the docstring of {cls.__name__} does not name the fields of {name}"
        module, _, record = said[1].rpartition(".")
        records.append(getattr(importlib.import_module(module), record))
    return any(has_setting(record, rest) for record in records)


@pytest.fixture(scope="module")
def configurable() -> dict[str, list[type]]:
    """What the options of training commands are about, to the classes that take them."""
    import lightning as L

    import anatozoo.objectives
    from anatozoo.training.objective import Objective
    from anatozoo.zoo.registry import METHODS

    objectives = [getattr(anatozoo.objectives, name) for name in anatozoo.objectives.__all__]
    return {
        "model": [entry.module_class() for entry in METHODS.values()],
        "data": [entry.data_class() for entry in METHODS.values() if entry.data is not None],
        "objectives": [each for each in objectives if issubclass(each, Objective)],
        "trainer": [L.Trainer],
    }


def test_options_of_training_commands_exist(configurable: dict[str, list[type]]) -> None:
    job = (PROJECT / "examples/slurm/fit_hybridgnet.sbatch").read_text(encoding="utf-8")
    configs = [path.read_text(encoding="utf-8") for path in PROJECT.glob("anatozoo/methods/*/configs/*.yaml")]
    text = "\n".join([EVERYTHING, job, *configs])
    pattern = r"(?:--(?:first_stage\.)?|(?:fills|weight): )(model|data|objectives|trainer)\.(\w+(?:\.\w+)*)"
    found = set(re.findall(pattern, text))
    for kind, option in found:
        assert any(has_setting(cls, option) for cls in configurable[kind]), f"--{kind}.{option}"
    assert {("model", "frame.size"), ("model", "optim.lr"), ("data", "motion.shift_px")} <= found
    assert {("objectives", "source"), ("objectives", "weight"), ("objectives", "start")} <= found


def test_named_objectives_exist(configurable: dict[str, list[type]]) -> None:
    names = set(re.findall(r"--objectives\+=(\w+)", EVERYTHING))
    assert names
    assert names <= {cls.__name__ for cls in configurable["objectives"]}


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("model", "image_size"),
        ("model", "frame.side"),
        ("model", "optim.lr.step"),
        ("data", "motion.shift_mm"),
        ("data", "augment.reorder"),
        ("objectives", "sauce"),
    ],
)
def test_options_that_do_not_exist_are_found(
    configurable: dict[str, list[type]], kind: str, option: str
) -> None:
    assert not any(has_setting(cls, option) for cls in configurable[kind])


def test_every_extra_in_the_pages_is_declared() -> None:
    config = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = set(config["project"]["optional-dependencies"])
    used = {
        extra
        for group in re.findall(r'"(?:anatozoo|\.)\[([a-z,]+)\]"', EVERYTHING)
        for extra in group.split(",")
    }
    assert used
    assert used <= declared


def test_the_readme_shows_eight_checkpoints_and_their_page_all() -> None:
    table = TEXTS["README.md"].split("<!-- checkpoints:begin -->")[1].split("<!-- checkpoints:end -->")[0]
    assert re.findall(r"^\| `([^`]+)`", table, re.MULTILINE) == [
        spec.name for spec in manifest().checkpoints if spec.name in README_ROWS
    ]
    assert len(README_ROWS) == 8
    rows = re.findall(r"^\| \[`([^`]+)`\]", TEXTS["docs/checkpoints.md"], re.MULTILINE)
    assert rows == [spec.name for spec in manifest().checkpoints]


def test_every_example_is_in_the_gallery_and_has_a_small_picture() -> None:
    names = [name for group in GROUPS.values() for name in group.names]
    assert sorted(names) == sorted(path.stem for path in (PROJECT / "examples").glob("plot_*.py"))
    assert len(names) >= 12
    for name in names:
        picture = PROJECT / "docs/images/examples" / f"{name.removeprefix('plot_')}.png"
        assert picture.stat().st_size < LARGEST


def test_examples_are_staged_by_group(tmp_path: Path) -> None:
    staged = stage(tmp_path / "staged")
    for group, each in GROUPS.items():
        assert sorted(path.stem for path in (staged / group).glob("*.py")) == sorted(each.names)
        assert (staged / group / "GALLERY_HEADER.rst").read_text("utf-8").startswith(each.title)


def test_every_card_becomes_a_page_and_links_lead_to_it(tmp_path: Path) -> None:
    written = write_cards(tmp_path / "cards", pictures=False)
    names = [spec.name for spec in manifest().checkpoints]
    assert [path.stem for path in written] == names
    page = linked(TEXTS["docs/checkpoints.md"])
    assert re.findall(r"^\| \[`[^`]+`\]\(cards/([^)]+)\.md\)", page, re.MULTILINE) == names
    for path in written:
        text = path.read_text("utf-8")
        assert text.startswith(f"\n# {path.stem}\n")
        assert "## Limitations" in text


def test_every_module_of_the_package_has_a_page() -> None:
    listing = re.search(r"autosummary::\n((?: +:.*\n)+)\n +anatozoo\n", TEXTS["docs/api.md"])
    assert listing
    assert ":recursive:" in listing[1]
    template = (PROJECT / "docs/_templates/autosummary/module.rst").read_text("utf-8")
    # `modules` would leave out what packages with an `__all__` do not name there.
    assert "in all_modules" in template


def test_every_page_of_the_docs_is_in_the_table_of_contents() -> None:
    entries = re.findall(r"^([a-z0-9-]+)$", TEXTS["docs/index.md"], re.MULTILINE)
    pages = {path.stem for path in (PROJECT / "docs").glob("*.md")} - {"index"}
    assert sorted(entries) == sorted(pages)


@pytest.mark.parametrize(
    ("heading", "report"),
    [
        ("### JSRT, 21 images", "hybridgnet-chexmask_jsrt"),
        ("### covid-cxr, 97 images of 68 patients", "hybridgnet-chexmask_covid"),
        ("## hybridgnet-jsrt", "hybridgnet-jsrt_jsrt"),
        ("## unet-jsrt", "unet-jsrt_jsrt"),
    ],
)
def test_tables_of_audits_are_those_of_their_reports(heading: str, report: str) -> None:
    section = re.split(r"\n##", TEXTS["docs/audits.md"].split(f"\n{heading}\n")[1])[0]
    path = PROJECT / "docs/evidence" / f"audit-{report}.json"
    groupings = json.loads(path.read_text(encoding="utf-8"))["groupings"]
    rows = [row for grouping in groupings.values() for row in grouping["groups"]]
    known = set()
    for row in rows:
        digits = 3 if row["metric"].startswith("dice") else 2 if "_mm" in row["metric"] else 0
        known.add(
            "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(row["mean"], row["ci_low"], row["ci_high"], d=digits)
        )
    shown = re.findall(r"\| ([\d.]+ \([\d.]+ to [\d.]+\))", section)
    assert len(shown) > 10
    assert set(shown) <= known


def test_the_unets_page_has_the_numbers_of_the_evaluations() -> None:
    for name in ("unet-jsrt", "hybridgnet-jsrt"):
        path = PROJECT / "docs/evidence" / f"{name}_jsrt_val_exclusive.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        (row,) = re.findall(rf"^\| `{name}` \|(.*)", TEXTS["docs/unet.md"], flags=re.MULTILINE)
        shown = [float(number) for number in re.findall(r"\d*\.\d+", row)]
        means = [
            metrics[f"{m}/{o}"]["mean"] for m in ("dice", "hd_mm") for o in ("lungs", "heart", "clavicles")
        ]
        digits = [3, 3, 3, 1, 1, 1]
        assert shown == [round(mean, d) for mean, d in zip(means, digits, strict=True)]


def test_exit_codes_of_the_page_are_those_of_the_program() -> None:
    table = TEXTS["docs/conventions.md"].split("## Exit codes")[1]
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    assert shown == {0, EXIT_ERROR, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_INTERRUPTED}


def test_slurm_job_asks_for_as_many_processes_as_gpus() -> None:
    job = (PROJECT / "examples/slurm/fit_hybridgnet.sbatch").read_text(encoding="utf-8")
    option = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", job, flags=re.MULTILINE))
    assert option["nodes"] == "2"
    assert option["ntasks-per-node"] == option["gpus-per-node"] == "4"
    assert "SLURM_NTASKS_PER_NODE" in job
    assert "--ckpt_path" in job


@pytest.mark.parametrize("module", ["dicom_grey", "dicom_spacing"])
def test_the_rules_for_dicom_stand_in_the_docs_as_in_the_code(module: str) -> None:
    rules = importlib.import_module(f"anatozoo.io.{module}").__doc__ or ""
    rows = [line.strip() for line in rules.splitlines() if line.startswith("    | ")]
    assert len(rows) >= 5
    for row in rows:
        assert row in TEXTS["docs/dicom.md"]
    for flag in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", "\n".join(rows)):
        assert f"`{flag}`" in TEXTS["docs/conventions.md"]


def test_every_flag_of_the_dicom_reader_is_explained() -> None:
    source = "\n".join(path.read_text() for path in (PROJECT / "anatozoo/io").glob("dicom*.py"))
    flags = set(
        re.findall(
            r'"([a-z]+(?:_[a-z]+)*_(?:ignored|inconsistent|implausible|inverse|square_pixels))"', source
        )
    )
    flags |= {"lut_bits", "lut_length", "lut_byte_order"}
    assert len(flags) > 12
    for flag in flags:
        assert f"`{flag}`" in TEXTS["docs/dicom.md"], flag
