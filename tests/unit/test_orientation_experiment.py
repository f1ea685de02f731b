"""The evidence on orders of storage: what is stored how, and that it goes on where it stopped."""

import numpy as np
import pytest
import torch

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid, GridImage
from anatozoo.io.orientation import tells_apex
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.nn.deform import reorder
from tests.support.cases import case_of
from tests.support.heart_data import heart

EXPERIMENT = "orientation"


def test_orders_are_those_of_the_augmentation(evidence):
    volume = np.arange(3 * 4 * 4).reshape(3, 4, 4)
    for number in evidence.ORDERS:
        expected = reorder(torch.from_numpy(volume), number).numpy()
        np.testing.assert_array_equal(evidence.order_of(number).apply(volume), expected)


def test_headers_say_what_they_are_meant_to(evidence):
    image = GridImage(heart(6, 40, 32)[0], Grid((32, 40, 6)), "stack")
    given = {name: (stack, turn) for name, stack, turn in evidence.trials(image, [0, 5])}
    assert list(given) == ["0", "5", "header0", "header1", "oblique"]
    for name, (stack, turn) in given.items():
        np.testing.assert_array_equal(turn.undo(stack.pixels), image.pixels)
        assert stack.grid.shape == stack.pixels.shape
        assert (stack.grid.direction is None) == name.isdigit()
        assert tells_apex(stack.grid) == (name == "oblique")
    again = dict((name, turn) for name, _, turn in evidence.trials(image, [0, 5]))
    assert again == {name: turn for name, (_, turn) in given.items()}


def test_what_was_measured_is_not_measured_again(evidence, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = AcnnModule(widths=[4, 8], frame=FrameSpec([8, 32, 32], long_side=40, fit="slices")).eval()
    pixels, labels = heart(6, 40, 32)
    cases = [
        case_of(name, GridImage(pixels, Grid((32, 40, 6)), "stack"), labels, HEART, split="val")
        for name in ("a", "b")
    ]
    rows = tmp_path / "rows.jsonl"
    table = evidence.measure([model], cases, [0, 4], rows, 2)
    assert len(table) == len(rows.read_text().splitlines()) == 2 * 5
    half = rows.read_text().splitlines()[:6]
    rows.write_text("\n".join(half) + "\n")
    count = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda given: count.append(1) or predict(given))
    again = evidence.measure([model], cases, [0, 4], rows, 2)
    assert len(count) == 4
    assert again.equals(table)
    found = evidence.summary(table)
    assert found["stacks"] == 2
    assert found["header_changes_labels"] == 0
    # Both orders of slices count alike where nothing tells.
    assert found["spread"]["dice"] == pytest.approx(0, abs=1e-6)
    assert found["orders"]["0"] == pytest.approx(found["orders"]["4"])
    text = evidence.markdown({"about": "words", "models": {"m": found}})
    assert text.count("\n| m ") == 2
    # With headers given to the first stack alone.
    fewer = evidence.measure([model], cases, [0, 4], rows, 1)
    assert fewer.groupby("case")["trial"].count().tolist() == [5, 2]
