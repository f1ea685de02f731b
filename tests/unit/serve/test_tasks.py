import json

import pytest

from anatozoo.errors import ConfigError
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.methods.acregnet.module import AcRegNetModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.results.quality import QualityResult
from anatozoo.results.repair import RepairResult
from anatozoo.results.restored import RestoredVolume
from anatozoo.results.segmentation import SegmentationResult
from anatozoo.serve import outputs
from anatozoo.serve.registrations import RegisterPairs
from anatozoo.serve.runner import task_for
from anatozoo.serve.tasks import add_to_json, kind_of, names_of
from anatozoo.zoo.kinds import CONTOURS, FIELD, LABELS, REPAIR, RESTORED
from tests.support.fake_model import FakeSegmenter
from tests.unit.serve.fakes import FakeRegistrar, FakeRepairer


def bare(cls):
    """A module without a network: what it does must not depend on it."""
    return cls.__new__(cls)


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (HybridGNetModule, CONTOURS),
        (UNetModule, LABELS),
        (PostDAEModule, REPAIR),
        (AcRegNetModule, FIELD),
        (AcnnSRModule, RESTORED),
    ],
)
def test_what_a_registered_method_does(cls, kind):
    assert kind_of(bare(cls)) is kind


def test_what_other_models_do():
    assert kind_of(FakeSegmenter()) is LABELS
    assert kind_of(FakeRepairer()) is REPAIR
    assert kind_of(FakeRegistrar()) is FIELD


def test_a_model_that_takes_no_files_is_refused(tmp_path):
    autoencoder = bare(AeNetModule)
    autoencoder.__dict__["checkpoint_name"] = "aenet-toy"
    with pytest.raises(ConfigError, match="no command runs checkpoints that give codes"):
        task_for(autoencoder, [tmp_path], tmp_path / "out")

    class Nothing:
        checkpoint_name = "nothing-here"

    with pytest.raises(ConfigError, match="nothing-here is of a method that does not say"):
        task_for(Nothing(), [tmp_path], tmp_path / "out")


def test_formats_are_those_of_the_results():
    assert outputs.EVERY[0] is SegmentationResult.formats
    assert outputs.QUALITIES.writers is QualityResult.formats.writers
    assert outputs.QUALITIES.check(None) == ("json",)
    assert RegisterPairs.formats.check(["json", "field", "json"]) == ("field", "json")
    assert RepairResult.volume_formats.check(None) == ("nifti", "picture", "json")
    for wrong in (["tiff"], [], "csv"):
        with pytest.raises(ConfigError, match="repaired masks have no format"):
            RepairResult.formats.check(wrong)
    assert RestoredVolume.formats.names("a", ["nifti", "picture", "json"]) == [
        "a_sr.nii.gz",
        "a_sr.png",
        "a.json",
    ]
    assert {"_mask.png", "_landmarks.csv", "_repair.png", "_displacement.mha"} < set(outputs.ENDINGS)
    assert len(set(outputs.ENDINGS)) == len(outputs.ENDINGS)


def test_names_of_models():
    assert names_of([FakeSegmenter(), FakeRepairer()]) == "fake-phantom 1.0.0;fakedae-phantom 2.0.0"


def test_keys_are_added_to_json(tmp_path):
    (tmp_path / "a.json").write_text('{"size": [1, 2], "x": 1}')
    add_to_json(tmp_path / "a.json", {"x": 2, "more": {"é": None}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"size": [1, 2], "x": 2, "more": {"é": None}}
