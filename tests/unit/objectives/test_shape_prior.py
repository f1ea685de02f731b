"""The shape prior as an objective: what it measures, what it refuses, and in fits of ours and of others."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.acnnprior.module import AcnnPriorModule
from anatozoo.methods.acnnsr.module import AcnnSRModule
from anatozoo.methods.acnntl.module import AcnnTLModule
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn import graphs
from anatozoo.nn.labels import one_hot
from anatozoo.objectives.shape_code import ShapeCode, fit_to, merging
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.step import Step
from anatozoo.training.weights import frozen
from anatozoo.zoo.checkpoint import method_of, write_checkpoint_folder
from tests.support import trainers
from tests.support.shape_priors import prior_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]

QUIET = trainers.QUIET | {"limit_val_batches": 0}
VOLUME, MILLIMETRES = [8, 32, 32], [1.0, 1.0, 1.0]


def volume_model(**settings: Any) -> AcnnPriorModule:
    torch.manual_seed(0)
    small: dict[str, Any] = {"organs": ["a", "b"], "widths": [4, 8], "code": 6}
    frame = {"frame": FrameSpec(VOLUME, "slices", long_side=208)}
    return AcnnPriorModule(**small | frame | settings).eval()


def plane_model(**settings: Any) -> AeNetModule:
    torch.manual_seed(0)
    return AeNetModule(**{"organs": ["lungs", "heart"], "frame": FrameSpec(32)} | settings).eval()


def image_model() -> AcnnTLModule:
    torch.manual_seed(0)
    frame = FrameSpec([16, 16, 16], "spacing", MILLIMETRES)
    return AcnnTLModule(organs=["a", "b"], frame=frame, widths=[4, 8], code=6).eval()


def prior_of(model: Any, weight: float = 1.0) -> ShapePrior:
    """A prior with a model from memory, for `ShapePrior.on`."""
    prior = ShapePrior(weight=weight)
    prior._model = model
    return prior


def stored(model: Any, folder: Path) -> str:
    method = method_of(model)
    name = {"acnnprior": "acnn-prior", "acnntl": "acnn-tl"}.get(method, method)
    return str(write_checkpoint_folder(model, folder, name=f"{name}-test", version="1.0.0", half=False))


def maps(classes: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Logits that need a gradient, and a truth."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, classes, *shape, generator=draw).requires_grad_()
    return logits, one_hot(torch.randint(0, classes, (2, *shape), generator=draw), classes)


# --------------------------------------------------------------------------------------- what it measures


def test_it_is_the_weighted_squared_distance_of_codes() -> None:
    model = volume_model()
    prior = prior_of(model, 0.5)
    logits, truth = maps(3, 8, 32, 32)
    with torch.no_grad():
        codes = model.encode(logits.softmax(1)) - model.encode(truth)
    torch.testing.assert_close(prior.on(logits.softmax(1), truth), 0.5 * codes.square().sum(1))
    assert prior.on(truth, truth).tolist() == [0, 0]


@pytest.mark.parametrize("model", [volume_model, plane_model])
def test_the_gradient_reaches_the_prediction_and_no_weight(model: Any) -> None:
    encoder = model().train()
    code = ShapeCode(encoder)
    logits, truth = maps(3, *encoder.shape)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    code.train()  # a trainer says so to everything it finds
    (code(logits.softmax(1)) - code(truth)).square().sum().backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0
    assert all(p.grad is None and not p.requires_grad for p in code.parameters())
    assert not any(part.training for part in code.modules())
    # Batch normalisation has not learnt from predictions either.
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_one_step_along_the_gradient_makes_shapes_more_alike() -> None:
    prior = prior_of(volume_model())
    logits, truth = maps(3, 8, 32, 32)
    first = prior.on(logits.softmax(1), truth).mean()
    [gradient] = torch.autograd.grad(first, logits)
    step = 0.1 * float(first.detach()) / float(gradient.square().sum())
    moved = (logits - step * gradient).detach()
    assert float(prior.on(moved.softmax(1), truth).mean()) < float(first.detach())


def test_items_without_a_truth_for_every_class_do_not_count() -> None:
    prior = prior_of(volume_model())
    logits, truth = maps(3, 8, 32, 32)
    probability = logits.softmax(1)
    first = prior.on(probability, truth, torch.tensor([True, False]))
    torch.testing.assert_close(first, prior.on(probability[:1], truth[:1]))
    none = prior.on(probability, truth, torch.tensor([False, False])).mean()
    assert float(none.detach()) == 0
    none.backward()


def test_codes_are_computed_in_full_precision() -> None:
    prior = prior_of(volume_model())
    logits, truth = maps(3, 8, 32, 32)
    expected = prior.on(logits.softmax(1), truth)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prior.on(logits.softmax(1), truth), expected)


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
    model = volume_model()
    code = ShapeCode(model, frame=FrameSpec([8, 64, 64], "slices", long_side=416))
    logits, truth = maps(3, 8, 64, 64)
    (code(logits.softmax(1)) - code(truth)).square().sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(code(truth), model.encode(fit_to(truth, (8, 32, 32))))
    with pytest.raises(ConfigError, match="whole image"):  # padding would show another part
        ShapeCode(model, frame=FrameSpec([8, 64, 64]))


# ------------------------------------------------------------------------------------------- where it is from


@pytest.mark.parametrize("model", [volume_model, plane_model])
def test_it_is_loaded_from_a_folder(model: Any, tmp_path: Path) -> None:
    made = model()
    prior = ShapePrior(stored(made, tmp_path), 0.3)
    logits, truth = maps(3, *made.shape)
    found = prior.on(logits.softmax(1), truth)
    torch.testing.assert_close(found, prior_of(made, 0.3).on(logits.softmax(1), truth))
    assert not any(p.requires_grad for p in prior.model.parameters())


def test_without_a_weight_nothing_is_read() -> None:
    module, batch = UNetModule(**sides()), plane_batch(64)
    idle = ShapePrior("absent-checkpoint", 0.0)
    L.Trainer(max_steps=1, callbacks=[idle], **QUIET).fit(module, batches(batch))
    assert idle.state_dict() == {}
    with pytest.raises(ConfigError, match="needs a source"):
        L.Trainer(max_steps=1, callbacks=[ShapePrior(weight=0.1)], **QUIET).fit(module, batches(batch))
    for wrong in ({"weight": -1.0}, {"start": -1}):
        with pytest.raises(ConfigError, match="finite and not negative"):
            ShapePrior("aenet-jsrt", **wrong)  # type: ignore[arg-type]  # one float, one int


def test_other_models_are_refused(tmp_path: Path) -> None:
    unet = stored(UNetModule(frame=FrameSpec(64)), tmp_path)
    with pytest.raises(ConfigError, match="is a UNetModel, which cannot encode"):
        frozen(unet, "encode")
    with pytest.raises(ConfigError, match="cannot encode"):
        L.Trainer(max_steps=1, callbacks=[ShapePrior(unet)], **QUIET).fit(
            UNetModule(frame=FrameSpec(64)), batches(plane_batch(64))
        )
    with pytest.raises(ConfigError, match="there is no such file"):
        frozen(str(tmp_path / "none.ckpt"), "encode")
    with pytest.raises(ConfigError, match="needs a T-L network"):
        ShapeCode(volume_model(), of_images=True)


# -------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": ["a", "c"]}, "same organs"),
        ({"organs": ["a", "b", "c"]}, "same organs"),
        ({"frame": FrameSpec([8, 32, 40], "slices", long_side=208)}, "proportions"),
        ({"frame": FrameSpec(32)}, "number of dimensions"),
    ],
)
def test_other_organs_and_frames_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        ShapeCode(volume_model(), **settings)
    given = {"organs": ["a", "b"], "frame": FrameSpec(VOLUME, "slices", long_side=208)} | settings
    if given["frame"].dims == 3:  # the same where a fit begins
        with pytest.raises(ConfigError, match=error):
            prior_for(AcnnModule(**given, widths=[4, 8]), volume_model())


def test_sides_are_merged_only_where_both_are_there() -> None:
    table = merging(["lung_left", "heart", "lung_right"], ["lungs", "heart"])
    assert table.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    with pytest.raises(ConfigError, match="same organs"):
        merging(["lung_left", "heart"], ["lungs", "heart"])


def test_other_fields_of_view_are_refused() -> None:
    volume, plane = volume_model(), plane_model()
    ShapeCode(volume, frame=FrameSpec(VOLUME, "slices", long_side=208))
    ShapeCode(plane, frame=FrameSpec(64))
    for model, frame, error in (
        (volume, FrameSpec(VOLUME, "slices", long_side=64), "15.4 % .*, the network 8 slices, 50 %"),
        (volume, FrameSpec(VOLUME), r"whole image \(1 : 4 : 4\)"),
        (plane, FrameSpec(32, "spacing", [2.0, 1.0]), "64 x 32 mm"),
    ):
        with pytest.raises(ConfigError, match=error):
            ShapeCode(model, frame=frame)


def test_modules_without_maps_or_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="compares label maps or images; AcnnTLModule gives none"):
        prior_for(image_model(), volume_model())


# ---------------------------------------------------------------------------------------- in fits of modules


def plane_batch(size: int) -> dict[str, Tensor]:
    """Two images of which the second lacks the heart's annotation."""
    draw = torch.Generator().manual_seed(2)
    return {
        "image": torch.rand(2, 1, size, size, generator=draw),
        "labels": torch.randint(0, 4, (2, size, size), generator=draw),
        "known": torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
        "index": torch.arange(2),
    }


