"""CycleGAN: one optimiser in place of two, pools, critics that stay in training, and data of two domains."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from anatozoo.errors import ConfigError, DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.cyclegan.data import CycleGANDataModule
from anatozoo.methods.cyclegan.module import CycleGANModule, ImagePool
from anatozoo.training.optim import Optim
from anatozoo.zoo.checkpoint import read_tensors, write_checkpoint_folder
from tests.support.domains import module, write_domains
from tests.support.trainers import QUIET

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
]
STEADY = Optim("adam", 1e-2, beta1=0.5)


def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {"image": torch.rand(4, 1, 16, 16, generator=draw), "target": torch.arange(4) % 2 > 0}


def data_of(root: Path, **settings: Any) -> CycleGANDataModule:
    given = {"domains": ["dark", "bright"], "frame": FrameSpec(16), "batch_size": 2, **settings}
    return CycleGANDataModule(str(root), **given)


def fit(root: Path, folder: Path, resume: Path | None = None) -> CycleGANModule:
    """Two epochs of four steps; the folder gets the checkpoint of each."""
    L.seed_everything(1, verbose=False)
    trained = module(optim=STEADY)
    kept = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    quiet = {**QUIET, "enable_checkpointing": True}
    trainer = L.Trainer(max_epochs=2, limit_val_batches=0, callbacks=[kept], **quiet)
    trainer.fit(trained, data_of(root), ckpt_path=resume, weights_only=True)
    return trained


def test_one_step_of_one_optimiser_is_a_step_of_generators_and_one_of_critics() -> None:
    """The published fit, written plainly: generators first, with critics held, then critics."""
    together, apart = module(pool=0), module(pool=0)
    both = STEADY.build(together)
    generators = torch.optim.Adam(apart.network.parameters(), 1e-2, (0.5, 0.999))
    critics = torch.optim.Adam(apart.critics.parameters(), 1e-2, (0.5, 0.999))
    for _ in range(3):
        both.zero_grad()
        sum(together.losses(together.answer(batch()), batch()).values()).backward()  # type: ignore[union-attr]
        both.step()

        image, target = batch()["image"], batch()["target"]
        a, b = image[~target], image[target]
        there, back = apart.network.there, apart.network.back
        fake_b, fake_a = there(a), back(b)
        loss = (apart.critics[0](fake_a)[-1] - 1).square().mean()
        loss = loss + (apart.critics[1](fake_b)[-1] - 1).square().mean()
        loss = loss + 10 * ((back(fake_b) - a).abs().mean() + (there(fake_a) - b).abs().mean())
        loss = loss + 5 * ((back(a) - a).abs().mean() + (there(b) - b).abs().mean())
        generators.zero_grad()
        loss.backward()
        generators.step()
        judged = torch.zeros(())
        for critic, true, fake in zip(apart.critics, (a, b), (fake_a, fake_b), strict=True):
            judged = judged + (critic(true)[-1] - 1).square().mean() / 2
            judged = judged + critic(fake.detach())[-1].square().mean() / 2
        critics.zero_grad()
        judged.backward()
        critics.step()
    for name, weight in together.named_parameters():
        torch.testing.assert_close(weight, dict(apart.named_parameters())[name], rtol=0, atol=1e-4, msg=name)
    assert not torch.equal(together.critics[0][0].conv.weight, module().critics[0][0].conv.weight)


def test_a_pool_shows_new_images_or_earlier_ones() -> None:
    torch.manual_seed(0)
    assert torch.equal(ImagePool(0)(torch.ones(2, 1)), torch.ones(2, 1))
    pool = ImagePool(3)
    shown = [int(pool(torch.full((1, 1), float(i)))[0, 0]) for i in range(60)]
    assert shown[:3] == [0, 1, 2]
    assert len(pool.images) == 3
    later = [i - each for i, each in enumerate(shown)][3:]
    assert min(later) == 0
    assert max(later) > 3
    assert 15 < sum(each == 0 for each in later) < 45


def test_critics_are_no_weights_of_the_model(tmp_path: Path) -> None:
    trained = module()
    write_checkpoint_folder(trained, tmp_path, name="cyclegan-toy", version="1.0.0")
    assert all(name.startswith("network.") for name in read_tensors(tmp_path / "model.safetensors"))
    before = trained.critics[0][0].conv.weight.clone()
    trained.load_state_dict(module(optim=STEADY).state_dict())
    assert torch.equal(trained.critics[0][0].conv.weight, before)


def test_a_fit_goes_on_with_its_critics_and_pools(tmp_path: Path) -> None:
    root, kept = write_domains(tmp_path / "data", {"dark": 3, "bright": 5}), tmp_path / "kept"
    write_domains(root, {"dark": 1, "bright": 1}, split="val")
    whole = fit(root, kept)
    rest = fit(root, kept, kept / "epoch=0.ckpt")
    assert [len(pool.images) for pool in rest._pools] == [2, 2]
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, dict(rest.named_parameters())[name]), name
    assert not torch.equal(whole.network.there.layers[0].weight, module().network.there.layers[0].weight)


def test_batches_hold_as_many_images_of_each_domain(tmp_path: Path) -> None:
    root = write_domains(tmp_path, {"dark": 3, "bright": 7, "other": 4})
    write_domains(root, {"bright": 1}, split="val")
    data = data_of(root, batch_size=4)
    data.setup("fit")
    seen = [data.prepare(each, training=False) for each in data.train_dataloader()]
    assert len(seen) == 2
    for each in seen:
        assert each["target"].sum() == 2
        bright, dark = (each["image"][chosen].shape[0] for chosen in (each["target"], ~each["target"]))
        assert bright == dark == 2
    assert {data.sets["train"].cases[int(i)].domain for each in seen for i in each["index"]} == {
        "dark",
        "bright",
    }


def test_images_are_mirrored_with_their_probability(tmp_path: Path) -> None:
    root = write_domains(tmp_path, {"dark": 2, "bright": 2})
    write_domains(root, {"bright": 1}, split="val")
    data = data_of(root, flip_p=1.0)
    data.setup("fit")
    given = next(iter(data.train_dataloader()))
    assert torch.equal(data.prepare(given, training=True)["image"], given["image"].flip(-1))
    assert torch.equal(data.prepare(given, training=False)["image"], given["image"])


def test_one_domain_only_is_refused_at_the_start(tmp_path: Path) -> None:
    root = write_domains(tmp_path, {"dark": 3, "other": 2})
    write_domains(root, {"dark": 1}, split="val")
    with pytest.raises(DataError, match=r"no training image is of domain bright.*the data have dark, other"):
        data_of(root).setup("fit")


def test_colour_is_refused_at_the_start(tmp_path: Path) -> None:
    root = write_domains(tmp_path, {"dark": 2})
    write_domains(root, {"bright": 2}, shape=(16, 16, 3))
    write_domains(root, {"dark": 1}, split="val")
    with pytest.raises(DataError, match=r"source bright: image .* of domain bright is in colour"):
        data_of(root).setup("fit")


def test_unequal_shapes_are_said_at_the_start(tmp_path: Path) -> None:
    root = write_domains(tmp_path, {"dark": 2}, shape=(16, 32))
    write_domains(root, {"bright": 2})
    write_domains(root, {"dark": 1}, split="val")
    data = data_of(root)
    data.setup("fit")
    [said] = [line for line in data._said if "unequal shape" in line]
    assert "2.00 in dark, 1.00 in bright" in said


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"domains": ["a", "a"]}, "two different names"),
        ({"domains": ["a"]}, "two different names"),
        ({"frame": FrameSpec(18)}, "multiple of 4"),
        ({"width": 0}, "at least 1"),
        ({"critic_layers": 3}, "take fewer"),
        ({"pool": -1}, "not negative"),
    ],
)
def test_impossible_settings_of_the_model_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        module(**settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 3}, "must be even"),
        ({"flip_p": 1.5}, "probability"),
        ({"balance": "domain"}, "equal shares"),
        ({"domains": ["a", "a"]}, "two different names"),
    ],
)
def test_impossible_settings_of_the_data_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        data_of(Path("nowhere"), **settings)


def test_generators_begin_near_the_identity() -> None:
    """A small change of each pixel, so that a fit starts from an image and not from noise."""
    image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    near, far = (module(residual=residual)(image).detach() for residual in (True, False))
    assert float((near - image).abs().mean()) < 0.15 < float((far - image).abs().mean())
    assert np.allclose(float(far.mean()), 0.5, atol=0.1)
