from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.aenet import AeNetModule
from anatozoo.methods.unet import UNetModule
from anatozoo.nn.labels import one_hot
from anatozoo.objectives.shape_prior import PriorSlot, ShapePrior, fit_to, load_shape_model, merging
from anatozoo.zoo.checkpoint import write_checkpoint_folder


def volume_model(**settings: Any) -> AcnnPriorModule:
    torch.manual_seed(0)
    small: dict[str, Any] = {"labels": ["a", "b"], "image_size": [8, 32, 32], "widths": [4, 8], "code": 6}
    return AcnnPriorModule(**small | settings)


def plane_model(**settings: Any) -> AeNetModule:
    torch.manual_seed(0)
    return AeNetModule(**{"labels": ["lungs", "heart"], "image_size": 32} | settings)


def maps(classes: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Logits that need a gradient, and a truth."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, classes, *shape, generator=draw).requires_grad_()
    return logits, one_hot(torch.randint(0, classes, (2, *shape), generator=draw), classes)


def test_it_is_the_weighted_squared_distance_of_codes() -> None:
    model = volume_model()
    prior = ShapePrior(model, 0.5)
    logits, truth = maps(3, 8, 32, 32)
    with torch.no_grad():
        codes = model.eval().encode(logits.softmax(1)) - model.encode(truth)
    expected = 0.5 * codes.square().sum(1).mean()
    torch.testing.assert_close(prior(logits.softmax(1), truth), expected)
    assert float(prior(truth, truth)) == 0


@pytest.mark.parametrize("model", [volume_model, plane_model])
def test_the_gradient_reaches_the_prediction_and_no_weight(model: Any) -> None:
    encoder = model()
    prior = ShapePrior(encoder, 1.0)
    logits, truth = maps(3, *encoder.shape)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    prior.train()  # a trainer says so to everything it finds
    prior(logits.softmax(1), truth).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0
    assert all(p.grad is None and not p.requires_grad for p in prior.parameters())
    assert not any(part.training for part in prior.modules())
    # Batch normalisation has not learnt from predictions either.
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_one_step_along_the_gradient_makes_shapes_more_alike() -> None:
    prior = ShapePrior(volume_model(), 1.0)
    logits, truth = maps(3, 8, 32, 32)
    first = prior(logits.softmax(1), truth)
    [gradient] = torch.autograd.grad(first, logits)
    step = 0.1 * float(first.detach()) / float(gradient.square().sum())
    moved = (logits - step * gradient).detach()
    assert float(prior(moved.softmax(1), truth)) < float(first.detach())


def test_a_module_that_holds_it_has_no_more_parameters_and_no_larger_checkpoint() -> None:
    class Holder(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.prior = PriorSlot()

    holder = Holder()
    before = set(holder.state_dict())
    holder.prior.put(ShapePrior(volume_model(), 1.0))
    assert set(holder.state_dict()) == before
    assert len(list(holder.parameters())) == 2
    holder.train()
    assert not holder.prior.prior.training


def test_a_2d_u_net_of_more_pixels_and_organs_by_side_can_take_it() -> None:
    torch.manual_seed(0)
    unet = UNetModule(organs=["lung_right", "lung_left", "heart"], image_size=64).train()
    prior = ShapePrior(plane_model(), 1.0, labels=unet.organs, shape=(64, 64))
    image, labels = torch.rand(2, 1, 64, 64), torch.randint(0, 4, (2, 64, 64))
    prior(unet(image).softmax(1), one_hot(labels, 4)).backward()
    assert all(p.grad is not None for p in unet.network.blocks.parameters())
    # Both sides under one label give the code that the autoencoder itself gives of lungs.
    together = torch.where(labels == 3, 2, labels.clamp(max=1))
    expected = prior.model.encode(fit_to(one_hot(together, 3), (32, 32)))
    torch.testing.assert_close(prior.code(one_hot(labels, 4)), expected)


def test_items_without_a_truth_for_every_class_do_not_count() -> None:
    prior = ShapePrior(volume_model(), 1.0)
    logits, truth = maps(3, 8, 32, 32)
    probability = logits.softmax(1)
    first = prior(probability, truth, torch.tensor([True, False]))
    torch.testing.assert_close(first, prior(probability[:1], truth[:1]))
    none = prior(probability, truth, torch.tensor([False, False]))
    assert float(none.detach()) == 0
    none.backward()


def test_codes_are_computed_in_full_precision() -> None:
    prior = ShapePrior(volume_model(), 1.0)
    logits, truth = maps(3, 8, 32, 32)
    expected = prior(logits.softmax(1), truth)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prior(logits.softmax(1), truth), expected)


@pytest.mark.parametrize("model", [volume_model, plane_model])
def test_it_is_loaded_from_a_folder(model: Any, tmp_path: Path) -> None:
    stored = model()
    name = "acnnprior" if isinstance(stored, AcnnPriorModule) else "aenet"
    write_checkpoint_folder(stored, tmp_path, name=f"{name}-test", version="1.0.0", half=False)
    slot = PriorSlot()
    assert not slot.filled
    slot.fill(str(tmp_path), 0.3, labels=stored.labels, shape=stored.shape)
    assert slot.filled
    logits, truth = maps(3, *stored.shape)
    expected = ShapePrior(stored, 0.3)(logits.softmax(1), truth)
    torch.testing.assert_close(slot(logits.softmax(1), truth), expected)


def test_without_a_weight_nothing_is_read() -> None:
    slot = PriorSlot()
    slot.fill("absent-checkpoint", 0.0, labels=["a"], shape=(8, 8))
    assert not slot.filled
    with pytest.raises(ConfigError, match="needs shape_prior"):
        slot.fill(None, 0.1, labels=["a"], shape=(8, 8))
    with pytest.raises(ConfigError, match="no shape prior"):
        slot(torch.zeros(1), torch.zeros(1))


def test_other_models_are_refused(tmp_path: Path) -> None:
    write_checkpoint_folder(UNetModule(image_size=64), tmp_path, name="unet-test", version="1.0.0")
    with pytest.raises(ConfigError, match="gives no codes of label maps"):
        load_shape_model(str(tmp_path))
    with pytest.raises(ConfigError, match="there is no such file"):
        load_shape_model(str(tmp_path / "none.ckpt"))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"labels": ["a", "c"]}, "same organs"),
        ({"labels": ["a", "b", "c"]}, "same organs"),
        ({"shape": (8, 32, 40)}, "proportions"),
        ({"shape": (32, 32)}, "number of dimensions"),
    ],
)
def test_other_organs_and_frames_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        ShapePrior(volume_model(), 1.0, **settings)
    with pytest.raises(ConfigError, match="negative"):
        ShapePrior(volume_model(), -1.0)