def batches(batch: dict[str, Tensor]) -> DataLoader[Any]:
    items = [{key: value[i] for key, value in batch.items()} for i in range(len(batch["index"]))]
    return DataLoader(items, batch_size=len(items))  # type: ignore[arg-type]  # a list is a data set


def sides() -> dict[str, Any]:
    return {"organs": ["lung_right", "lung_left", "heart"], "frame": FrameSpec(64)}


def test_a_2d_u_net_of_more_pixels_and_organs_by_side_can_take_it() -> None:
    torch.manual_seed(0)
    unet, batch = UNetModule(**sides()).train(), plane_batch(64)
    prior = prior_for(unet, plane_model())
    prior.terms(Step(unet, batch, unet.answer(batch)))["shape"].mean().backward()
    assert all(p.grad is not None for p in unet.network.blocks.parameters())
    # Both sides under one label give the code that the autoencoder itself gives of lungs.
    labels, code = batch["labels"], ShapeCode(plane_model(), organs=unet.organs, frame=unet.frame)
    together = torch.where(labels == 3, 2, labels.clamp(max=1))
    expected = plane_model().encode(fit_to(one_hot(together, 3), (32, 32)))
    torch.testing.assert_close(code(one_hot(labels, 4)), expected)


def test_a_module_that_is_trained_with_it_is_no_larger(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNetModule(**sides())
    names, parameters, settings = set(unet.state_dict()), len(list(unet.parameters())), dict(unet.hparams)
    prior = ShapePrior(stored(plane_model(), tmp_path), 0.5)
    fit = L.Trainer(max_steps=1, callbacks=[prior], **QUIET)
    fit.fit(unet, batches(plane_batch(64)))
    assert set(unet.state_dict()) == names
    assert len(list(unet.parameters())) == parameters
    assert dict(unet.hparams) == settings
    assert not any(part.training for part in prior.model.modules())
    found = {name: float(value) for name, value in fit.callback_metrics.items()}
    assert found["train/shape"] > 0
    own = ("train/cross_entropy", "train/dice", "train/shape")
    assert found["train/loss"] == pytest.approx(sum(found[name] for name in own), rel=1e-5)


def test_an_item_without_a_heart_does_not_count_in_a_fit() -> None:
    torch.manual_seed(0)
    unet, batch = UNetModule(**sides()).eval(), plane_batch(64)
    prior, logits = prior_for(unet, plane_model()), unet(batch["image"]).detach()
    found = prior.terms(Step(unet, batch, logits))["shape"]
    assert found.shape == (1,)
    first = {key: value[:1] for key, value in batch.items()}
    torch.testing.assert_close(found, prior.terms(Step(unet, first, logits[:1]))["shape"])


def test_contours_are_drawn_and_compared() -> None:
    torch.manual_seed(0)
    module = HybridGNetModule(organs="lungs_heart", frame=FrameSpec(64)).train()
    parts, batch = graphs.organ_slices(module.organs), plane_batch(64)
    points = torch.zeros(2, 120, 2)
    for i, part in enumerate(parts.values()):
        angle = torch.linspace(0, 6.2, part.stop - part.start)
        points[:, part] = 0.1 * torch.stack([angle.cos(), angle.sin()], 1) + 0.25 * (i + 1)
    weight = torch.ones(2, 120)
    weight[1, parts["heart"]] = 0
    batch |= {"landmarks": points, "landmark_weight": weight}
    prior, output = prior_for(module, plane_model()), module.answer(batch)
    found = prior.terms(Step(module, batch, output))["shape"]
    assert found.shape == (1,)  # the other has no heart
    assert float(found.detach()) > 0
    gradients = torch.autograd.grad(found.mean(), output.landmarks)
    assert bool(gradients[0][0].any())
    assert not gradients[0][1].any()
    right = output._replace(landmarks=points)
    assert float(prior.terms(Step(module, batch, right))["shape"]) < 0.1 * float(found.detach())


def volume_batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (2, 8, 32, 32), generator=draw)
    return {"image": labels[:, None] / 2, "labels": labels, "index": torch.arange(2)}


