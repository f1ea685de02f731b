import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.aenet.module import AeNetModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.methods.unet.network import UNet
from anatozoo.metrics.cases import case_row
from anatozoo.nn.blocks import ResidualBlock
from anatozoo.nn.graphs import organ_names
from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.tasks.labels import admissible, label_losses, organ_losses, painted, uncovered
from anatozoo.training.step import Step
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.phantoms import make_chest_phantom

SMALL: dict[str, Any] = {"organs": ["lungs", "heart"], "frame": {"size": 64}}


def module(**settings: Any) -> UNetModule:
    torch.manual_seed(0)
    return UNetModule(**SMALL | settings).eval()


def batch(known: list[list[float]] | None = None) -> dict[str, Tensor]:
    """Two label maps: a lung from column 16 on, a heart on its lower half."""
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, :, 16:48] = 1
    labels[:, 32:, 24:40] = 2
    return {"labels": labels, "known": torch.tensor(known or [[1.0, 1.0], [1.0, 1.0]])}


def sure(labels: Tensor, value: float = 20.0) -> Tensor:
    return value * F.one_hot(labels, 3).movedim(-1, 1).float()


def test_the_papers_network_has_its_blocks_and_size() -> None:
    network = UNet(3)
    widths = {
        level: (block.conv1.in_channels, block.conv2.out_channels)
        for level, block in network.blocks.items()
        if isinstance(block, ResidualBlock)
    }
    assert widths == {"5": (256, 128), "4": (192, 64), "3": (96, 32), "2": (48, 16), "1": (24, 8)}
    assert sum(p.numel() for p in network.parameters()) == 1_292_749


@pytest.mark.parametrize("encoder", ["residual", "tf_efficientnet_lite0", "convnext_atto"])
def test_logits_have_the_size_of_the_image_whatever_the_encoder(encoder: str) -> None:
    network = UNet(4, encoder=encoder).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, 96, 64)).shape == (2, 4, 96, 64)


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "residual"])
def test_what_the_network_sees_moves_with_the_image(encoder: str) -> None:
    torch.manual_seed(0)
    network = UNet(2, encoder=encoder).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        flipped = network(image.flip(-1)).flip(-1)
        moved = network(image.roll(32, -1)).roll(-32, -1)
        found = network(image)
    # Untrained weights are not symmetric, but the answer to a mirrored image is no mirror image by chance.
    assert not torch.allclose(flipped, found)
    inside = (..., slice(20, 28), slice(8, 12))
    assert float((moved[inside] - found[inside]).abs().mean()) < float(found.std())


def test_hyper_parameters_are_json_and_build_the_same_network() -> None:
    model = module(decoder_widths=[4, 4, 8, 8, 8])
    assert json.loads(json.dumps(dict(model.hparams))) == dict(model.hparams)
    UNetModule(**model.hparams).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": {"size": 100}}, "multiple of 32"),
        ({"frame": {"size": 32}}, "at least 64"),
        ({"organs": "liver"}, "choose one of lungs, lungs_heart"),
        ({"organs": []}, "1 to 254 different"),
        ({"organs": ["heart", "heart"]}, "different names"),
        ({"decoder_widths": [8, 8]}, "must give 5 positive widths"),
        ({"decoder_widths": [8, 8, 0, 8, 8]}, "positive"),
        ({"encoder": "no_such_model"}, "neither 'residual'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**settings)


def test_organ_sets_keep_the_sides_apart() -> None:
    assert organ_names("lungs_heart") == ["lung_right", "lung_left", "heart"]
    assert organ_names(["lungs", "heart"]) == ["lungs", "heart"]


@pytest.mark.parametrize("loss", ["paper", "organs"])
def test_a_right_answer_costs_nothing_and_a_wrong_one_does(loss: str) -> None:
    model, truth = module(loss=loss), batch()
    right = model.losses(sure(truth["labels"]), truth)
    assert set(right) == {"cross_entropy", "dice"}
    assert all(float(term) == pytest.approx(0, abs=1e-4) for term in right.values())
    wrong = model.losses(sure(truth["labels"].roll(16, -1)), truth)
    assert all(float(term) > 0.1 for term in wrong.values())


def test_with_all_organs_annotated_it_is_the_plain_loss() -> None:
    torch.manual_seed(1)
    model, truth = module(dice_weight=0.5), batch()
    logits = torch.randn(2, 3, 64, 64)
    terms = model.losses(logits, truth)
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits, truth["labels"]))
    p, t = logits.softmax(1), F.one_hot(truth["labels"], 3).movedim(-1, 1).float()
    joint = 2 * (p * t).sum((1, 2, 3)) / (p + t).sum((1, 2, 3))  # over all labels and pixels of an image
    torch.testing.assert_close(terms["dice"], 0.5 * (1 - joint.mean()))
    each = (2 * (p * t).sum((2, 3)) + 1) / ((p + t).sum((2, 3)) + 1)
    organs = module(loss="organs").losses(logits, truth)["dice"]
    torch.testing.assert_close(organs, 1 - each[:, 1:].mean())


