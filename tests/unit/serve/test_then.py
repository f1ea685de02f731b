import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from anatozoo.errors import ConfigError
from tests.support.fake_model import FakeSegmenter
from tests.support.runs import run_folder, table_of, write_scans
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer


@pytest.fixture
def folder(tmp_path):
    return write_scans(tmp_path / "in", 5)


def test_the_repaired_mask_is_saved_with_both_names(folder, tmp_path):
    out, model, then = tmp_path / "out", FakeSegmenter(), FakeRepairer()
    summary = run_folder(model, [folder], out, then=then, batch_size=2, formats=("png", "json"))
    assert (model.batches, then.batches) == ([2, 2, 1], [2, 2, 1])
    assert not summary.failed
    with PILImage.open(out / "scan3_mask.png") as picture:
        drawn = FakeSegmenter().predict(folder / "scan3.png").mask
        np.testing.assert_array_equal(np.asarray(picture), drawn[::-1])
    about = json.loads((out / "scan3.json").read_text())
    assert (about["checkpoint"], about["image"]) == ("fakedae-phantom", "scan3.png")
    assert about["segmenter"] == {"checkpoint": "fake-phantom", "version": "1.0.0", "flags": []}
    row = table_of(out)["scan3.png"]
    assert row["models"] == "fake-phantom 1.0.0;fakedae-phantom 2.0.0"
    assert row["flags"] == "turned"
    assert row["outputs"] == "scan3_mask.png;scan3.json"


def test_flags_of_the_image_and_of_the_repair_are_in_the_row(folder, tmp_path):
    class Fragments(FakeSegmenter):
        def _result(self, image):
            drawn = super()._result(image)
            return replace(drawn, flags=(*drawn.flags, "fragmented_heart"))

    colour = np.zeros((70, 60, 3), np.uint8)
    colour[10:40, 10:40] = (200, 60, 30)
    PILImage.fromarray(colour).save(folder / "scan0.png")
    out = tmp_path / "out"
    run_folder(Fragments(), [folder / "scan0.png"], out, then=FakeRepairer(), formats=("json",))
    # What was wrong with the mask before the repair is not wrong with what is saved.
    assert table_of(out)["scan0.png"]["flags"] == "colour;turned"
    about = json.loads((out / "scan0.json").read_text())
    assert about["segmenter"]["flags"] == ["colour", "fragmented_heart"]


def test_a_new_version_of_either_does_it_again(folder, tmp_path):
    def seen(**versions):
        model, then = FakeSegmenter(), FakeRepairer()
        model.checkpoint_version = versions.get("model", "1.0.0")
        then.checkpoint_version = versions.get("then", "2.0.0")
        run_folder(model, [folder], tmp_path / "out", then=then, formats=("json",))
        return len(model.seen)

    assert [seen(), seen(), seen(model="1.1.0"), seen(model="1.1.0"), seen(model="1.1.0", then="3.0.0")] == [
        5,
        0,
        5,
        0,
        5,
    ]
    # Without the second model it is another result, and the mask alone does not count.
    alone = FakeSegmenter()
    alone.checkpoint_version = "1.1.0"
    run_folder(alone, [folder], tmp_path / "out", formats=("json",))
    assert len(alone.seen) == 5
    assert json.loads((tmp_path / "out" / "scan0.json").read_text())["checkpoint"] == "fake-phantom"


def test_one_bad_image_fails_alone_whoever_cannot_do_it(folder, tmp_path):
    (folder / "empty.png").write_bytes(b"")
    model, then = FakeSegmenter(bad=["scan1"]), FakeRepairer(bad=["scan3.png"])
    summary = run_folder(model, [folder], tmp_path / "out", then=then, formats=("json",), batch_size=5)
    assert {Path(row.file).name: row.reason.split(":")[0] for row in summary.failed} == {
        "empty.png": "'empty.png' is empty (zero bytes); copy or export it again.",
        "scan1.png": "RuntimeError",
        "scan3.png": "RuntimeError",
    }
    assert {p.name for p in (tmp_path / "out").glob("*.json")} == {"scan0.json", "scan2.json", "scan4.json"}


def test_a_repair_that_loses_one_is_asked_one_by_one(folder, tmp_path):
    class Loses(FakeRepairer):
        def predict_batch(self, xs, batch_size=8, **options):
            yield from list(super().predict_batch(xs, batch_size, **options))[:-1]

    summary = run_folder(FakeSegmenter(), [folder], tmp_path / "out", then=Loses(), formats=("json",))
    assert not summary.failed
    assert json.loads((tmp_path / "out" / "scan4.json").read_text())["size"] == [64, 70]


@pytest.mark.parametrize(
    ("then", "match"),
    [
        (FakeRepairer(["lung_right", "lung_left", "heart"]), "draws clavicle_right, clavicle_left, which"),
        (FakeRepairer(["liver"]), r"lung_right, lung_left, heart.*repairs liver\."),
        (FakeRepairer(shape=(8, 64, 64)), "repairs volumes"),
        (FakeRegistrar(), "fakereg-phantom repairs no masks"),
        (FakeSegmenter(), "fake-phantom repairs no masks"),
    ],
)
def test_models_that_do_not_go_together_are_refused_before_the_run(folder, tmp_path, then, match):
    with pytest.raises(ConfigError, match=match):
        run_folder(FakeSegmenter(), [folder], tmp_path / "out", then=then)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "organs",
    [
        ["heart", "clavicle_left", "clavicle_right", "lung_left", "lung_right", "trachea"],
        ["lungs", "heart", "clavicles"],
    ],
)
def test_more_organs_another_order_and_pairs_go(folder, tmp_path, organs):
    summary = run_folder(
        FakeSegmenter(), [folder], tmp_path / "out", then=FakeRepairer(organs), formats=("json",)
    )
    assert not summary.failed
    after = json.loads((tmp_path / "out" / "scan0.json").read_text())["after"]
    assert {organ for organ, found in after.items() if found["pixels"]} == set(organs) - {"trachea"}


def test_only_a_segmentation_can_be_followed(folder, tmp_path):
    with pytest.raises(ConfigError, match="only a segmentation can be followed"):
        run_folder(FakeRepairer(), [folder], tmp_path / "out", then=FakeRepairer())
    with pytest.raises(ConfigError, match="--pairs"):
        run_folder(FakeRegistrar(), [folder], tmp_path / "out", then=FakeRepairer())
