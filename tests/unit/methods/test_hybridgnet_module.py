import json
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, ImageError
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.nn import graphs
from anatozoo.nn.hybridgnet import HybridGNetOutput
from anatozoo.nn.raster import polygon_inside
from anatozoo.organs import LUNGS_HEART
from anatozoo.training.optim import Optim
from tests.support.phantoms import make_chest_phantom

SMALL: dict[str, Any] = {"organs": "lungs_heart", "frame": {"size": 64}}


def module(**settings: Any) -> HybridGNetModule:
    torch.manual_seed(0)
    return HybridGNetModule(**SMALL | settings).eval()


def labelled(batch: int, nodes: int = 120) -> dict[str, Tensor]:
    """Landmarks around circles, all of them known."""
    torch.manual_seed(3)
    parts = graphs.organ_slices(LUNGS_HEART)
    points = torch.zeros(batch, nodes, 2)
    for i, part in enumerate(parts.values()):
        angle = torch.linspace(0, 6.2, part.stop - part.start)
        circle = torch.stack([angle.cos(), angle.sin()], 1) * 0.1
        points[:, part] = circle + torch.tensor([0.25 + 0.25 * i, 0.5])
    return {"landmarks": points, "landmark_weight": torch.ones(batch, nodes)}


def output(truth: Tensor, error: float = 0.0) -> HybridGNetOutput:
    down = graphs.downsampling(LUNGS_HEART)
    zeros = torch.zeros(len(truth), 64)
    positions = (down @ truth + 2 * error, truth + 3 * error)
    return HybridGNetOutput(truth + error, positions, zeros + 1, zeros, None)


def test_hyper_parameters_are_json() -> None:
    model = module(organs={"heart": 26}, skips=[4, 3], refine=[0.05])
    assert json.loads(json.dumps(dict(model.hparams))) == dict(model.hparams)
    again = HybridGNetModule(**model.hparams)
    again.load_state_dict(model.state_dict())
    assert again.organs == {"heart": 26}


def test_a_hyper_parameter_that_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="JSON values"):
        HybridGNetModule(**SMALL | {"kl_weight": torch.tensor(1.0)}).setup("fit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"organs": "liver"}, "lungs, lungs_heart, lungs_heart_clavicles"),
        ({"dense_organs": ["heart"]}, "lacks lung_left, lung_right"),
        ({"kl_epochs": -1}, "kl_epochs=-1 must be a number of at least 0"),
        ({"kl_weight": -0.5}, "kl_weight=-0.5 must be"),
        ({"kl_start": -1e-5, "kl_epochs": 3}, "kl_start=-1e-05 must be"),
        ({"uncrossing_weight": float("nan")}, "uncrossing_weight=nan must be"),
        ({"huber_delta": 0.0}, "huber_delta=0.0 must be a number above 0"),
        ({"huber_delta": float("nan")}, "huber_delta=nan must be a number above 0"),
        ({"kl_start": 0.1, "kl_weight": 0.5}, "kl_start=0.1 changes nothing without kl_epochs"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**settings)


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.1), (1, 0.3), (2, 0.5), (7, 0.5)])
def test_the_weight_of_the_divergence_rises_over_epochs(
    monkeypatch: pytest.MonkeyPatch, epoch: int, weight: float
) -> None:
    model, batch = module(kl_start=0.1, kl_weight=0.5, kl_epochs=2), labelled(2)
    monkeypatch.setattr(HybridGNetModule, "current_epoch", epoch)
    assert float(model.losses(output(batch["landmarks"]), batch)["kl"]) == pytest.approx(weight / 2)


def test_the_papers_loss_by_hand() -> None:
    model, batch = module(kl_weight=0.5), labelled(2)
    terms = {k: float(v) for k, v in model.losses(output(batch["landmarks"], 0.1), batch).items()}
    # Mean squares of 0.1, of 0.2 at the coarse nodes and of 0.3; KL of mu = 1 is 1/2 per latent.
    assert terms == pytest.approx(
        {"landmarks": 0.01, "kl": 0.25, "position1": 0.04, "position2": 0.09, "region": 0.0}, rel=1e-4
    )


