import json
import threading

import pytest
import torch

from anatozoo.serve.cores import ON_ACCELERATOR, shared_out, usual_batch
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import run_folder, table_of, write_scans


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    return write_scans(tmp_path / "in", 6)


class Meets(FakeSegmenter):
    """Waits for another thread that computes, and notes with how many threads torch would."""

    def __init__(self, **more):
        super().__init__(**more)
        self.met, self.threads = threading.Barrier(2), []

    def predict_batch(self, xs, batch_size=8):
        self.met.wait(timeout=30)
        self.threads.append(torch.get_num_threads())
        yield from super().predict_batch(xs, batch_size)


def test_inputs_are_computed_at_a_time_each_by_a_thread_and_reported_in_order(folder, tmp_path, two_threads):
    model, rows = Meets(), []
    summary = run_folder(model, [folder], tmp_path / "out", on_row=rows.append)
    assert not summary.failed
    assert model.threads == [1] * 6
    assert model.batches == [1] * 6
    assert [row.stem for row in rows] == [f"scan{i}" for i in range(6)]
    assert json.loads((tmp_path / "out" / "scan4.json").read_text())["size"] == [64, 70]
    assert torch.get_num_threads() == 2
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [2]


def test_one_input_has_all_threads_and_so_has_a_batch_that_was_chosen(folder, tmp_path, two_threads):
    class Notes(FakeSegmenter):
        threads = ()

        def predict_batch(self, xs, batch_size=8):
            self.threads += (torch.get_num_threads(),)
            yield from super().predict_batch(xs, batch_size)

    model = Notes()
    run_folder(model, [folder / "scan1.png"], tmp_path / "one")
    run_folder(model, [folder], tmp_path / "out", batch_size=4)
    assert model.batches == [1, 4, 2]
    assert model.threads == (2, 2, 2)


def test_bad_inputs_fail_alone(folder, tmp_path, two_threads):
    (folder / "scan2.png").write_bytes(b"")
    summary = run_folder(FakeSegmenter(bad={"scan3"}), [folder], tmp_path / "out", formats=("json",))
    assert [row.stem for row in summary.failed] == ["scan2", "scan3"]
    assert "zero bytes" in table_of(tmp_path / "out")["scan2.png"]["reason"]
    assert summary.failed[1].reason == "RuntimeError: the network cannot do scan3"


def test_an_interrupt_leaves_a_run_that_can_be_resumed(folder, tmp_path, two_threads):
    class Interrupted(FakeSegmenter):
        def predict_batch(self, xs, batch_size=8):
            if len(self.seen) >= 3:
                raise KeyboardInterrupt
            yield from super().predict_batch(xs, batch_size)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_folder(Interrupted(), [folder], out)
    assert torch.get_num_threads() == 2
    done = table_of(out)
    assert len(done) < 6
    summary = run_folder(FakeSegmenter(), [folder], out)
    assert (summary.already_done, summary.failed) == (len(done), ())


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for inputs, at_once, each in ((64, 8, 4), (3, 3, 10), (0, 1, 32)):
        with shared_out(inputs) as (count, start):
            start()
            assert count == at_once
        assert given == [each, 32]
        given.clear()


def test_a_batch_is_larger_where_one_input_does_not_fill_the_device():
    class Placed(FakeSegmenter):
        def place(self):
            return torch.device("cuda"), torch.float32

    assert usual_batch([FakeSegmenter(), Placed()]) == ON_ACCELERATOR
    assert usual_batch([FakeSegmenter()]) == 1
