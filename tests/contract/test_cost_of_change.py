"""What a new segmenter and a new objective cost, counted by adding one of each from outside the package.

The toys below go through the real command line. `CONTRIBUTING.md` names the places that such a change needs,
and the places written here are as many, under the same names.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import torch

from anatozoo.cli.main import main
from anatozoo.zoo import registry
from anatozoo.zoo.kinds import LABELS
from anatozoo.zoo.registry import METHODS, MethodEntry
from tests.contract import test_promises as promises
from tests.contract.variants import Variant
from tests.support.chest_data import write_chest_data

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed"),
]
PROJECT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (an? [^|]+?) \| ([^|]+?): (\d+) \|$", re.MULTILINE)

NETWORK = '''
"""Three convolutions."""

from torch import nn


class ToyNet(nn.Sequential):
    def __init__(self, labels: int, width: int) -> None:
        first, second = nn.Conv2d(1, width, 5, padding=2), nn.Conv2d(width, width, 5, padding=2)
        last = nn.Conv2d(width, labels, 1)
        super().__init__(first, nn.ReLU(), second, nn.InstanceNorm2d(width), nn.ReLU(), last)
'''
MODULE = '''
"""A segmenter by masks: what predicts, and what trains it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anatozoo.frames.spec import FrameSpec
from anatozoo.tasks.labels import LabelTask, label_losses
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim
from toyseg.network import ToyNet

ABOUT = {"title": "toy", "paper": "none", "kind": "labels"}


class ToyModel(LabelTask):
    """Gives each pixel a label.

    Args:
        organs: names in the order of their labels.
        frame: the square that the network sees.
        width: channels.
    """

    def __init__(
        self, organs: str | list[str] = "lungs_heart", frame: FrameSpec = FrameSpec(64), width: int = 4
    ) -> None:
        super().__init__(organs, frame)
        self.width = width
        self.network = ToyNet(1 + len(self.organs), width)


class ToyModule(ZooModule, ToyModel):
    """Learns it.

    Args:
        optim: the optimiser.
        **settings: see `ToyModel`.
    """

    def __init__(self, *, optim: Optim = Optim("adam", 0.01), **settings: Any) -> None:
        super().__init__(optim=optim, **settings)

    def losses(self, output: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and Dice."""
        return label_losses(output, batch["labels"], batch["known"] > 0, "organs")
'''
CONFIGURATION = """
method: toy
trainer:
  max_steps: 2
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_last: true, monitor: val/dice, mode: max, filename: best}
model: {organs: lungs_heart, frame: {size: 64}}
data: {root: data, layout: jsrt, batch_size: 2}
"""
REGISTRY = """
[anatozoo.methods]
toy = toyseg.module:ToyModule
[anatozoo.datamodules]
toy = anatozoo.methods.unet.data:UNetDataModule
[anatozoo.about]
toy = toyseg.module:ABOUT
"""
SEGMENTER = {
    "network": ("toyseg/network.py", NETWORK),
    "module": ("toyseg/module.py", MODULE),
    "configuration": ("toy.yaml", CONFIGURATION),
    "entry in the registry": ("toyseg-1.0.dist-info/entry_points.txt", REGISTRY),
}
"""The places of a segmenter that are files here; its last one are the contract variants."""
VARIANTS = {"narrow": Variant({"frame": {"size": 64}, "width": 3})}

OBJECTIVE_TEST = """
import torch
from types import SimpleNamespace
from toyobjective import Confidence

p = torch.tensor([[0.9, 0.5], [0.1, 0.5]])[None, :, None]  # two pixels of two labels
step = SimpleNamespace(maps=SimpleNamespace(probability=p))
assert torch.allclose(Confidence(0.5).terms(step)["confidence"], torch.tensor([0.5 * 0.7]))
"""
OBJECTIVE_BLOCK = """
objectives:
  - class_path: toyobjective.Confidence
    init_args: {weight: 0.3}