def test_sides_are_merged_only_where_both_are_there() -> None:
    table = merging(["lung_left", "heart", "lung_right"], ["lungs", "heart"])
    assert table.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    with pytest.raises(ConfigError, match="same organs"):
        merging(["lung_left", "heart"], ["lungs", "heart"])


def test_maps_are_averaged_down_and_interpolated_up() -> None:
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(fit_to(fine, (2, 2)), torch.nn.functional.avg_pool2d(fine, 2))
    # At a factor of 2 linear interpolation gives the same; at 4 it would miss most of what it stands for.
    dots = torch.zeros(1, 1, 8, 8)
    dots[..., ::4, ::4] = 1
    torch.testing.assert_close(fit_to(dots, (2, 2)), torch.full((1, 1, 2, 2), 1 / 16))
    assert fit_to(fine, (8, 8)).shape == (1, 1, 8, 8)
    assert fit_to(fine, (4, 4)) is fine


def test_slices_may_be_finer_where_there_are_as_many() -> None:
    prior = ShapePrior(volume_model(), 1.0, shape=(8, 64, 64), frame={"fit": "slices", "long_side": 416})
    logits, truth = maps(3, 8, 64, 64)
    prior(logits.softmax(1), truth).backward()
    assert logits.grad is not None
    coarse = fit_to(truth, (8, 32, 32))
    torch.testing.assert_close(prior.code(truth), prior.model.encode(coarse))
    with pytest.raises(ConfigError, match="whole image"):  # padding would show another part
        ShapePrior(volume_model(), 1.0, shape=(8, 64, 64), frame={"fit": "pad"})


def test_other_fields_of_view_are_refused() -> None:
    volume, plane = volume_model(), plane_model()
    ShapePrior(volume, 1.0, frame={"fit": "slices", "long_side": 208})
    ShapePrior(plane, 1.0, shape=(64, 64), frame={"fit": "pad"})
    for model, frame, error in (
        (volume, {"fit": "slices", "long_side": 64}, "15.4 % .*, the network 8 slices, 50 %"),
        (volume, {"fit": "pad"}, r"whole image \(1 : 4 : 4\)"),
        (plane, {"fit": "spacing", "spacing_mm": [2.0, 1.0]}, "64 x 32 mm"),
    ):
        with pytest.raises(ConfigError, match=error):
            ShapePrior(model, 1.0, frame=frame)  # type: ignore[arg-type]  # a module is one
