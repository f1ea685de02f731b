import pytest

from anatozoo.annotate.engines import Local, ShardRunner
from anatozoo.annotate.run import annotate
from anatozoo.annotate.tries import FOLDER, REASON, Tries
from tests.support.annotating import bytes_of, rows_of, settings

ONE = Local(workers=1)


class Died(BaseException):
    """Stands for the end of a process, after which no code of it runs."""


@pytest.fixture
def deadly(model, monkeypatch):
    """A model that ends the process at scan2, and leaves what a killed process leaves."""
    predict, leave = model.predict_batch, Tries.__exit__

    def die(xs, batch_size=8):
        if any(image.name == "scan2" for image in xs):
            raise Died
        return predict(xs, batch_size)

    monkeypatch.setattr(model, "predict_batch", die)
    monkeypatch.setattr(
        Tries, "__exit__", lambda self, kind, *more: None if kind is Died else leave(self, kind, *more)
    )
    return model


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_image_that_kills_processes_fails_alone_and_the_others_are_done(
    deadly, scans, tmp_path, batch_size
):
    out = tmp_path / "out"
    for _ in range(3):  # once without a suspect, twice with it
        with pytest.raises(Died):
            annotate(out, settings(scans, batch_size=batch_size), engine=ONE)
    found = annotate(out, engine=ONE)
    assert found.summary["failures"][REASON] == 1
    row = next(row for row in rows_of(out) if row["reason"] == REASON)
    assert row["id"] == "scan2.png"
    assert found.summary["ok"] == 5
    assert list((out / FOLDER).iterdir()) == []


def test_a_process_that_was_stopped_blames_no_image(model, scans, tmp_path, monkeypatch):
    predict = model.predict_batch

    def stop(xs, batch_size=8):
        raise KeyboardInterrupt

    for _ in range(4):
        monkeypatch.setattr(model, "predict_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            annotate(tmp_path / "out", settings(scans), engine=ONE)
    monkeypatch.setattr(model, "predict_batch", predict)
    assert annotate(tmp_path / "out", engine=ONE).summary["ok"] == 6


class Careful:
    """An engine that does each shard as one does whose first try never ended."""

    def run(self, plan, shards, on_shard):
        for shard in shards:
            Tries(plan.folder, shard).__enter__()  # and never left
            assert Tries(plan.folder, shard).careful
            ShardRunner(plan, "cpu").do(shard)


def test_care_changes_no_byte(model, scans, tmp_path):
    annotate(tmp_path / "whole", settings(scans, batch_size=2), engine=ONE)
    annotate(tmp_path / "out", settings(scans, batch_size=2), engine=Careful())
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_deaths_at_different_images_blame_none(tmp_path):
    path = tmp_path / FOLDER / "000003"
    path.parent.mkdir()
    path.write_text("begun\nbegun\n0\n1\nbegun\n0\nbegun\n0\n1\n2\n")
    assert Tries(tmp_path, 3).deadly == frozenset()
    path.write_text("begun\nbegun\n0\n1\nbegun\n0\nbegun\n0\n1\n")
    assert Tries(tmp_path, 3).deadly == {1}
    assert not Tries(tmp_path, 4).careful


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with Tries(tmp_path, 0) as tries:
        tries.begin(0)