def volume_module() -> AcnnModule:
    torch.manual_seed(4)
    frame = FrameSpec(VOLUME, "slices", long_side=208)
    return AcnnModule(organs=["a", "b"], frame=frame, widths=[4, 8, 8])


def test_volumes_are_drawn_to_shapes_by_a_fit(tmp_path: Path) -> None:
    prior = ShapePrior(stored(volume_model(), tmp_path), 10.0)
    fit = L.Trainer(max_steps=1, callbacks=[prior], **QUIET)
    fit.fit(volume_module(), batches(volume_batch()))
    alone = L.Trainer(max_steps=1, **QUIET)
    alone.fit(volume_module(), batches(volume_batch()))
    assert float(fit.callback_metrics["train/shape"]) > 0
    assert "train/shape" not in alone.callback_metrics
    weights, others = (dict(each.lightning_module.named_parameters()) for each in (fit, alone))
    assert any(not torch.equal(value, others[name]) for name, value in weights.items())


def test_images_of_fine_slices_are_compared_by_what_is_seen_on_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = AcnnSRModule(frame=FrameSpec([16, 16, 16], "spacing", MILLIMETRES), width=8, depth=1)
    target = torch.rand(2, 1, 16, 16, 16)
    inside = torch.ones(2, 16, 16, 16, dtype=torch.bool)
    batch = {"image": target[:, :, ::4], "target": target, "inside": inside, "index": torch.arange(2)}
    model = image_model()
    prior = ShapePrior(stored(model, tmp_path), 0.5)
    fit = L.Trainer(max_steps=1, callbacks=[prior], **QUIET)
    with torch.no_grad():
        seen = model.encode_image(module(batch["image"]).clamp(0, 1)) - model.encode_image(target)
    fit.fit(module, batches(batch))
    found = float(fit.callback_metrics["train/shape"])
    assert found == pytest.approx(0.5 * float(seen.square().sum(1).mean()), rel=1e-4)
    with pytest.raises(ConfigError, match="needs a T-L network"):
        prior_for(module, volume_model())