def test_landmarks_without_truth_do_not_count() -> None:
    model, batch = module(), labelled(2)
    prediction = output(batch["landmarks"])
    heart = model.parts["heart"]
    prediction.landmarks[:, heart] += 0.5
    batch["landmark_weight"][:, heart] = 0
    terms = model.losses(prediction, batch)
    assert float(terms["landmarks"]) == 0.0
    assert float(terms["position1"]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", ["paper", "contour"])
def test_nothing_labelled_gives_no_nan(loss: str) -> None:
    model = module(loss=loss, refine=[0.05]).train()
    batch = {k: torch.zeros_like(v) for k, v in labelled(2).items()}
    batch |= {"masks": torch.zeros(2, 3, 16, 16), "known": torch.zeros(2, 3, dtype=torch.bool)}
    terms = model.losses(model(torch.rand(2, 1, 64, 64)), batch)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert float(total.detach()) == pytest.approx(float(terms["kl"].detach()))
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_the_terms_are_the_same_with_and_without_masks() -> None:
    """Processes of a fit exchange a mean for each term: a batch without masks must not have one less."""
    model, batch = module(region_weight=0.1), labelled(2)
    masks = {"masks": torch.ones(2, 3, 16, 16), "known": torch.ones(2, 3, dtype=torch.bool)}
    without, given = (model.losses(output(batch["landmarks"]), batch | more) for more in ({}, masks))
    assert list(without) == list(given)
    assert float(without["region"]) == 0
    assert float(given["region"]) > 0


def test_masks_pull_polygons_where_landmarks_are_missing() -> None:
    model, batch = module(region_weight=1.0), labelled(1)
    truth, parts = batch["landmarks"], model.parts.values()
    masks = torch.cat([polygon_inside(truth[:, part], 16, 16) for part in parts])[None].float()
    batch |= {
        "landmark_weight": torch.zeros(1, 120),
        "masks": masks,
        "known": torch.ones(1, 3, dtype=torch.bool),
    }
    right = model.losses(output(truth), batch)["region"]
    moved = (truth - 0.05).requires_grad_()
    wrong = model.losses(output(truth)._replace(landmarks=moved), batch)["region"]
    assert float(right) < float(wrong.detach())
    wrong.backward()
    assert moved.grad is not None
    assert bool((moved.grad.sum((0, 1)) < 0).all())  # descending moves the contours right and down, back


def test_frozen_layers_take_no_gradient_and_no_optimiser() -> None:
    model = module(encoder="tf_efficientnet_lite0", frozen_layers=["body.conv_stem", "body.blocks.0"])
    frozen = {n for n, p in model.network.encoder.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith(("body.conv_stem", "body.blocks.0")) for name in frozen)
    [optimiser], _ = model.configure_optimizers()
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_optimisers_and_rates_are_the_ones_asked_for() -> None:
    optim = Optim("adam", 1e-3, 1e-5, encoder_lr_scale=0.1, schedule="step", lr_step=2, lr_gamma=0.5)
    [adam], [steps] = module(optim=optim).configure_optimizers()
    assert type(adam) is torch.optim.Adam
    assert [group["lr"] for group in adam.param_groups] == pytest.approx([1e-3, 1e-4])
    for _ in range(2):
        adam.step()
        steps.step()
    assert [group["lr"] for group in adam.param_groups] == pytest.approx([5e-4, 5e-5])


def test_cosine_warms_up_and_ends_low(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module(optim=Optim("adamw", 1e-2, 1e-5, schedule="cosine", warmup_steps=5))
    monkeypatch.setattr(HybridGNetModule, "trainer", type("T", (), {"estimated_stepping_batches": 40}))
    with warnings.catch_warnings():
        # torch's own chain of schedulers passes an argument that its schedulers no longer want.
        warnings.simplefilter("ignore", UserWarning)
        [adamw], [schedule] = model.configure_optimizers()
        rates = []
        for _ in range(40):
            rates.append(adamw.param_groups[0]["lr"])
            adamw.step()
            schedule["scheduler"].step()
    assert type(adamw) is torch.optim.AdamW
    assert schedule["interval"] == "step"
    assert rates[0] == pytest.approx(5e-4)
    assert max(rates) == pytest.approx(1e-2)
    assert int(np.argmax(rates)) == 5
    assert rates[-1] < 2.5e-4


def test_predictions_lie_on_the_source_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = make_chest_phantom(150, 90)
    model = module()
    square = torch.full((1, 120, 2), 0.5)
    square[:, :60] = 31.5 / 64  # the middle of the frame, where pixel centres are whole numbers
    monkeypatch.setattr(model, "forward_landmarks", lambda x: square.expand(len(x), -1, -1))
    result = model.predict(phantom.image, spacing_mm=0.5)
    assert result.size == (150, 90)
    assert result.spacing_mm == (0.5, 0.5)
    assert result.checkpoint == "untrained"
    assert {organ: points.shape for organ, points in result.landmarks.items()} == {
        "lung_right": (44, 2), "lung_left": (50, 2), "heart": (26, 2),
    }  # fmt: skip
    np.testing.assert_allclose(result.landmarks["lung_right"], np.tile([74.5, 44.5], (44, 1)), atol=1e-4)
    assert "very_small_anatomy" in result.flags
    assert result.mask.shape == (90, 150)


@pytest.mark.parametrize("size", [(64, 64), (97, 61), (33, 200), (501, 499)])
def test_a_batch_of_odd_sizes_gives_what_single_images_give(size: tuple[int, int]) -> None:
    model = module()
    images = [make_chest_phantom(*size).image, make_chest_phantom(80, 70, seed=1).image, np.eye(50) * 200]
    together = list(model.predict_batch(iter(images), batch_size=2))
    assert len(together) == 3
    for image, result in zip(images, together, strict=True):
        alone = model.predict(image)
        assert result.size == alone.size == image.shape[::-1]
        for organ, points in alone.landmarks.items():
            np.testing.assert_allclose(result.landmarks[organ], points, atol=1e-3)


def test_predicting_is_deterministic_and_leaves_training_mode_alone() -> None:
    model = module().train()
    image = make_chest_phantom(70, 70).image
    first, second = model.predict(image), model.predict(image)
    np.testing.assert_array_equal(first.landmarks["heart"], second.landmarks["heart"])
    assert model.training
    assert model.network.training


def test_a_bad_image_comes_after_the_good_ones() -> None:
    good = make_chest_phantom(70, 70).image
    results = module().predict_batch([good, good, np.zeros((5, 5))], batch_size=8)
    assert next(results).size == next(results).size == (70, 70)
    with pytest.raises(ImageError):
        next(results)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        next(module().predict_batch([], batch_size=0))


def evaluate(model: HybridGNetModule, batch: dict[str, Tensor], prediction: Tensor) -> dict[str, float]:
    """The validation's columns where the network gives `prediction`."""
    out = HybridGNetOutput(prediction, (), prediction, prediction, None)
    model.network.forward = lambda image: out  # type: ignore[method-assign]
    model.validation_step(batch | {"image": prediction, "index": torch.arange(len(prediction))}, 0)
    return dict(zip(model.columns(), model.val_metrics.compute().tolist(), strict=True))


def test_validation_counts_pixels_of_a_frame_of_1024() -> None:
    batch = labelled(3)
    columns = evaluate(module(), batch, batch["landmarks"] + torch.tensor([3 / 1024, 4 / 1024]))
    assert columns["mse_px2"] == pytest.approx(12.5, rel=1e-3)
    assert all(0.9 < columns[f"dice/{organ}"] < 1 for organ in LUNGS_HEART)


def test_validation_leaves_out_what_has_no_truth() -> None:
    batch = labelled(2)
    heart = graphs.organ_slices(LUNGS_HEART)["heart"]
    prediction = batch["landmarks"].clone()
    prediction[0, heart] += 0.4
    batch["landmark_weight"][0, heart] = 0
    columns = evaluate(module(), batch, prediction)
    assert columns["mse_px2"] == 0
    assert columns["dice/heart"] == 1


def test_validation_takes_masks_where_landmarks_are_missing() -> None:
    batch = labelled(2)
    parts = graphs.organ_slices(LUNGS_HEART)
    masks = torch.zeros(2, 3, 256, 256)
    masks[1, 0] = polygon_inside(batch["landmarks"][1:, parts["lung_right"]], 256, 256)[0]
    batch["landmark_weight"][1] = 0
    weight = torch.zeros(2, 3)
    weight[1, 0] = 1
    shifted = batch["landmarks"].clone()
    shifted[1] += 1.0  # the second image's polygons lie nowhere near
    columns = evaluate(module(), batch | {"masks": masks, "known": weight > 0}, shifted)
    assert columns["dice/lung_right"] == pytest.approx(0.5)
    assert columns["dice/lung_left"] == 1
    assert columns["mse_px2"] == 0


def test_a_training_checkpoint_loads_without_pickle(tmp_path: Path) -> None:
    model = module()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["organs"] == LUNGS_HEART
    again = HybridGNetModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(again.network.fc_mu.weight, model.network.fc_mu.weight)