@pytest.mark.parametrize("loss", ["paper", "organs"])
def test_an_organ_without_annotation_may_be_anywhere_it_would_cover(loss: str) -> None:
    model = module(loss=loss)
    truth = batch([[1.0, 0.0], [1.0, 0.0]])
    seen, truth["labels"] = truth["labels"], truth["labels"].clone()
    truth["labels"][truth["labels"] == 2] = 1  # its pixels carry the label of what it covers
    for answer in (seen, truth["labels"]):
        terms = model.losses(sure(answer), truth)
        assert all(float(term) == pytest.approx(0, abs=1e-4) for term in terms.values())
    # Background is no organ that may lie anywhere: the lung is annotated.
    outside = torch.where(truth["labels"] == 1, 0, truth["labels"])
    assert all(float(term) > 0.1 for term in model.losses(sure(outside), truth).values())


def test_an_organ_below_one_that_is_annotated_must_give_way() -> None:
    model = module()
    truth = batch([[0.0, 1.0], [0.0, 1.0]])
    truth["labels"] = torch.where(truth["labels"] == 1, 0, truth["labels"])
    assert float(model.losses(sure(batch()["labels"]), truth)["cross_entropy"]) == pytest.approx(0, abs=1e-4)
    lungs_over_heart = torch.where(batch()["labels"] > 0, 1, 0)
    assert float(model.losses(sure(lungs_over_heart), truth)["cross_entropy"]) > 1


def test_admissible_labels_by_hand() -> None:
    labels = torch.tensor([[[0, 1, 2]]])
    found = admissible(labels, torch.tensor([[True, False]]))[0, :, 0]
    assert found.T.tolist() == [[True, False, True], [False, True, True], [False, False, True]]


def test_nothing_annotated_gives_no_nan_and_a_gradient_of_zero() -> None:
    model = module(loss="organs").train()
    truth = batch([[0.0, 0.0], [0.0, 0.0]])
    truth["labels"] = torch.zeros_like(truth["labels"])
    total = torch.stack(list(model.losses(model(torch.rand(2, 1, 64, 64)), truth).values())).sum()
    total.backward()
    assert float(total.detach()) == pytest.approx(0, abs=1e-6)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_dice_of_each_image_by_hand() -> None:
    model = module(organs=["lungs", "heart"])
    truth = torch.tensor([[[1, 1, 0, 2]], [[1, 1, 0, 0]]])
    guess = torch.tensor([[[1, 0, 1, 2]], [[1, 2, 2, 0]]])

    def dice(known: list[list[bool]]) -> list[list[float]]:
        given = {"image": torch.zeros(2, 1, 1, 4), "labels": truth, "known": torch.tensor(known)}
        rows = [case_row(case) for case in model.cases(F.one_hot(guess, 3).movedim(-1, 1), given)]
        return [[row.get(name, np.nan) for name in model.columns()] for row in rows]

    every = dice([[True, True], [True, True]])
    assert every[0] == [0.75, 0.5, 1.0]
    assert every[1] == pytest.approx([1 / 3, 2 / 3, 0])  # the heart was invented
    part = dice([[True, True], [True, False]])
    # The heart may lie on the lung.
    assert part[1] == pytest.approx([1, 1, np.nan], nan_ok=True)


def test_starting_weights_go_on_for_the_organs_in_common() -> None:
    source = module(organs=["lungs", "heart", "aorta"])
    target = module(organs=["aorta", "liver"])
    fresh = target.network.head.weight[2].detach().clone()
    target.load_state_dict(target.adapted(source.state_dict(), source.settings()))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        old, new = source(image), target(image)
    torch.testing.assert_close(new[:, :2], old[:, [0, 3]])
    assert torch.equal(target.network.head.weight[2].detach(), fresh)


