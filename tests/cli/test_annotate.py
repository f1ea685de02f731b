import json
import os
import signal

import pytest

from anatozoo.annotate.plan import PLAN_NAME
from anatozoo.cli.main import main
from tests.support.annotating import bytes_of
from tests.support.runs import write_scans


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "scans", 4)


def annotate(*arguments):
    return main(["annotate", *map(str, arguments)])


def start(scans, out, *more):
    how = ("--model", "fake-phantom", "--workers", 1, "--shard-size", 2)
    return annotate(scans, *how, "--out", out, *more)


def test_an_archive_is_annotated_and_summed_up(model, scans, tmp_path, capsys):
    assert start(scans, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.out == f"4 images: 4 annotated, 0 failed. Tables: {tmp_path / 'out'}\n"
    assert said.err == ""
    (scans / "scan9.png").write_bytes(b"")
    assert start(scans, tmp_path / "two", "--json") == 3
    said = capsys.readouterr()
    values = json.loads(said.out)
    assert (values["images"], values["ok"], values["failed"], values["shards_left"]) == (5, 4, 1, 0)
    assert "failed: 1 images: the file is empty" in said.err
    assert annotate("--out", tmp_path / "two", "--retry-failed", "--quiet") == 3


def test_slurm_gets_a_script_whose_tasks_do_the_rest(model, scans, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert start(scans, tmp_path / "whole") == 0
    assert start(scans, out, "--engine", "slurm", "--tasks", 2) == 0
    assert capsys.readouterr().out.endswith(f"Now: sbatch {out}/annotate.sbatch\n")
    script = (out / "annotate.sbatch").read_text()
    command = next(line for line in script.splitlines() if line.startswith("exec "))
    words = command.split()[command.split().index("annotate") :]
    for task in (1, 0):
        ranged = [*words[:-1], f"{task}:{task + 1}"]
        assert main(ranged) == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert annotate("--out", out, "--shards", "2:9") == 1
    assert "hold nothing; the plan has the shards 0 to 1" in capsys.readouterr().err


def test_slurm_gets_folders_with_spaces_and_the_formats_that_are_asked_for(model, scans, tmp_path, capsys):
    out = tmp_path / "100% of all"
    assert start(scans, out, "--engine", "slurm") == 0
    assert f"sbatch '{out}/annotate.sbatch'" in capsys.readouterr().out
    assert annotate("--out", out, "--engine", "slurm", "--format", "png,chexmask") == 0
    script = (out / "annotate.sbatch").read_text()
    assert f'#SBATCH --output="{tmp_path}/100%% of all/slurm-%a.log"\n' in script
    assert " --format png,chexmask --shards " in script


def test_what_is_stopped_before_there_is_a_plan_is_said_to_begin_anew(
    model, scans, tmp_path, capsys, monkeypatch
):
    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("anatozoo.annotate.run.list_items", stopped)
    assert start(scans, tmp_path / "out") == 130
    assert "interrupted; go on with the same command." in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_with_a_sentence_and_the_rest_is_done_later(
    model, scans, tmp_path, capsys, request, number, code
):
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background leaves it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    predict = model.predict_batch

    def stopped(xs, batch_size=8):
        if len(model.seen) == 3:
            os.kill(os.getpid(), number)
        return predict(xs, batch_size)

    model.predict_batch = stopped
    assert start(scans, tmp_path / "out") == code
    assert f"go on with `anatozoo annotate --out {tmp_path / 'out'}`" in capsys.readouterr().err
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    model.predict_batch = predict
    assert annotate("--out", tmp_path / "out", "--workers", 1) == 0
    assert model.seen.count("scan0") == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scans"], "--model is needed"),
        (["--model", "m"], "--model is in the plan already"),
        (["--shard-size", "3"], "--shard-size is in the plan already"),
        (["scans", "--model", "m", "--count", "3"], "--count is for estimates"),
        (["scans", "--model", "m", "--tasks", "3"], "--tasks is for --engine slurm"),
        (["--engine", "slurm", "--shards", "0:1"], "--shards is what a task does"),
        (["--shards", "1"], "'1' is not A:B"),
        (["--shards", "3:3"], "'3:3' holds no shard"),
        (["scans", "--model", "m", "--spacing-mm", "1", "1", "1"], "one or two numbers"),
    ],
)
def test_options_that_do_not_go_together(arguments, said, tmp_path, capsys):
    assert annotate(*arguments, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / PLAN_NAME).exists()


def test_a_folder_without_a_plan_is_said(tmp_path, capsys):
    assert annotate("--out", tmp_path) == 1
    assert "holds no plan" in capsys.readouterr().err
