"""Gradient surgery: its rules against written-out ones, and its fits, by one process and by two."""

import json
import os
import socket
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anatozoo.data.base import derived_seed
from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.unet.data import UNetDataModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn.surgery import agreed_or_random, agreed_sum, agreeing, projected
from anatozoo.objectives.agreement import Agreement
from anatozoo.training.objective import Objective
from anatozoo.training.optim import Optim
from tests.support.chest_data import moved_chest
from tests.support.objectives import Remembered
from tests.support.ranks import in_two_processes
from tests.support.trainers import QUIET

pytestmark = [
    pytest.mark.usefixtures("own_seed"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]


# --- the rules ---------------------------------------------------------------------------------------------


def given(domains: int, count: int = 400) -> Tensor:
    draw = np.random.default_rng(domains)
    found = draw.normal(size=(domains, count)) + draw.normal(size=count)
    found[0, ::7] = 0  # zero agrees with nothing
    found[:, ::35] = 0
    return torch.from_numpy(found)


@pytest.mark.parametrize("domains", [2, 4])
def test_agreed_sum_and_noise_are_those_of_the_paper(domains: int) -> None:
    g = given(domains)
    expected, kept = np.zeros(g.shape[1]), np.zeros(g.shape[1], bool)
    for place in range(g.shape[1]):
        signs = {int(np.sign(value)) for value in g[:, place].numpy()}
        if signs in ({1}, {-1}):
            expected[place], kept[place] = sum(g[:, place].numpy()) / domains, True
    assert 0.1 < kept.mean() < 0.8
    agree = agreeing(g)
    np.testing.assert_array_equal(agree.numpy(), kept)
    np.testing.assert_allclose(agreed_sum(g, agree).numpy(), expected, rtol=1e-12)
    found = agreed_or_random(g, agree, torch.Generator().manual_seed(3))
    noise = torch.randn(g.shape[1], generator=torch.Generator().manual_seed(3), dtype=g.dtype).numpy()
    scale = np.mean(np.abs(expected[kept]))
    np.testing.assert_allclose(found.numpy(), np.where(kept, expected, noise * scale), rtol=1e-12)


def test_where_nothing_agrees_there_is_no_noise_and_what_is_no_number_stays() -> None:
    opposed = torch.tensor([[1.0, -2.0], [-1.0, 2.0]])
    none = agreeing(opposed)
    assert not none.any()
    assert agreed_or_random(opposed, none, torch.Generator()).tolist() == [0, 0]
    broken = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    for found in (
        agreed_sum(broken, agreeing(broken)),
        agreed_or_random(broken, agreeing(broken), torch.Generator()),
        projected(broken, [0, 1]),
    ):
        assert found[1].isnan()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_projection_is_that_of_the_paper(order: list[int]) -> None:
    g = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 6)))
    total = np.zeros(6)
    for i in order:
        mine = g[i].numpy().copy()
        for j in order:
            other = g[j].numpy()
            if i != j and mine @ other < 0:
                mine -= (mine @ other) / (other @ other) * other
        total += mine
    found = projected(g, order).numpy()
    np.testing.assert_allclose(found, total / 4, rtol=1e-10)
    assert not np.allclose(found, g.numpy().mean(0))
    assert projected(torch.zeros(2, 3), [0, 1]).tolist() == [0, 0, 0]


# --- fits --------------------------------------------------------------------------------------------------


def write_sites(root: Path, count: int = 9, names: tuple[str, ...] = ("north", "south")) -> Path:
    """Sites of chests, of which the second are darker; the last of each is for validation."""
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for where, name in enumerate(names):
        for number in range(count):
            phantom = moved_chest(64, 100 * where + number)
            mask = np.zeros((64, 64), np.uint8)
            cv2.fillPoly(mask, [np.rint(phantom.landmarks["heart"]).astype(np.int32)], 255)
            for folder, pixels in (("images", phantom.image // (1 + where)), ("masks/heart", mask)):
                (root / name / folder).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / name / folder / f"p{number}.png"), pixels)
            splits["val" if number == count - 1 else "train"].append(f"{name}/p{number}")
    (root / "splits.json").write_text(json.dumps(splits))
    return root


