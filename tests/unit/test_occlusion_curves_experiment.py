"""Curves over hidden parts: devices are the same for all models, and a killed run goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anatozoo
from anatozoo.io.images import Image
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from tests.support.hybridgnets import small_hybridgnet

EXPERIMENT = "occlusion_curves"


def image() -> Image:
    pixels = np.random.default_rng(0).uniform(20, 80, (200, 160)).astype(np.float32)
    return Image(pixels, None, "phantom", "")


def test_devices_brighten_and_a_larger_number_adds_to_the_smaller(evidence: Any) -> None:
    bare = image()
    few, many = (evidence.with_devices(bare, count, seed=3).pixels for count in (2, 8))
    assert np.array_equal(evidence.with_devices(bare, 0, seed=3).pixels, bare.pixels)
    assert np.array_equal(evidence.with_devices(bare, 2, seed=3).pixels, few)
    assert (few >= bare.pixels).all()
    assert (many >= few - 1e-3).all()
    assert 0 < (few > bare.pixels).mean() < (many > bare.pixels).mean() < 0.6
    assert not np.array_equal(evidence.with_devices(bare, 2, seed=4).pixels, few)


def test_what_a_fit_without_skips_starts_from(
    evidence: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = small_hybridgnet(HybridGNetModule)
    monkeypatch.setattr(evidence.anatozoo, "load", lambda name: full)
    evidence.main(["--root", str(tmp_path), "--work", str(tmp_path), "--start"])
    monkeypatch.undo()
    bare: Any = anatozoo.load(tmp_path / "start")
    assert bare.skips == bare.refine == []
    name = "network.fc_mu.weight"
    torch.testing.assert_close(bare.state_dict()[name], full.state_dict()[name], atol=1e-3, rtol=1e-3)
    assert bare.predict(image().pixels).landmarks


def test_nothing_hidden_is_asked_once(evidence: Any) -> None:
    asked = list(evidence.conditions("square"))
    assert [key for key in asked if key[0] == 0] == [(0, 0)]
    assert len(asked) == 1 + 8 * evidence.PLACES


def test_bands_are_means_of_the_spread_over_images(evidence: Any) -> None:
    rows = {
        (32, 0): [{"dice": 0.9, "hd_mm": 1.0}, {"dice": 0.7, "hd_mm": 3.0}],
        (32, 1): [{"dice": 0.8, "hd_mm": 2.0}, {"dice": 0.8, "hd_mm": 2.0}],
    }
    (point,) = evidence.curve(rows)
    assert point["dice"] == {"mean": 0.8, "band": pytest.approx(np.sqrt(0.02) / 2, abs=1e-5), "worst": 0.7}
    assert point["hd_mm"]["worst"] == 3.0


def test_a_second_run_measures_what_is_missing(evidence: Any, tmp_path: Path) -> None:
    store, asked = tmp_path / "rows.jsonl", []

    def run(amount: int, place: int) -> list[dict[str, float]]:
        asked.append((amount, place))
        return [{"dice": amount / 100, "hd_mm": 1.0}]

    todo = [(0, 0), (32, 0)]
    first = evidence.rows_of(store, todo, run)
    store.write_text(store.read_text()[:-8])  # killed while it wrote the second line
    assert evidence.rows_of(store, todo, run) == first
    assert asked == [(0, 0), (32, 0), (32, 0)]
    assert evidence.rows_of(store, todo, run) == first
    assert len(asked) == 3


def test_the_figure_and_the_tables_hold_every_model(evidence: Any, tmp_path: Path) -> None:
    rows = {
        kind: evidence.curve({key: [{"dice": 0.9, "hd_mm": 4.0}] * 2 for key in evidence.conditions(kind)})
        for kind in evidence.KINDS
    }
    record = {"about": "Two images.", "models": {"a": rows, "b": rows}}
    text = evidence.markdown(record)
    assert text.count("| a |") == text.count("| b |") == 4
    evidence.draw(record, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
