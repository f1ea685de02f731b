"""PCA and FC baselines: components, their errors, losses and samples."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from anatozoo.errors import AnatozooError, ConfigError, DataError
from anatozoo.methods.hybridgnet.data import HybridGNetDataModule
from anatozoo.methods.landmarkvae.module import COPIES, LandmarkVAEModule, copies_of
from anatozoo.methods.landmarkvae.network import LandmarkVAE
from anatozoo.nn.augment import AugmentConfig
from anatozoo.training.optim import Optim
from tests.support.chest_data import write_chest_data

ORGANS = {"heart": 10}
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def shapes_of_rank(rank: int, count: int = 40) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(20, rank, generator=draws))[0].T
    spread = torch.arange(rank, 0, -1).float() * torch.randn(count, rank, generator=draws)
    return (0.5 + 0.01 * spread @ basis).view(count, 10, 2)


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    shapes = shapes_of_rank(5) + 1e-4 * torch.randn(40, 10, 2, generator=torch.Generator().manual_seed(1))
    network = LandmarkVAE(ORGANS, 64, decoder="pca", latents=4)
    network.fit(shapes)
    flat = shapes.flatten(1).double().numpy()
    _, _, expected = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    agreement = np.abs((network.components.double().numpy() * expected[:4]).sum(1))
    assert agreement == pytest.approx(np.ones(4), abs=1e-3)
    assert network.mean.numpy() == pytest.approx(flat.mean(0), abs=1e-6)
    assert bool((network.components.gather(1, network.components.abs().argmax(1, keepdim=True)) > 0).all())


def test_as_many_components_as_shapes_vary_in_reproduce_them() -> None:
    shapes = shapes_of_rank(3)
    network = LandmarkVAE(ORGANS, 64, decoder="pca", latents=3)
    network.fit(shapes)
    assert torch.allclose(network.project(shapes), shapes, atol=1e-5)
    fewer = LandmarkVAE(ORGANS, 64, decoder="pca", latents=2)
    fewer.fit(shapes)
    assert float((fewer.project(shapes) - shapes).abs().max()) > 1e-3


def test_too_few_or_broken_shapes_are_refused() -> None:
    network = LandmarkVAE(ORGANS, 64, decoder="pca", latents=8)
    with pytest.raises(DataError, match="8 principal components"):
        network.fit(shapes_of_rank(3, count=8))
    broken = shapes_of_rank(3)
    broken[0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="all their landmarks"):
        network.fit(broken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder": "ica"}, "choose 'pca' or 'fc'"),
        ({"decoder": "pca", "latents": 21}, "no more components"),
        ({"latents": 0}, "at least 1"),
        ({"widths": [16, 0]}, "positive"),
        ({"frame": {"size": 100}}, "multiple of 32"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LandmarkVAEModule(**{"organs": ORGANS, "frame": {"size": 64}} | settings)


def test_weights_for_another_number_of_landmarks_are_named(tmp_path: Path) -> None:
    given = LandmarkVAEModule(organs={"heart": 12}, decoder="pca", latents=4, frame={"size": 64})
    trainer = L.Trainer(max_steps=1, **QUIET)
    trainer.strategy.connect(given)
    trainer.save_checkpoint(tmp_path / "other.ckpt", weights_only=True)
    module = LandmarkVAEModule(
        organs=ORGANS, decoder="pca", latents=4, frame={"size": 64}, init_weights=str(tmp_path / "other.ckpt")
    )
    with pytest.raises(AnatozooError, match="components"):
        module.start()


def test_augmented_copies_repeat_and_stay_without_augmentation() -> None:
    shapes = shapes_of_rank(3, count=5)
    config = AugmentConfig(scale=0.0, elastic=0.0)
    once, twice = copies_of(shapes, config), copies_of(shapes, config)
    assert once.shape == (5 * COPIES, 10, 2)
    assert torch.equal(once, twice)
    assert copies_of(shapes, None) is shapes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> HybridGNetDataModule:
    root = write_chest_data(tmp_path_factory.mktemp("chest"))
    return HybridGNetDataModule(
        str(root), layout="jsrt", organs="lungs_heart", batch_size=2, frame={"size": 64}
    )


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_pca_finds_its_components_before_the_first_step_and_keeps_them(data: HybridGNetDataModule) -> None:
    module = LandmarkVAEModule(
        organs="lungs_heart", decoder="pca", latents=4, frame={"size": 64}, optim=Optim("adam", 1e-2)
    )
    before = module.network.fc_mu.weight.clone()
    L.Trainer(max_steps=2, limit_val_batches=0, enable_checkpointing=False, **QUIET).fit(module, data)
    components = module.network.components.clone()
    assert torch.allclose(components @ components.T, torch.eye(4), atol=1e-5)
    assert not torch.equal(before, module.network.fc_mu.weight)
    L.Trainer(max_steps=1, limit_val_batches=0, enable_checkpointing=False, **QUIET).fit(module, data)
    assert torch.equal(components, module.network.components)


def test_terms_of_the_loss() -> None:
    batch = {
        "image": torch.rand(2, 1, 64, 64),
        "landmarks": torch.rand(2, 10, 2),
        "landmark_weight": torch.ones(2, 10),
    }
    fc = LandmarkVAEModule(organs=ORGANS, frame={"size": 64}, kl_weight=0.5)
    terms = fc.losses(fc.answer(batch), batch)
    assert set(terms) == {"landmarks", "kl"}
    pca = LandmarkVAEModule(organs=ORGANS, decoder="pca", latents=4, frame={"size": 64})
    output = pca.answer(batch)
    [error] = pca.losses(output, batch).values()
    expected = (output.landmarks - batch["landmarks"]).square().mean()
    assert error.item() == pytest.approx(expected.item(), rel=1e-5)


def test_codes_are_drawn_by_fc_and_not_by_pca() -> None:
    image, draws = torch.rand(1, 1, 64, 64), torch.Generator().manual_seed(0)
    fc = LandmarkVAEModule(organs=ORGANS, frame={"size": 64}).eval()
    found = fc.forward_samples(image, 3, draws)
    assert found.shape == (1, 3, 10, 2)
    assert float(found.detach().std(1).max()) > 0
    assert fc.has_latent
    pca = LandmarkVAEModule(organs=ORGANS, decoder="pca", latents=4, frame={"size": 64}).eval()
    assert not pca.has_latent
    with pytest.raises(ConfigError, match="no variance"):
        pca.forward_samples(image, 3, draws)


def test_the_form_of_2021_gives_nothing_below_0() -> None:
    module = LandmarkVAEModule(organs=ORGANS, widths=[8, 8], last_relu=True, frame={"size": 64}).eval()
    assert module.forward_landmarks(torch.rand(2, 1, 64, 64)).min().item() >= 0
