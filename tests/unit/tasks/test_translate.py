"""Translated images, and chains of models, with networks whose answer is known."""

from typing import Any

import numpy as np
import pytest

from anatozoo.errors import ConfigError, GeometryError
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import Grid
from anatozoo.io.images import read_image
from anatozoo.methods.unet.model import UNetModel
from anatozoo.results.translated import TranslatedImage
from anatozoo.tasks.chain import Chain, check_translator
from tests.support.domains import shifting
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import NODES
from tests.unit.serve.fakes import FakeHeart, FakeRepairer


def scan(shape: tuple[int, int] = (45, 70), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


@pytest.mark.parametrize("shape", [(45, 70), (16, 16), (70, 33)])
def test_the_change_is_added_to_the_image_at_its_own_size(shape: tuple[int, int]) -> None:
    found = shifting(0.25).predict(scan(shape), spacing_mm=0.5)
    assert isinstance(found, TranslatedImage)
    assert found.translated.shape == shape
    assert found.spacing_mm == (0.5, 0.5)
    np.testing.assert_allclose(found.translated, np.clip(found.given + 0.25, 0, 1), atol=1e-5)
    assert found.domains == ("dark", "bright")
    assert 0 < found.mean_change < 0.25
    assert found.flags == ()


def test_a_large_change_is_flagged() -> None:
    assert shifting(0.5).predict(scan()).flags == ("large_change",)


def test_several_images_are_translated_as_each_alone() -> None:
    scans = [scan(), scan((30, 30), 1), scan((17, 90), 2)]
    model = shifting(-0.1)
    together = list(model.predict_batch(scans, 2))
    for one, each in zip(scans, together, strict=True):
        np.testing.assert_array_equal(model.predict(one).translated, each.translated)


def test_a_result_off_its_grid_is_refused() -> None:
    plane = np.zeros((4, 5), np.float32)
    with pytest.raises(GeometryError, match="must be float32"):
        TranslatedImage("a", "1", "x", Grid((4, 4)), domains=("a", "b"), translated=plane, given=plane)


def test_a_chain_answers_with_the_image_that_was_given() -> None:
    class Sees(FakeSegmenter):
        def _result(self, image: Any) -> Any:
            self.pixels = image.pixels
            return super()._result(image)

    model = Sees()
    given = read_image(scan())
    found = Chain(shifting(0.25), model).predict(given)
    np.testing.assert_array_equal(found.pixels, given.pixels)
    np.testing.assert_array_equal(model.pixels, shifting(0.25).predict(given).translated)
    assert found.translated_by == ("cyclegan-toy 1.0.0",)
    assert found.to_dict()["translated_by"] == ["cyclegan-toy 1.0.0"]
    assert "translated_by" not in FakeSegmenter().predict(given).to_dict()


def test_translators_follow_one_another_and_a_repair_ends_the_chain() -> None:
    chain = Chain(shifting(0.1, "cyclegan-a"), shifting(0.1, "cyclegan-b"), FakeSegmenter(), FakeRepairer())
    one, other = chain.predict_batch([scan(), scan(seed=1)], batch_size=2)
    assert one.checkpoint == "fakedae-phantom"
    assert other.translated_by == ("cyclegan-a 1.0.0", "cyclegan-b 1.0.0")


def test_flags_of_translations_reach_the_segmentation() -> None:
    assert "large_change" in Chain(shifting(0.6), FakeSegmenter()).predict(scan()).flags


def test_flags_of_translations_outlast_a_repair() -> None:
    found = Chain(shifting(0.6), FakeSegmenter(), FakeRepairer()).predict(scan())
    assert found.flags == ("large_change", "turned")


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([shifting()], "in this order"),
        ([FakeSegmenter(), shifting()], "in this order"),
        ([shifting(), FakeSegmenter(), FakeRepairer(), FakeRepairer()], "in this order"),
        ([shifting(), FakeHeart()], "translates 2-D images, and fakeheart-phantom segments volumes"),
        ([shifting(), FakeSegmenter(), FakeRepairer(["liver"])], "draws lung_right"),
    ],
)
def test_steps_that_do_not_go_together_are_refused(steps: list[Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Chain(*steps)


def test_a_translator_of_another_modality_is_refused() -> None:
    """By what the manifest says of both; `unet-lgg` stands for the translator of brains."""
    translator, model = shifting(name="unet-lgg"), FakeSegmenter()
    model.checkpoint_name = "unet-jsrt"
    with pytest.raises(ConfigError, match=r"unet-lgg translates MR of the brain, and unet-jsrt segments"):
        check_translator(translator, model)
    model.checkpoint_name = "unet-lgg"
    check_translator(translator, model)


def test_a_translator_of_another_frame_is_refused() -> None:
    model: Any = UNetModel(organs=list(NODES), frame=FrameSpec(64))
    check_translator(shifting(), model)
    model.frame = FrameSpec([64, 64], "stretch")
    with pytest.raises(ConfigError, match="frame of fit stretch"):
        check_translator(shifting(), model)