def test_a_resumed_fit_needs_no_source(tmp_path: Path) -> None:
    folder = Path(stored(volume_model(), tmp_path / "prior"))
    whole = L.Trainer(max_epochs=3, callbacks=[ShapePrior(str(folder), 0.5)], **QUIET)
    whole.fit(volume_module(), batches(volume_batch()))
    # The schedule depends on the fit's length: it is interrupted, not planned shorter.
    fit = L.Trainer(max_epochs=3, callbacks=[ShapePrior(str(folder), 0.5), _Stop(2)], **QUIET)
    fit.fit(volume_module(), batches(volume_batch()))
    assert fit.global_step == 2
    fit.save_checkpoint(tmp_path / "last.ckpt")
    for file in folder.iterdir():
        file.unlink()
    prior = ShapePrior(str(folder), 0.5)
    again = L.Trainer(max_epochs=3, callbacks=[prior], **QUIET)
    again.fit(volume_module(), batches(volume_batch()), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert again.global_step == whole.global_step == 3
    for name, value in volume_model().state_dict().items():
        assert torch.equal(prior.model.state_dict()[name], value), name
    for name, value in whole.lightning_module.state_dict().items():
        assert torch.equal(again.lightning_module.state_dict()[name], value), name
    without = L.Trainer(max_epochs=3, **QUIET)
    with pytest.raises(ConfigError, match="had the objectives ShapePrior too: give them"):
        without.fit(
            volume_module(), batches(volume_batch()), ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )
    others = L.Trainer(max_epochs=3, callbacks=[ShapePrior(weight=0.25, start=1)], **QUIET)
    with pytest.raises(ConfigError, match=r"with source 1, not 0, weight 0\.5, not 0\.25, start 0, not 1"):
        others.fit(
            volume_module(), batches(volume_batch()), ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )
    with pytest.raises(WeightsError, match="not a checkpoint folder"):  # a fresh fit does
        L.Trainer(max_epochs=1, callbacks=[ShapePrior(str(folder))], **QUIET).fit(
            volume_module(), batches(volume_batch())
        )


class _Stop(L.Callback):
    """Ends a fit after some epochs, as a machine that goes away would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            trainer.should_stop = True


def test_its_state_is_the_model_without_the_source() -> None:
    model = volume_model()
    first, second = prior_of(model, 0.5), ShapePrior("nowhere", 0.5)
    second.load_state_dict(first.state_dict())
    logits, truth = maps(3, 8, 32, 32)
    expected = first.on(logits.softmax(1), truth)
    torch.testing.assert_close(second.on(logits.softmax(1), truth), expected, rtol=0, atol=0)
    assert not any(p.requires_grad for p in second.model.parameters())
    untouched = ShapePrior("nowhere")
    untouched.load_state_dict({})
    assert untouched.state_dict() == {}


# ---------------------------------------------------------------------------------- in somebody else's module


class Theirs(L.LightningModule):
    """A segmenter that knows nothing of this package but the prior's `on`."""

    def __init__(self, prior: ShapePrior) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Conv2d(1, 3, 3, padding=1)
        self.prior = prior

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits, labels = self.layer(batch["image"]), batch["labels"].clamp(max=2)
        shape = self.prior.on(logits.softmax(1), one_hot(labels, 3)).mean()
        self.log("shape", shape)
        return F.cross_entropy(logits, labels) + shape

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def test_a_plain_module_of_somebody_else_takes_it(tmp_path: Path) -> None:
    folder = Path(stored(plane_model(), tmp_path / "prior"))
    prior = ShapePrior(str(folder), 0.1)
    module, loader = Theirs(prior), batches(plane_batch(32))
    fit = L.Trainer(max_epochs=2, callbacks=[prior], **QUIET)
    fit.fit(module, loader)
    assert float(fit.callback_metrics["shape"]) > 0
    assert set(module.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(module.parameters())) == 2
    fit.save_checkpoint(tmp_path / "theirs.ckpt")
    for file in folder.iterdir():
        file.unlink()
    later = ShapePrior(str(folder), 0.1)
    again = L.Trainer(max_epochs=3, callbacks=[later], **QUIET)
    again.fit(Theirs(later), loader, ckpt_path=tmp_path / "theirs.ckpt", weights_only=True)
    assert again.global_step == 3
    assert float(again.callback_metrics["shape"]) > 0
