import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anatozoo.errors import WeightsError
from anatozoo.methods.hybridgnet.convert import convert_file, convert_state, rename
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.organs import CHEST_ORGANS, LUNGS_HEART
from anatozoo.zoo.checkpoint import build_module

GRAPH = {
    "coarse1.conv": "graphConv_up6", "coarse2.conv": "graphConv_up5", "coarse3.conv": "graphConv_up4",
    "fine1.conv": "graphConv_up3", "fine2.conv": "graphConv_up2",
    "head": "graphConv_up1", "expand": "dec_lin",
}  # fmt: skip
BLOCK = {"norm1": "block.0", "conv1": "block.2", "norm2": "block.3", "conv2": "block.5",
         "shortcut.0": "skip.0", "shortcut.1": "skip.1"}  # fmt: skip
SKIPS: list[list[int]] = [[], [2], [3], [4], [6], [4, 3], [5, 4], [6, 5]]


def network(skips: list[int], style: str = "chexmask", **settings: Any) -> HybridGNet:
    torch.manual_seed(0)
    mode: Any = "copy" if style == "tmi" else "wrap"
    return HybridGNet(
        **{"organs": LUNGS_HEART, "image_size": 64} | settings, skips=skips, upsampling=mode
    ).eval()


def theirs(ours: HybridGNet, style: str) -> dict[str, Tensor]:
    """The tensors of our network under the authors' names."""
    state = {}
    for key, value in ours.named_parameters():
        layer, _, kind = key.rpartition(".")
        if match := re.fullmatch(r"encoder\.blocks\.(\d)\.(.+)", layer):
            name = f"encoder.dconv_down{int(match[1]) + 1}.{BLOCK[match[2]]}"
        elif layer in ("fc_mu", "fc_logvar"):
            name = f"encoder.{layer}"
        elif match := re.match(r"skip(\d)\.position(.*)", layer):
            count = sum(getattr(ours, skip) is not None for skip in ("skip1", "skip2"))
            number = match[1] if count == 2 else ""
            name = f"SC_{match[1]}.graphConv_pre" if style == "chexmask" else f"graphConv_pre{number}"
            name += match[2]
        else:
            [(start, end)] = [(a, b) for a, b in GRAPH.items() if f"{layer}.".startswith(f"{a}.")]
            name = end + layer.removeprefix(start)
        state[f"{name}.{kind}"] = value.detach().clone()
    return state


def packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Chebyshev weights as PyG wrote them before 2.0: one (K, in, out) tensor per layer."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, terms, _ = key.partition(".lins.")
        if not terms:
            result[key] = value
        elif f"{layer}.weight" not in result:
            lins = [state[k].T for k in state if k.startswith(f"{layer}.lins.")]
            result[f"{layer}.weight"] = torch.stack(lins)
    return result


def same(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


@pytest.mark.parametrize("style", ["tmi", "chexmask"])
@pytest.mark.parametrize("skips", SKIPS, ids=str)
def test_the_authors_weights_become_ours(skips: list[int], style: Any) -> None:
    source = network(skips, style)
    module = convert_state(theirs(source, style), style)
    assert isinstance(module, HybridGNetModule)
    assert list(module.hparams.skips) == skips
    assert not module.training
    same(module.network, source)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(module(image).landmarks, source(image).landmarks)


def test_weights_of_old_pyg_versions_are_unpacked() -> None:
    source = network([6, 5], "tmi")
    state = packed(theirs(source, "tmi"))
    assert state["graphConv_up4.weight"].shape == (6, 16 + 128 + 2, 32)
    same(convert_state(state, "tmi").network, source)


def test_sizes_are_read_off_the_tensors() -> None:
    settings = {
        "organs": CHEST_ORGANS,
        "latents": 12,
        "order": 3,
        "features": 16,
    }
    module = convert_state(theirs(network([4, 3], **settings, image_size=96), "chexmask"), "chexmask")
    found = {key: module.hparams[key] for key in settings}
    assert found == settings
    assert module.side == 96


def test_one_skip_at_level_five_must_be_said() -> None:
    source = network([5])
    state = theirs(source, "chexmask")
    assert list(convert_state(state, "chexmask").hparams.skips) == [6]  # as wide, and the published one
    module = convert_state(state, "chexmask", skips=[5])
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(module(image).landmarks, source(image).landmarks)


def test_other_organs_must_be_said() -> None:
    organs = {"heart": 26, "aorta": 30}
    state = theirs(network([], organs=organs), "tmi")
    with pytest.raises(WeightsError, match="28 coarse nodes"):
        convert_state(state, "tmi")
    assert convert_state(state, "tmi", organs=organs).organs == organs


@pytest.mark.parametrize("key", ["SC_1.graphConv_pre.lins.0.weight", "graphConv_pre1.lins.0.weight"])
def test_both_styles_of_names(key: str) -> None:
    assert rename(key) == "skip1.position.lins.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("graphConv_up5.bias"), "coarse1|coarse2.conv.bias"),
        (lambda s: s.pop("dec_lin.weight"), "expand.weight missing"),
        (
            lambda s: s.update({"graphConv_up1.lins.0.weight": torch.zeros(3, 32)}),
            r"head.lins.0.weight \(3, 32\)",
        ),
        (lambda s: s.update({"classifier.weight": torch.zeros(2)}), "'classifier.weight' is not a tensor"),
        (lambda s: s.update({"encoder.fc_mu.weight": torch.zeros(64, 130)}), "130 values"),
        (
            lambda s: s.update({"graphConv_up4.lins.0.weight": torch.zeros(32, 50)}),
            "32 image channels|50|tensors",
        ),
        (lambda s: s.clear(), "not a complete HybridGNet"),
    ],
    ids=["missing", "missing head", "misshapen", "foreign", "not square", "odd width", "empty"],
)
def test_incomplete_or_foreign_weights_are_refused(change: Any, message: str) -> None:
    state = theirs(network([6, 5]), "chexmask")
    change(state)
    with pytest.raises(WeightsError, match=message):
        convert_state(state, "chexmask")


def test_unknown_style_is_refused() -> None:
    with pytest.raises(WeightsError, match="'tmi' or 'chexmask'"):
        convert_state({}, "miccai")  # type: ignore[arg-type]


def test_a_file_becomes_a_folder_that_loads(tmp_path: Path) -> None:
    source = network([6, 5])
    torch.save(theirs(source, "chexmask"), tmp_path / "bestMSE.pt")
    folder = convert_file(tmp_path / "bestMSE.pt", tmp_path / "out", "chexmask", name="hybridgnet-mine")
    module = build_module(folder)
    assert module.checkpoint_name == "hybridgnet-mine"
    same(module.network, source)  # type: ignore[arg-type]


class Payload:
    """What a hostile file would run while it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def test_pickles_and_whole_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (Payload(), network([]), {"epoch": 3, "model": {}}, [torch.zeros(2)]):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(WeightsError, match=r"x\.pt"):
            convert_file(tmp_path / "x.pt", tmp_path / "out", "tmi")
    (tmp_path / "x.pt").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"x\.pt"):
        convert_file(tmp_path / "x.pt", tmp_path / "out", "tmi")
    with pytest.raises(WeightsError, match=r"absent\.pt"):
        convert_file(tmp_path / "absent.pt", tmp_path / "out", "tmi")
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()