class Gradients(L.Callback):
    """Keeps what the optimiser is given, and whether the signs of the domains agreed."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert all(p.grad is not None for p in pl_module.parameters())
        self.steps.append(torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]))


def fit(root: Path, *objectives: Objective, steps: int = 1, **changed: Any) -> tuple[list[Tensor], L.Trainer]:
    """Gradients of a U-Net that does not move, as it was drawn."""
    data: dict[str, Any] = {"balance": "each", "batch_size": 8, "augment": None}
    data |= {name: changed.pop(name) for name in (*data, "unlabelled", "repeat") if name in changed}
    L.seed_everything(1, verbose=False)
    frame, widths = FrameSpec(64), [2, 2, 4, 4, 8]
    module = UNetModule(organs=["heart"], frame=frame, decoder_widths=widths, optim=Optim(lr=0))
    seen = Gradients()
    settings: dict[str, Any] = QUIET | {"limit_val_batches": 0, "max_epochs": -1} | changed
    trainer = L.Trainer(max_steps=steps, **settings, callbacks=[seen, *objectives])
    trainer.fit(module, UNetDataModule(str(root), layout="folder", organs=["heart"], frame=frame, **data))
    return seen.steps, trainer


def test_without_a_rule_a_fit_is_the_plain_one(tmp_path: Path) -> None:
    root = write_sites(tmp_path)
    others = partial(Remembered, cases=16, weight=10.0)
    for precision, near in (("32-true", 1e-6), ("bf16-mixed", 3e-3)):
        (plain,), whole = fit(root, others(), precision=precision)
        (found,), divided = fit(root, others(), Agreement("sum"), precision=precision)
        assert float(plain.abs().max()) > 0.03
        torch.testing.assert_close(found, plain, rtol=1e-3, atol=near)
        for name in ("train/loss", "train/remembered", "train/dice"):
            expected = float(whole.callback_metrics[name])
            assert float(divided.callback_metrics[name]) == pytest.approx(expected, rel=3e-3)


def test_gradients_are_combined_after_they_are_accumulated(tmp_path: Path) -> None:
    root = write_sites(tmp_path)
    agreement = Agreement()
    (whole,), trainer = fit(root, agreement)
    (found,), _ = fit(root, Agreement(), batch_size=4, accumulate_grad_batches=2)
    assert 0.1 < float((whole == 0).float().mean()) < 0.9
    assert agreement.share is not None
    assert float(agreement.share) == pytest.approx(float((whole != 0).float().mean()), abs=1e-3)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-5)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items() if "agreement" in name}
    assert logged["train/agreement"] == float(agreement.share)
    layers = [name for name in logged if name.startswith("train/agreement/network.")]
    assert len(layers) == len(logged) - 1 > 5
    assert all(0 <= value <= 1 for value in logged.values())
    assert len({logged[name] for name in layers}) > 3


@pytest.mark.parametrize("how", ["agr_rand", "pcgrad"])
def test_what_is_drawn_follows_from_seed_and_step(how: Any, tmp_path: Path) -> None:
    root = write_sites(tmp_path)
    (first, second), _ = fit(root, Agreement(how), steps=2)
    torch.rand(5)
    again, _ = fit(root, Agreement(how), steps=2)
    assert torch.equal(torch.stack(again), torch.stack([first, second]))
    if how == "agr_rand":
        (kept,), _ = fit(root, Agreement("agr_sum"))
        random = torch.Generator().manual_seed(derived_seed(1, 0))
        noise = torch.randn(len(kept), generator=random) * kept[kept != 0].abs().mean()
        torch.testing.assert_close(first, kept.where(kept != 0, noise))


def as_one_of_two(root: Path, port: int, rank: int) -> Tensor:
    """Gradients of a fit of this process and another, which Lightning finds started."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both: dict[str, Any] = {"devices": 2, "strategy": "ddp", "batch_size": 4, "steps": 2}
    return torch.stack(fit(root, Agreement("agr_rand"), **both)[0])


def test_two_processes_combine_what_one_would(tmp_path: Path) -> None:
    root = write_sites(tmp_path / "sites")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one, two = in_two_processes(partial(as_one_of_two, root, port), tmp_path)
    assert torch.equal(one, two)
    expected = torch.stack(fit(root, Agreement("agr_rand"), steps=2)[0])
    assert expected.shape == one.shape
    # Where a gradient is nearly zero, its sign depends on the order of a sum: there is noise then, or none.
    near = torch.isclose(one, expected, rtol=1e-3, atol=1e-6)
    assert float(near.float().mean()) > 0.995


# --- a module of another package ---------------------------------------------------------------------------


