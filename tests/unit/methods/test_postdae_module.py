from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from anatozoo.errors import ConfigError, WeightsError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.postdae.corruptions import KINDS
from anatozoo.methods.postdae.data import EVALUATED, PostDAEDataModule
from anatozoo.methods.postdae.module import PostDAEModule
from anatozoo.methods.postdae.network import PaperDAE
from anatozoo.metrics.cases import case_row
from anatozoo.training.optim import Optim
from tests.support.chest_data import write_chest_data
from tests.support.trainers import QUIET
from tests.support.volume_data import write_volumes

pytestmark = [
    # Lightning's own, about its own code and about loaders that keep all masks in memory.
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec."),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]

SMALL: dict[str, Any] = {"organs": ["lungs", "heart"], "widths": [4, 8, 8], "code": 8, "frame": {"size": 64}}
SMALL |= {"skips": [2, 4, 8]}


def module(**settings: Any) -> PostDAEModule:
    torch.manual_seed(0)
    return PostDAEModule(**SMALL | settings)


def optim(lr: float = 1e-3, warmup_steps: int = 1) -> Optim:
    return Optim("adamw", lr, 1e-4, schedule="cosine", warmup_steps=warmup_steps)


def batch(count: int = 2) -> dict[str, Tensor]:
    """A lung with a heart on its lower half; what the network sees lacks the heart."""
    labels = torch.zeros(count, 64, 64, dtype=torch.long)
    labels[:, :, 16:48] = 1
    noisy = labels.clone()
    labels[:, 32:, 24:40] = 2
    clean, seen = (torch.nn.functional.one_hot(x, 3).movedim(-1, 1).float() for x in (labels, noisy))
    kind = torch.tensor([EVALUATED.index(name) for name in ("missing", "clean")] * count)[:count]
    return {"clean": clean, "noisy": seen, "kind": kind, "index": torch.arange(count)}


def sure(probability: Tensor) -> Tensor:
    return 40.0 * probability


def test_the_right_answer_costs_nothing_and_the_wrong_one_much() -> None:
    model, given = module(), batch()
    right = model.losses(sure(given["clean"]), given)
    assert set(right) == {"dice", "cross_entropy"}
    assert all(float(value) < 1e-3 for value in right.values())
    wrong = model.losses(sure(given["clean"].roll(1, 1)), given)
    assert float(wrong["dice"]) > 0.7
    assert float(wrong["cross_entropy"]) == pytest.approx(40, rel=1e-3)
    assert all(torch.isfinite(value) for value in wrong.values())


def test_the_papers_loss_is_dice_alone() -> None:
    given = batch()
    terms = module(ce_weight=0.0).losses(sure(given["noisy"]), given)
    assert set(terms) == {"dice"}
    heart = given["clean"][0, 2].sum()
    lung = given["clean"][0, 1].sum()
    expected = [1 - (2 * lung + 1) / (2 * lung + heart + 1), 1 - 1 / (heart + 1)]
    torch.testing.assert_close(terms["dice"], torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_organs_may_weigh_differently() -> None:
    given = batch()
    weighted = module(organ_weights=[0.0, 2.0]).losses(sure(given["noisy"]), given)["dice"]
    assert float(weighted) == pytest.approx(1, abs=5e-3)  # the heart, which is missing, alone
    assert float(module(organ_weights=[1.0, 0.0]).losses(sure(given["noisy"]), given)["dice"]) < 0.2


def test_soft_truths_are_met_by_their_own_probabilities() -> None:
    model, given = module(), batch()
    soft = 0.1 + 0.7 * given["clean"]
    exact = model.losses(soft.log(), given | {"clean": soft})["cross_entropy"]
    for other in (soft.roll(1, 1), given["clean"].clamp_min(1e-3), torch.ones_like(soft)):
        assert float(model.losses(other.log(), given | {"clean": soft})["cross_entropy"]) > float(exact)


def test_an_absent_organ_is_to_stay_absent() -> None:
    model, given = module(ce_weight=0.0), batch()
    absent = given | {"clean": given["noisy"]}
    nothing = model.losses(sure(given["noisy"]), absent)["dice"]
    something = model.losses(sure(given["clean"]), absent)["dice"]
    assert float(nothing) < 1e-3
    assert float(something) > 0.4


def test_dice_is_measured_before_and_after_and_by_degradation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = module(), batch(3)
    kinds = [f"dice_after/{kind}" for kind in KINDS]
    assert model.columns() == ["dice", "dice/lungs", "dice/heart", "dice_before", "dice_clean", *kinds]
    rows = [case_row(case) for case in model.cases(sure(given["clean"]), given)]
    lung = float(given["clean"][0, 1].sum())
    lost = float(given["clean"][0, 2].sum())
    for row in rows:
        assert (row["dice"], row["dice/lungs"], row["dice/heart"]) == (1, 1, 1)
        assert row["dice_before"] == pytest.approx(0.5 * 2 * lung / (2 * lung + lost))
    assert "dice_clean" not in rows[0]
    assert rows[0]["dice_after/missing"] == 1
    assert rows[1]["dice_clean"] == 1
    assert not set(kinds) & set(rows[1])
    assert case_row(model.cases(sure(given["noisy"]), given)[0])["dice/heart"] == 0


def test_cases_are_label_maps_of_the_organs() -> None:
    given = batch() | {"spacing_mm": torch.full((2, 2), 0.7)}
    one, _ = module().cases(sure(given["noisy"]), given)
    assert one.prediction.organs == ["lungs", "heart"]
    assert not one.prediction.masks["heart"].any()
    assert one.reference.masks["heart"].sum() == given["clean"][0, 2].sum()
    assert one.reference.spacing_mm == (0.7, 0.7)
    assert one.image is None


def chest(root: Path, **settings: Any) -> PostDAEDataModule:
    keys = {"organs": SMALL["organs"], "batch_size": 4, "frame": {"size": 64}}
    return PostDAEDataModule(str(root), **keys | settings)


def test_training_on_masks_alone_learns_to_repair(tmp_path: Path) -> None:
    write_chest_data(tmp_path, {"train": 8, "val": 3}, side=64)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    L.seed_everything(0, verbose=False)
    model = module(widths=[8, 16, 16, 32], code=16, skips=[2, 4, 8, 16], optim=optim(1e-2, 5))
    off = {f"{kind}_p": 0.0 for kind in KINDS} | {"soften_p": 0.0}
    data = chest(tmp_path, repeat=50, batch_size=8, degrade=off | {"missing_p": 1.0})
    trainer = L.Trainer(max_epochs=3, check_val_every_n_epoch=3, **QUIET)
    trainer.fit(model, data)
    found = {key: float(value) for key, value in trainer.callback_metrics.items()}
    assert found["val/dice_clean"] > 0.9
    # Half of what is to be found is missing.
    assert found["val/dice_after/missing"] > 0.85
    assert found["train/loss"] == pytest.approx(found["train/dice"] + found["train/cross_entropy"], rel=1e-4)


def test_volumes_are_trained_too(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(4)]
    write_volumes(tmp_path, names, splits={"train": names[:2], "val": names[2:3], "test": names[3:]})
    seen = FrameSpec([16, 16, 16], "spacing", [1.0, 1.0, 1.0])
    frame: dict[str, Any] = {"organs": ["a", "b"], "frame": seen}
    model = PostDAEModule(**frame, widths=[4, 8], code=4, skips=[2], optim=optim())
    data = PostDAEDataModule(str(tmp_path), layout="folder", batch_size=2, eval_copies=3, **frame)
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(model, data)
    assert 0 <= float(trainer.callback_metrics["val/dice"]) <= 1
    [found] = trainer.test(model, data, verbose=False)
    assert "test/dice/a" in found


def test_a_fit_may_start_from_another_ones_weights(tmp_path: Path) -> None:
    write_chest_data(tmp_path / "data", {"train": 4, "val": 2}, side=64)
    first = module(optim=optim())
    trainer = L.Trainer(max_epochs=1, **QUIET)
    trainer.fit(first, chest(tmp_path / "data", eval_copies=1))
    file = str(tmp_path / "first.ckpt")
    trainer.save_checkpoint(file)
    second = module(init_weights=file, optim=optim())
    with pytest.raises(ConfigError, match="nothing was trained"):  # as is meant here
        L.Trainer(max_epochs=1, limit_train_batches=0, **QUIET).fit(
            second, chest(tmp_path / "data", eval_copies=1)
        )
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name
    other = module(init_weights=file, code=9)
    with pytest.raises(WeightsError, match="of another architecture"):
        L.Trainer(max_epochs=1, **QUIET).fit(other, chest(tmp_path / "data"))


def test_the_network_follows_the_settings() -> None:
    assert isinstance(module(architecture="paper", widths=[4, 4], code=16).network, PaperDAE)
    assert not module(architecture="residual").network.skips  # type: ignore[union-attr]
    assert module().network.skips == {2, 4, 8}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"organs": []}, "1 to 254"),
        ({"organs": ["a", "a"]}, "different names"),
        ({"architecture": "unet"}, "architecture='unet'"),
        ({"frame": {"size": 60}}, "multiples of 8"),
        ({"frame": {"size": 64, "fit": "spacing"}}, "spacing_mm with 2 numbers"),
        ({"organ_weights": [1.0]}, "one number for each"),
        ({"organ_weights": [0.0, 0.0]}, "not all 0"),
        ({"ce_weight": -1.0}, "negative"),
        ({"skips": [3]}, "among"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        module(**settings)
