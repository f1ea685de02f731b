"""The commands about checkpoints, in-process; the light ones also in a process of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anatozoo.cli import doctor
from anatozoo.cli.doctor_data import describe_folder
from anatozoo.cli.main import COMMANDS, FORWARDED, main
from anatozoo.cli.table import format_fields, format_table
from anatozoo.errors import DataError
from anatozoo.io import chest_folders
from tests.support.chest_data import write_chest_data
from tests.support.volume_data import write_volumes
from tests.support.zoo_fixtures import TinyModule, entry, read_json, write_manifest, write_tiny

Capture = pytest.CaptureFixture[str]
HEAVY = ("torch", "lightning", "numpy", "pandas", "rich", "huggingface_hub", "matplotlib")


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anatozoo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def long_lines(text: str, width: int = 80) -> list[str]:
    return [line for line in text.splitlines() if len(line) > width]


# --- the binary -------------------------------------------------------------------------------------------


def test_help_names_every_command_in_80_columns(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n  {name:<10}{command.summary}\n" in text
    assert long_lines(text) == []


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("anatozoo 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ""),
        (["lits"], "there is no command 'lits'; did you mean list?"),
        (["xyz"], "see `anatozoo --help`"),
        (["--json", "list"], "unrecognized arguments: --json"),
        (["info"], "the following arguments are required: NAME"),
        (["list", "--comm"], "unrecognized arguments: --comm"),
        (["download"], "one of the arguments NAME --all is required"),
        (["download", "--all", "tiny-toy"], "not allowed with argument"),
    ],
)
def test_usage_errors_are_2(capsys: Capture, arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_an_error_is_one_sentence_and_1(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    assert main(["info", "tiny-toi"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "anatozoo: error: no checkpoint is called 'tiny-toi'; did you mean tiny-toy?\n"
    assert captured.out == ""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in FORWARDED])
def test_every_command_explains_itself_in_80_columns(
    name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: anatozoo {name} [-h]")
    assert long_lines(text) == []


def test_training_commands_are_handed_on_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Train:
        @staticmethod
        def main(argv: list[str]) -> int:
            seen.append(argv)
            return 0

    monkeypatch.setitem(sys.modules, COMMANDS["fit"].module, Train)
    assert main(["fit", "--config", "hybridgnet/jsrt.yaml", "--data.root", "DIR"]) == 0
    assert main(["test", "--help"]) == 0
    assert seen == [["fit", "--config", "hybridgnet/jsrt.yaml", "--data.root", "DIR"], ["test", "--help"]]


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("anatozoo.cli.list.run", interrupt)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "anatozoo: interrupted\n"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m anatozoo --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("usage: anatozoo")
    # A pipe that is closed before the first word.
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        closed = subprocess.run(
            [sys.executable, "-m", "anatozoo", "list"],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (closed.returncode, closed.stderr) == (141, "")


# --- light and quick --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["list", "--help"]])
def test_light_commands_import_nothing_heavy_and_are_quick(arguments: list[str]) -> None:
    code = (
        "import sys; from anatozoo.cli.main import main; code = main(sys.argv[1:]); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr); sys.exit(code)"
    )
    resource = pytest.importorskip("resource", reason="POSIX measures the time of child processes")
    # What counts the lines that processes run takes a tenth of a second in each.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    seconds = []
    for _ in range(3):  # the quickest of three, for the first one may have to compile what it imports
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=bare
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Time of the processor, not of the clock: the machine has other things to do.
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert (done.returncode, done.stderr) == (0, "[]\n")
    assert min(seconds) <= 0.5


@pytest.mark.parametrize("command", ["info", "card", "verify", "download"])
def test_commands_about_one_checkpoint_import_no_torch(
    package: Path, bundled: TinyModule, command: str
) -> None:
    code = (
        "import sys; from pathlib import Path; from anatozoo.zoo import catalogue, registry\n"
        f"catalogue.PACKAGE = Path({str(package)!r})\n"
        "registry.METHODS['tiny'] = registry.MethodEntry('tiny', 'nowhere:No', None, None, 'Tiny', 'none')\n"
        "from anatozoo.cli.main import main\n"
        f"code = main([{command!r}, 'tiny-toy'])\n"
        "sys.exit(', '.join({'torch', 'lightning'} & set(sys.modules)) or code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny-toy" in done.stdout


# --- list, info, card -------------------------------------------------------------------------------------


def test_list_is_a_table_of_80_columns(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    organs = {
        "kind": "labels",
        "classes": ["lung_right", "lung_left", "heart", "clavicle_right", "clavicle_left"],
    }
    many = [entry(name=f"tiny-toy{i}", output={**organs, "landmarks": None}) for i in range(3)]
    write_manifest(package / "checkpoints_manifest.yaml", *many)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "INPUT", "OUTPUT", "MB", "COMMERCIAL"]
    assert [line.split()[0] for line in lines[1:]] == ["tiny-toy0", "tiny-toy1", "tiny-toy2"]
    assert "lungs, heart, clavicles" in lines[1]
    assert long_lines("\n".join(lines)) == []


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 1),
        (["tiny*"], 1),
        (["hybrid*"], 0),
        (["--method", "tiny", "--anatomy", "chest", "--modality", "x-ray"], 1),
        (["--anatomy", "knee"], 0),
        (["--commercial"], 0),
    ],
)
def test_list_json_filters(
    package: Path, bundled: TinyModule, capsys: Capture, arguments: list[str], count: int
) -> None:
    assert main(["list", "--json", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)) == count
    assert main(["list", *arguments]) == 0
    assert ("No checkpoint matches" in capsys.readouterr().out) == (count == 0)


def test_json_is_the_manifests_entry(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    expected = {**entry(package / "checkpoints" / "tiny-toy"), "remarks": None, "selection": None}
    expected["build"] = None
    (measured,) = expected.pop("measured")
    values = measured.pop("values")
    expected["metrics"] = [
        {**measured, "metric": metric, "class": "heart", "value": by_class["heart"], "version": None}
        for metric, by_class in values.items()
    ]
    assert main(["info", "tiny-toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [expected]


def test_info_tells_what_matters(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    assert main(["info", "tiny-toy"]) == 0
    text = capsys.readouterr().out
    for words in ["1.0.0, bundled", "heart (5)", "never published", "CC-BY-NC-4.0, non-commercial", "0.912"]:
        assert words in text
    assert "not measured" in text
    assert long_lines(text) == []


def test_card_is_printed_as_markdown(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    assert main(["card", "tiny-toy"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("---\nlibrary_name: anatozoo\n")
    assert text.endswith("```\n")


# --- verify, download -------------------------------------------------------------------------------------


def test_verify_checks_all_that_is_here(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    here = entry(package / "checkpoints" / "tiny-toy")
    write_manifest(package / "checkpoints_manifest.yaml", here, entry(name="tiny-gone"))
    assert main(["verify", "--golden"]) == 0
    text = capsys.readouterr().out
    assert "files: as in the manifest" in text
    assert "golden test: 0.00" in text
    assert "tiny-gone: not on this machine" in text


def test_verify_goes_on_after_a_failure(
    package: Path, bundled: TinyModule, tmp_path: Path, capsys: Capture
) -> None:
    write_tiny(tmp_path / "mine", name="tiny-mine")
    (package / "checkpoints" / "tiny-toy" / "config.json").write_text("{}")
    assert main(["verify", "tiny-toy", str(tmp_path / "mine")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("tiny-toy: FAILED: ")
    assert "tiny-mine" in captured.out
    assert "not in the manifest" in captured.out


def test_verify_all_misses_what_is_not_here(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    assert main(["verify", "--all"]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 checkpoints are as the manifest says\n")
    here = entry(package / "checkpoints" / "tiny-toy")
    write_manifest(package / "checkpoints_manifest.yaml", here, entry(name="tiny-gone"))
    assert main(["verify", "--all"]) == 1
    captured = capsys.readouterr()
    assert captured.out.endswith("1 of 2 checkpoints are as the manifest says\n")
    assert captured.err.startswith("tiny-gone: FAILED: ")


def test_verify_takes_names_or_all(capsys: Capture) -> None:
    assert main(["verify", "--all", "tiny-toy"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_download_copies_for_a_machine_without_a_network(
    package: Path, bundled: TinyModule, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["download", "--all", "--to", str(tmp_path / "usb")]) == 0
    copy = tmp_path / "usb" / "tiny-toy"
    assert capsys.readouterr().out == f"tiny-toy: verified, in {copy}\n"
    assert read_json(copy / "config.json")["name"] == "tiny-toy"
    assert main(["download", "tiny-toy"]) == 0
    assert capsys.readouterr().out == f"tiny-toy: verified, in {package / 'checkpoints' / 'tiny-toy'}\n"


# --- doctor -----------------------------------------------------------------------------------------------


def test_doctor_reports_and_finds_nothing_wrong(package: Path, bundled: TinyModule, capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for words in [
        "anatozoo",
        "torch 2.",
        "cpu (",
        "not inside a job",
        "(writable)",
        "1 of 1",
        "JPEG 2000 yes",
    ]:
        assert words in text
    assert "PROBLEM" not in text


def test_doctor_survives_a_torch_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')\n")
    done = run(["doctor"], PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd()]))
    assert done.returncode == 1
    assert "PROBLEM: torch cannot be imported (ImportError: libcudart.so" in done.stdout


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, None),
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_GPUS_ON_NODE": "4"}, None),
        ({"SLURM_NTASKS": "2"}, None),
        ({"SLURM_NTASKS": "1", "SLURM_GPUS_ON_NODE": "4"}, "#SBATCH --ntasks-per-node=4"),
        ({"SLURM_NTASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}, "4 tasks but 2 GPUs"),
    ],
)
def test_doctor_compares_slurm_tasks_with_gpus(environment: dict[str, str], problem: str | None) -> None:
    found = doctor.slurm({"SLURM_JOB_ID": "7", **environment}).problem
    assert (found is None) == (problem is None)
    assert problem is None or problem in str(found)


def test_doctor_names_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.cache(tmp_path / "not" / "yet").problem is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "set ANATOZOO_HOME" in str(doctor.cache(tmp_path / "not" / "yet").problem)


def test_doctor_says_what_would_be_used_of_a_data_set(tmp_path: Path) -> None:
    root = write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64)
    (root / "images" / "JPCLN003.png").unlink()
    (root / "landmarks" / "H" / "JPCLN001.npy").unlink()
    lines, problems = describe_folder(root)
    text = "\n".join(lines)
    assert problems == []
    for words in [
        "2 .txt in splits/",
        "layout chest, 2-D",
        "3 cases of 3 subjects",
        "split train: 2 cases, 2 with image and annotation",
        "split val: 1 cases, 0 with image and annotation",
        "domain JSRT: 3 cases",
        "annotated heart: 2 cases",
        "1 without an image: JPCLN003",
        "read 3 cases: 64 x 64 pixels",
    ]:
        assert words in text
    lines, _ = describe_folder(root, "jsrt", ["heart", "lungs"])
    assert "split train: 2 cases, 1 with image and annotation" in lines
    assert "1 without all of heart, lungs: JPCLN001" in lines


def test_doctor_searches_radiographs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, searched = write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64), list[Path]()
    monkeypatch.setattr(
        "anatozoo.data.layouts.chest.scan", lambda root: (searched.append(root), chest_folders.scan(root))[1]
    )
    assert "layout chest, 2-D" in "\n".join(describe_folder(root)[0])
    assert searched == [root]


def test_doctor_knows_volumes_and_the_values_of_label_maps(tmp_path: Path) -> None:
    write_volumes(tmp_path, ["a", "b"], values=(5, 7), splits={"train": ["a"], "val": ["b"]})
    (tmp_path / "imagesTr" / "notes.txt").write_text("x")
    (tmp_path / "imagesTr" / "c.nii.gz").write_bytes((tmp_path / "imagesTr" / "a.nii.gz").read_bytes()[:200])
    lines, problems = describe_folder(tmp_path)
    text = "\n".join(lines)
    for words in [
        "3 .nii.gz in imagesTr/",
        "layout folder, 3-D",
        "split none: 1 cases, 0 with image and annotation; in no split are c",
        "1 without an annotation: c",
        "1 files that are not images: imagesTr/notes.txt",
    ]:
        assert words in text
    assert [problem.partition(":")[0] for problem in problems] == ["case c"]
    _, problems = describe_folder(tmp_path, None, ["front", "back"])
    assert "the values 5, 7, but the classes are 1 front, 2 back; give label_values" in problems[0]


def write_chest_maps(root: Path, right: int, left: int, background: int = 0) -> Path:
    maps = np.full((32, 32), background, np.uint8)
    maps[8:24, 4:12], maps[8:24, 20:28] = right, left
    for number in range(3):
        for folder, array in (("images", np.arange(1024, dtype=np.uint8).reshape(32, 32)), ("masks", maps)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(array).save(root / folder / f"p{number}.png")
    return root


def test_doctor_doubts_empty_organs_exchanged_sides_and_a_background_that_is_an_organ(tmp_path: Path) -> None:
    organs = ["lung_right", "lung_left", "heart"]
    lines, [problem] = describe_folder(write_chest_maps(tmp_path / "empty", 1, 2), None, organs)
    assert problem.startswith("heart: not a pixel in any of the 3 annotated cases")
    assert "drawn in 0 of 3 cases: heart" in lines
    assert "drawn in 3 of 3 cases: lung_right" in lines
    _, [problem] = describe_folder(write_chest_maps(tmp_path / "sides", 2, 1), None, organs[:2])
    assert problem.startswith("sides look exchanged: lung_right lies right of lung_left")
    _, problems = describe_folder(write_chest_maps(tmp_path / "background", 0, 2, 3), None, organs)
    assert any(problem.startswith("heart fills all corners and most of the image") for problem in problems)
    assert describe_folder(write_chest_maps(tmp_path / "right", 1, 2), None, organs[:2])[1] == []


def test_doctor_says_how_names_that_differ_were_matched(tmp_path: Path) -> None:
    for site in ("north", "south"):
        write_chest_maps(tmp_path / site, 1, 2)
    assert not [line for line in describe_folder(tmp_path)[0] if "matched" in line]
    for path in (tmp_path / "south" / "masks").iterdir():
        path.rename(path.with_name(f"bertB_{path.name[1:]}"))
    lines, problems = describe_folder(tmp_path)
    assert problems == []
    [line] = [line for line in lines if "matched" in line]
    assert line.startswith(
        "south: matched by their names without 'p' of the images, 'bertB_' of the masks: p0 and"
    )


def test_doctor_takes_the_name_of_a_set_of_organs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(doctor, "torch_devices", list)  # asks another process, which takes seconds
    root = write_chest_data(tmp_path, {"train": 2, "val": 1}, side=64)
    assert main(["doctor", "--data", str(root), "--organs", "lungs_heart"]) == 0
    assert "split train: 2 cases, 2 with image and annotation" in capsys.readouterr().out
    # Both lungs, a set too, may be one mask.
    own = tmp_path / "own"
    grey = np.linspace(0, 255, 40 * 50).reshape(40, 50).astype(np.uint8)
    for folder, pixels in (("images", grey), ("masks/lungs", np.uint8(255) * (grey > 99))):
        (own / folder).mkdir(parents=True)
        for number in range(8):
            PIL.Image.fromarray(pixels).save(own / folder / f"p{number}.png")
    assert main(["doctor", "--data", str(own), "--organs", "lungs"]) == 0
    assert "drawn in 6 of 6 cases: lungs" in capsys.readouterr().out


def test_doctor_is_quick_with_thousands_of_files(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    picture, mask = (tmp_path / "images" / "0000.png"), (tmp_path / "masks" / "0000_mask.png")
    PIL.Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(picture)
    PIL.Image.fromarray(np.eye(32, dtype=np.uint8)).save(mask)
    for number in range(1, 3000):
        (tmp_path / "images" / f"{number:04}.png").hardlink_to(picture)
        (tmp_path / "masks" / f"{number:04}_mask.png").hardlink_to(mask)
    start = time.process_time()
    lines, problems = describe_folder(tmp_path, organs=["heart"])
    assert time.process_time() - start < 5
    assert problems == []
    assert "3000 cases of 3000 subjects" in lines
    assert any("DEALT" in line for line in lines)


def test_doctor_says_when_nothing_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_devices", list)  # asks another process, which takes seconds
    _, [problem] = describe_folder(tmp_path)
    assert "no layout is recognised" in problem
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    with pytest.raises(DataError, match="there is no such folder"):
        describe_folder(tmp_path / "gone")


# --- tables -----------------------------------------------------------------------------------------------


def test_a_table_wraps_its_wide_columns_and_keeps_the_names() -> None:
    name = "a-very-long-checkpoint-name-that-must-stay-whole"
    text = format_table(("NAME", "TEXT"), [(name, "word " * 20), ("b", "short")])
    assert name in text
    assert long_lines(text) == []
    assert text.count("word") == 20


def test_fields_keep_line_breaks_and_align() -> None:
    assert format_fields([("a", "one\ntwo"), ("long", "")]) == "a     one\n      two\nlong\n"