class Mine(L.LightningModule):
    """Tells domains' points from one another by a line; a part of it never learns."""

    def __init__(self, agreement: Agreement) -> None:
        super().__init__()
        self.agreement, self.line, self.unused = agreement, nn.Linear(3, 1), nn.Linear(2, 2)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        parts = self.agreement.parts(batch)
        self.losses = [(self.line(p["x"])[:, 0] - p["y"]).square().mean() for p in parts]
        return torch.stack(self.losses).mean()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.agreement.learn(self.losses, self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, weight_decay=0.5)


def items(domains: list[int]) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [
        {"x": torch.randn(3, generator=draw), "y": torch.randn((), generator=draw), "domain": torch.tensor(d)}
        for d in domains
    ]


def fit_mine(module: Mine, domains: list[int], **settings: Any) -> L.Trainer:
    trainer = L.Trainer(**QUIET | {"max_epochs": 1} | settings, callbacks=[module.agreement])
    trainer.fit(module, DataLoader(items(domains), batch_size=4))  # type: ignore[arg-type]
    return trainer


def test_a_module_of_another_package_learns_what_its_domains_agree_on() -> None:
    torch.manual_seed(0)
    module = Mine(Agreement())
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    trainer = fit_mine(module, [0, 2, 2, 0])
    data, expected = items([0, 2, 2, 0]), []
    for domain in (0, 2):
        x = torch.stack([each["x"] for each in data if each["domain"] == domain])
        y = torch.stack([each["y"] for each in data if each["domain"] == domain])
        off = x @ before["line.weight"][0] + before["line.bias"] - y
        expected.append(torch.cat([(2 * off[:, None] * x).mean(0), (2 * off).mean()[None]]).detach())
    signs = [set(np.sign(each).tolist()) for each in torch.stack(expected).T.numpy()]
    step = torch.stack([sum(e) / 2 if len(s) == 1 else e[0] * 0 for s, e in zip(signs, zip(*expected))])  # type: ignore[arg-type]  # noqa: B905
    moved = torch.cat([module.line.weight[0], module.line.bias]).detach()
    start = torch.cat([before["line.weight"][0], before["line.bias"]])
    torch.testing.assert_close(moved, start - 0.1 * (step + 0.5 * start))
    assert 0 < sum(len(s) == 1 for s in signs) < 4
    assert float(trainer.callback_metrics["train/agreement"]) == sum(len(s) == 1 for s in signs) / 4
    # What no loss reaches has no gradient, so that weight decay leaves it alone.
    assert torch.equal(module.unused.weight, before["unused.weight"])
    assert "train/agreement/unused" not in trainer.callback_metrics


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ([3, 3, 3, 3], "the first batch has domain 3 alone"),
        (
            [0, 1, 0, 1, 0, 0, 0, 0],
            r"first had domains 0, 1, this one has domain 0\. .* data\.balance to each",
        ),
    ],
)
def test_domains_that_cannot_be_compared_are_refused(domains: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_mine(Mine(Agreement()), domains)


def test_float16_is_refused() -> None:
    trainer: Any = SimpleNamespace(precision="16-mixed")  # which Lightning replaces on a processor
    with pytest.raises(ConfigError, match=r"instead of --trainer.precision 16-mixed, choose bf16-mixed"):
        Agreement().setup(trainer, Mine(Agreement()), "fit")


def test_batches_without_domains_and_other_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose agr_sum, agr_rand, pcgrad, sum"):
        Agreement("vote")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs batches of tensors with `domain`"):
        Agreement().parts({"x": torch.ones(2)})
    with pytest.raises(ConfigError, match="there is one loss"):
        Agreement().learn([torch.ones(())], Mine(Agreement()))


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("north",), {}, "all training cases are of one, north; give a folder for each site"),
        (("north", "south"), {"balance": "domain"}, "set data.balance to each, and .* a multiple of 2"),
        (("north", "south"), {"unlabelled": 1}, "leave out data.unlabelled"),
    ],
)
def test_data_without_all_domains_in_each_batch_is_refused_before_the_fit(
    names: tuple[str, ...], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    root = write_sites(tmp_path, 3, names)
    if "unlabelled" in settings:
        (root / "north" / "masks" / "heart" / "p0.png").unlink()
    with pytest.raises(ConfigError, match=message):
        fit(root, Agreement(), **settings)


def test_one_objective_alone_divides_batches(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one objective may divide batches, not Agreement and Agreement"):
        fit(write_sites(tmp_path, 3), Agreement(), Agreement("pcgrad"), repeat=4)