def test_starting_weights_of_another_architecture_are_refused() -> None:
    source, target = module(decoder_widths=[8, 16, 16, 16, 16]), module()
    with pytest.raises(WeightsError, match=r"network\.blocks\.5.*here.*needed"):
        target.adapted(source.state_dict(), source.settings())
    with pytest.raises(WeightsError, match="another architecture"):
        target.adapted({}, source.settings())


def test_frozen_layers_take_no_gradient() -> None:
    model = module(encoder="tf_efficientnet_lite0", frozen_layers=["body.conv_stem"])
    frozen = {n for n, p in model.network.encoder.named_parameters() if not p.requires_grad}
    assert frozen == {"body.conv_stem.weight"}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose network answers with the given label map."""

    def build(labels: np.ndarray) -> UNetModule:
        model = module(organs=["lung_right", "heart"])
        logits = sure(torch.from_numpy(labels)[None].long())
        monkeypatch.setattr(model, "forward", lambda image: logits.expand(len(image), -1, -1, -1))
        return model

    return build


def test_results_are_flagged_where_shapes_are_not_plausible(answering: Any) -> None:
    image = make_chest_phantom(64, 64).image
    labels = np.zeros((64, 64), np.int64)
    labels[10:50, 10:30], labels[20:50, 32:50] = 1, 2
    assert answering(labels).predict(image).flags == ()
    labels[55:60, 40:60] = 1
    assert answering(labels).predict(image).flags == ("fragmented_lung_right",)
    labels[labels == 2] = 0
    assert answering(labels).predict(image).flags == ("fragmented_lung_right", "missing_heart")
    labels[:] = 0
    flags = answering(labels).predict(image).flags
    assert flags == ("very_small_anatomy", "missing_lung_right", "missing_heart")


def test_edges_lie_where_the_network_puts_them_at_any_size(answering: Any) -> None:
    labels = np.zeros((64, 64), np.int64)
    labels[16:48, 16:48] = 1
    for width, height in ((640, 320), (97, 64), (31, 40)):
        mask = answering(labels).predict(make_chest_phantom(width, height).image).mask
        rows, columns = np.nonzero(mask)
        scale = max(width, height) / 64
        for values, middle in ((columns, (width - 1) / 2), (rows, (height - 1) / 2)):
            reach = min(32 * scale, 2 * middle + 1)  # half of the frame, or all of the shorter side
            assert (values.min() + values.max()) / 2 == pytest.approx(middle, abs=0.51)
            assert values.max() - values.min() + 1 == pytest.approx(reach, abs=1.01 * max(scale / 2, 1))


def test_training_mode_survives_a_prediction() -> None:
    model = module().train()
    model.predict(make_chest_phantom(64, 64).image)
    assert model.training


@pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers", "ignore:.*isinstance.treespec, LeafSpec."
)
def test_a_shape_prior_adds_a_term_of_the_images_that_are_fully_annotated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes = AeNetModule(organs=["lungs", "heart"], frame=FrameSpec(32))
    write_checkpoint_folder(shapes, tmp_path, name="aenet-toy", version="1.0.0", half=False)
    source = str(tmp_path)
    model, prior = module(), ShapePrior(source, weight=0.1)
    given = batch([[1.0, 1.0], [1.0, 0.0]])
    logits = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with pytest.raises(ConfigError, match="needs a source"):
        begin(ShapePrior(weight=0.1), model, tmp_path)
    before = set(model.state_dict())
    begin(prior, model, tmp_path)
    assert set(model.state_dict()) == before
    terms = prior.terms(Step(model, given, logits))
    assert set(terms) == {"shape"}
    terms["shape"].mean().backward()
    assert logits.grad is not None
    assert bool(logits.grad[0].any())
    assert not logits.grad[1].any()
    same = prior.terms(Step(model, batch(), sure(given["labels"], 100.0)))
    assert float(same["shape"].mean()) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match="same organs"):
        begin(ShapePrior(source), module(organs=["heart"]), tmp_path)
    with pytest.raises(ConfigError, match="finite and not negative"):
        ShapePrior(source, weight=-1.0)
    trainer = quiet(tmp_path, prior, max_steps=1, limit_val_batches=0, log_every_n_steps=1)
    data = {"image": torch.rand(2, 1, 64, 64), **given}
    with torch.no_grad():
        logits = model.train()(data["image"])
    expected = model.losses(logits, given) | prior.terms(Step(model, given, logits))
    loader = torch.utils.data.DataLoader([data], batch_size=None)
    trainer.fit(model, loader, loader)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(logged) == {"train/loss", "train/cross_entropy", "train/dice", "train/shape"}
    for name, value in expected.items():
        assert logged[f"train/{name}"] == pytest.approx(float(value.mean()), rel=1e-4)
    assert logged["train/loss"] == pytest.approx(sum(float(v.mean()) for v in expected.values()), rel=1e-4)


def begin(prior: ShapePrior, model: UNetModule, folder: Path) -> None:
    """What a trainer does with an objective before the first step."""
    trainer = quiet(folder)
    prior.setup(trainer, model, "fit")
    prior.on_fit_start(trainer, model)


def quiet(folder: Path, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=list(callbacks), **settings,
    )  # fmt: skip


# --- labels of several sources ---


def test_background_and_ignore_are_what_they_say_by_hand() -> None:
    torch.manual_seed(1)
    truth = batch()["labels"][:, ::8, ::8]
    logits = torch.randn(2, 3, *truth.shape[1:])
    known = torch.tensor([[True, True], [True, False]])
    # As without annotation of the heart: its pixels are lung there.
    truth[1][truth[1] == 2] = 1
    pixels = -logits.log_softmax(1).gather(1, truth[:, None])[:, 0]
    probability, is_organ = logits.softmax(1), torch.stack([truth == 1, truth == 2], 1)

    def dice(image: int, organ: int, where: Tensor) -> float:
        p, t = probability[image, 1 + organ][where], is_organ[image, organ][where].float()
        return float((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))

    everywhere, drawn = torch.ones_like(truth[0], dtype=torch.bool), truth[1] > 0
    naive = label_losses(logits, truth, known, "organs", "background")
    assert float(naive["cross_entropy"]) == pytest.approx(float(pixels.mean()), rel=1e-5)
    expected = np.mean([1 - dice(i, o, everywhere) for i in (0, 1) for o in (0, 1)])
    assert float(naive["dice"]) == pytest.approx(expected, rel=1e-5)
    left_out = label_losses(logits, truth, known, "organs", "ignore")
    counted = torch.cat([pixels[0].flatten(), pixels[1][drawn]])
    assert float(left_out["cross_entropy"]) == pytest.approx(float(counted.mean()), rel=1e-5)
    expected = np.mean([1 - dice(0, 0, everywhere), 1 - dice(0, 1, everywhere), 1 - dice(1, 0, drawn)])
    assert float(left_out["dice"]) == pytest.approx(expected, rel=1e-5)
    paper = label_losses(logits, truth, known, "paper", "ignore")
    assert float(paper["dice"]) == pytest.approx(1 - float((-counted).exp().mean()), rel=1e-5)


@pytest.mark.parametrize(("missing", "pulled"), [("either", False), ("background", True), ("ignore", False)])
def test_only_the_naive_loss_teaches_that_an_organ_is_not_there(missing: Any, pulled: bool) -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.long)
    logits = torch.zeros(1, 3, 8, 8, requires_grad=True)
    terms = label_losses(logits, truth, torch.tensor([[True, False]]), "organs", missing)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert (float(logits.grad[:, 2].sum()) > 0) == pulled


def test_organs_apart_learn_where_they_are_annotated_alone() -> None:
    torch.manual_seed(1)
    given = batch([[1.0, 1.0], [1.0, 0.0]])
    logits = torch.randn(2, 2, 64, 64, requires_grad=True)
    terms = organ_losses(logits, given["labels"], given["known"] > 0)
    p = logits.detach().sigmoid()
    lung, heart = (given["labels"] == 1).float(), (given["labels"] == 2).float()
    free = given["labels"] < 2
    assert not free.all()

    def entropy(q: Tensor, t: Tensor) -> float:
        return float(F.binary_cross_entropy(q, t))

    def dice(q: Tensor, t: Tensor) -> float:
        return float((2 * (q * t).sum() + 1) / (q.sum() + t.sum() + 1))

    expected = (entropy(p[:, 0][free], lung[free]) + entropy(p[0, 1], heart[0])) / 2
    assert terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
    assert terms["dice"].item() == pytest.approx(
        1 - (dice(p[:, 0][free], lung[free]) + dice(p[0, 1], heart[0])) / 2, rel=1e-5
    )
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert not logits.grad[1, 1].any()
    assert logits.grad[0].any()
    nothing = organ_losses(logits, given["labels"], torch.zeros(2, 2, dtype=torch.bool))
    assert [value.item() for value in nothing.values()] == [0, 0]


def test_organs_apart_learn_nothing_of_what_a_later_organ_covers() -> None:
    labels = torch.tensor([[0, 1, 2]])[None].repeat(2, 1, 1)
    labels[1, 0, 2] = 1
    logits = torch.zeros(2, 2, 1, 3, requires_grad=True)
    terms = organ_losses(logits, labels, torch.tensor([[True, True], [True, False]]))
    # Of the lung five pixels count, three of them lung; of the heart three, one of them heart. p is 0.5.
    assert terms["cross_entropy"].item() == pytest.approx(np.log(2))
    lung, heart = (2 * 1.5 + 1) / (2.5 + 3 + 1), (2 * 0.5 + 1) / (1.5 + 1 + 1)
    assert terms["dice"].item() == pytest.approx(1 - (lung + heart) / 2)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    signs = logits.grad.sign()[:, :, 0].tolist()
    assert signs == [[[1, -1, 0], [1, 1, -1]], [[1, -1, -1], [0, 0, 0]]]
    covered = organ_losses(logits, torch.full((2, 1, 3), 2), torch.tensor([[True, True], [True, False]]))
    alone = organ_losses(logits[:1, 1:], torch.ones(1, 1, 3, dtype=torch.long), torch.tensor([[True]]))
    assert {name: value.item() for name, value in covered.items()} == pytest.approx(
        {name: value.item() for name, value in alone.items()}
    )


def test_organs_apart_learn_one_target_of_lung_behind_the_heart() -> None:
    # The same body twice: lung behind an annotated heart, and the same lung where the heart is not annotated.
    lung, heart = torch.zeros(2, 16, 16, dtype=torch.bool)
    lung[4:12, 2:12], heart[6:10, 8:14] = True, True
    labels = torch.stack([painted(torch.stack([lung, heart])[None])[0], lung.long()])
    known = torch.tensor([[True, True], [True, False]])
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.5)
    for _ in range(60):
        optimiser.zero_grad()
        sum(organ_losses(logits.expand(2, -1, -1, -1), labels, known).values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    assert torch.equal(logits[0, 0] > 0, lung)
    assert torch.equal(logits[0, 1] > 0, heart)
    assert logits.detach().abs().min() > 3
    assert torch.equal(painted(logits > 0)[0], labels[0])


def test_organs_apart_are_painted_in_their_order() -> None:
    logits = torch.tensor([[-1.0, 2.0, 2.0, -3.0], [-1.0, -2.0, 1.0, 3.0]])[None, :, None]
    assert painted(logits > 0).tolist() == [[[0, 1, 2, 2]]]
    shares = uncovered(logits.sigmoid())
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 1, 4))
    p, q = (float(x) for x in logits[0, :, 0, 2].sigmoid())
    torch.testing.assert_close(shares[0, :, 0, 2], torch.tensor([(1 - p) * (1 - q), p * (1 - q), q]))


def test_a_prediction_of_organs_apart_holds_what_is_more_probable_than_not() -> None:
    model = module(output="organs")
    assert model.network.head.out_channels == 2
    phantom = make_chest_phantom(96, 80)
    with torch.no_grad():
        for bias, expected in (([-50.0, -50.0], {0}), ([50.0, -50.0], {1}), ([50.0, 50.0], {2})):
            model.network.head.weight.zero_()
            model.network.head.bias.copy_(torch.tensor(bias))
            assert set(np.unique(model.predict(phantom.image).mask).tolist()) == expected
        [answer] = model._answers(torch.zeros(1, 1, 64, 64))
    assert answer.shape == (2, 64, 64)  # and no plane for the background, which would be resampled too
    given = batch() | {"image": torch.zeros(2, 1, 64, 64)}
    given["known"] = given["known"] > 0
    truth = torch.stack([given["labels"] == 1, given["labels"] == 2], 1).float() * 40 - 20
    assert [case.numbers["dice"] for case in model.cases(truth, given)] == [1, 1]
    maps = model.maps(truth, given)
    torch.testing.assert_close(maps.probability, maps.truth, atol=1e-6, rtol=0)


NETWORKS = pytest.mark.parametrize(
    ("settings", "heads"),
    [
        ({"deep_supervision": 1}, ["head", "deep_supervision_heads.0"]),
        (
            {"encoder": "dynunet", "decoder_widths": [4, 8, 8, 8]},
            [
                "network.output_block.conv.conv",
                "network.deep_supervision_heads.0.conv.conv",
                "network.deep_supervision_heads.1.conv.conv",
            ],
        ),
    ],
    ids=["unet", "dynunet"],
)


@NETWORKS
def test_starting_weights_go_from_labels_to_organs_apart(settings: dict[str, Any], heads: list[str]) -> None:
    labels = module(**settings)
    apart = module(output="organs", organs=["heart", "aorta", "lungs"], **settings)
    turned = module(organs=["heart", "lungs"], **settings)
    there, own = labels.state_dict(), apart.state_dict()
    to_apart, to_turned = (other.adapted(there, labels.settings()) for other in (apart, turned))
    back = labels.adapted(own, apart.settings())
    changed = {f"network.{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    for name in changed:
        torch.testing.assert_close(to_apart[name][[0, 2]], there[name][[2, 1]], rtol=0, atol=0)
        torch.testing.assert_close(to_apart[name][1], own[name][1], rtol=0, atol=0)
        torch.testing.assert_close(to_turned[name], there[name][[0, 2, 1]], rtol=0, atol=0)
        torch.testing.assert_close(back[name][1:], own[name][[2, 0]], rtol=0, atol=0)
        torch.testing.assert_close(back[name][0], there[name][0], rtol=0, atol=0)
    for name in set(there) - changed:
        assert torch.equal(to_apart[name], there[name])


@pytest.mark.parametrize(
    "settings", [{"encoder": "dynunet", "decoder_widths": [4, 8, 8, 8]}, {"deep_supervision": 2}]
)
def test_coarser_levels_are_supervised_in_training_alone(settings: dict[str, Any]) -> None:
    model = module(**settings, loss="organs").train()
    given = batch() | {"image": torch.rand(2, 1, 64, 64)}
    outputs = model.answer(given)
    assert [tuple(level.shape) for level in outputs] == [(2, 3, 64, 64)] * 3
    found = model.losses(outputs, given)
    each = [model.losses(level, given) for level in outputs]
    for name, value in found.items():
        expected = sum(w * t[name].item() for w, t in zip((4 / 7, 2 / 7, 1 / 7), each, strict=True))
        assert value.item() == pytest.approx(expected, rel=1e-5)
    assert model.maps(outputs, given).probability.shape == (2, 3, 64, 64)
    assert model.eval().answer(given)[0].shape == (2, 3, 64, 64)
    assert len(model.answer(given)) == 1
    assert len(list(model.encoder_part.parameters())) > 0
    assert all(p.grad is not None for p in _backward(model.train(), given).parameters())


def _backward(model: Any, given: dict[str, Any]) -> Any:
    sum(model.losses(model.answer(given), given).values()).backward()
    return model


def test_frozen_levels_of_dynunet_take_no_gradient() -> None:
    frozen = module(encoder="dynunet", decoder_widths=[4, 8, 8, 8], frozen_layers=["0."])
    assert {name for name, p in frozen.encoder_part.named_parameters() if not p.requires_grad} > {
        "0.conv1.conv.weight"
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing": "unknown"}, "missing='unknown' is unknown"),
        ({"missing": "ignore", "output": "organs"}, "choose either or background"),
        ({"output": "masks"}, "output='masks' is unknown"),
        ({"encoder": "dynunet", "frame": {"size": 96}, "decoder_widths": [4] * 7}, "does not fit DynUNet"),
        ({"encoder": "dynunet", "decoder_widths": []}, "three or more positive widths"),
        ({"encoder": "dynunet", "decoder_widths": [4]}, "three or more positive widths"),
        ({"encoder": "dynunet", "decoder_widths": [4, 8]}, "three or more positive widths"),
        ({"encoder": "dynunet", "decoder_widths": [4, 0, 8]}, "three or more positive widths"),
        ({"encoder": "dynunet", "deep_supervision": 1}, "DynUNet has its own"),
        ({"deep_supervision": 5}, "deep_supervision=5 must be from 0 to 4"),
        ({"deep_supervision": -1}, "deep_supervision=-1 must be from 0 to 4"),
    ],
)
def test_settings_for_missing_labels_that_are_not_possible(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**settings)