"""


def costs() -> dict[str, list[str]]:
    """The places of each change, as `CONTRIBUTING.md` has them."""
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {what: (places.split(", "), int(number)) for what, places, number in ROW.findall(text)}
    for what, (places, number) in found.items():
        assert len(places) == number, what
    return {what: places for what, (places, _) in found.items()}


def shown_objective() -> str:
    """The objective of one's own on the page about objectives: one file."""
    text = (PROJECT / "docs" / "objectives.md").read_text(encoding="utf-8")
    [block] = [
        b for b in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "Confidence" in b
    ]
    return str(block)


def forget_toys() -> None:
    registry._third_party.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("toyseg", "toyobjective")]:
        del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the toys are installed."""
    folder = tmp_path / "site"
    for path, text in SEGMENTER.values():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "toyobjective.py").write_text(shown_objective())
    monkeypatch.syspath_prepend(str(folder))
    forget_toys()
    yield folder
    forget_toys()


def fit(config: Path, out: Path, data: Path) -> tuple[int, Path]:
    options = ["--config", str(config), f"--data.root={data}", f"--trainer.default_root_dir={out}"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=CSVLogger"]
    code = main(["fit", *options, *quiet, f"--trainer.logger.save_dir={out}", "--data.augment=null"])
    return code, next(out.rglob("last.ckpt"), out)


def test_the_places_of_a_segmenter_and_of_an_objective_are_those_that_are_promised() -> None:
    told = costs()
    assert told["a segmenter (contours or labels)"] == [*SEGMENTER, "contract variants"]
    assert told["an objective"] == ["file", "test", "YAML block"]
    code = [line for line in MODULE.splitlines() if line.strip()]
    assert len(code) <= 60


def test_a_segmenter_from_outside_trains_and_predicts(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_chest_data(tmp_path / "chest", {"train": 4, "val": 2}, side=64)
    code, last = fit(site / "toy.yaml", tmp_path / "run", data)
    assert code == 0
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert main(["predict", str(last), str(data / "images"), "--out", str(tmp_path / "out")]) == 0
    mask = np.asarray(PIL.Image.open(tmp_path / "out" / "JPCLN001_mask.png"))
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    # Without its entry nobody finds it.
    (site / SEGMENTER["entry in the registry"][0]).unlink()
    forget_toys()
    capsys.readouterr()
    assert fit(site / "toy.yaml", tmp_path / "none", data)[0] == 1
    assert "no method is called 'toy'" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(VARIANTS))
def test_its_variants_are_tried_as_those_of_the_package(
    name: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / SEGMENTER["entry in the registry"][0]).unlink()
    entry = MethodEntry("toy", "toyseg.module:ToyModule", None, LABELS, "toy", "none")
    monkeypatch.setitem(METHODS, "toy", entry)
    variant = VARIANTS[name]
    promises.test_answers_have_their_shape("toy", variant)
    promises.test_every_trainable_parameter_gets_a_gradient("toy", variant)
    promises.test_a_validation_batch_becomes_values_and_cases("toy", variant)
    promises.test_a_batch_gives_what_single_cases_give("toy", variant)
    promises.test_a_checkpoint_folder_gives_the_module_back("toy", variant, tmp_path / "toy")
    promises.test_training_in_half_precision_has_finite_gradients("toy", variant)


def test_an_objective_from_outside_is_a_file_a_test_and_a_block(site: Path, tmp_path: Path) -> None:
    exec(OBJECTIVE_TEST, ModuleType("toytest").__dict__)
    data = write_chest_data(tmp_path / "chest", {"train": 4, "val": 2}, side=64)
    config = tmp_path / "with.yaml"
    config.write_text(CONFIGURATION + OBJECTIVE_BLOCK)
    code, last = fit(config, tmp_path / "run", data)
    assert code == 0
    assert torch.load(last, weights_only=True)["anatozoo_objectives"][0][0] == "Confidence"
    [log] = (tmp_path / "run").rglob("metrics.csv")
    assert "train/confidence" in log.read_text().splitlines()[0]
