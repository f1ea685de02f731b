"""The orthogonality of filters: against a slow form, its bounds, its gradient, members and bad input."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.module import AcnnModule
from anatozoo.methods.unet.module import UNetModule
from anatozoo.nn.filters import filter_layers, mean_cosine, squared_cosines, unit_filters
from anatozoo.objectives.orthogonal import Orthogonal
from anatozoo.training.step import Step
from anatozoo.zoo.checkpoint import write_checkpoint_folder


def module_of(seed: int, **settings: Any) -> UNetModule:
    torch.manual_seed(seed)
    return UNetModule(organs=["a"], frame=FrameSpec(64), decoder_widths=[4, 4, 8, 8, 8], **settings)


def started(objective: Orthogonal, module: Any) -> Orthogonal:
    objective.setup(None, module, "fit")  # type: ignore[arg-type]
    objective.on_fit_start(None, module)  # type: ignore[arg-type]
    return objective


def slow(layers: list[Tensor], members: list[list[Tensor]]) -> tuple[float, float]:
    """Both sums, written out filter by filter."""

    def squared(a: Tensor, b: Tensor) -> float:
        return float((a * b).sum() ** 2 / ((a * a).sum() * (b * b).sum()))

    inner = inter = 0.0
    for number, layer in enumerate(layers):
        count = range(len(layer))
        inner += sum(squared(layer[i], layer[j]) for i in count for j in count if i != j) / 2
        for member in members:
            theirs = member[number]
            inter += sum(squared(layer[i], theirs[j]) for i in count for j in count) / len(members)
    return inner, inter


def test_it_is_the_sum_written_out(tmp_path: Path) -> None:
    module, *others = (module_of(seed) for seed in range(3))
    folders = [
        str(write_checkpoint_folder(m, tmp_path / str(i), name="unet-test", version="1.0.0", half=False))
        for i, m in enumerate(others)
    ]
    chosen = ["network.blocks.1.*", "network.encoder.blocks.1.*"]
    objective = started(Orthogonal(0.5, 0.25, members=folders, layers=chosen), module)
    with torch.no_grad():
        terms = objective.terms(Step(module, {}, None))
    names = filter_layers(module, chosen)
    assert len(names) >= 4
    weights = [[m.get_submodule(name).weight.detach() for name in names] for m in (module, *others)]
    inner, inter = slow(weights[0], weights[1:])
    assert float(terms["self_orthogonality"]) == pytest.approx(0.5 * inner, rel=1e-4)
    assert float(terms["inter_orthogonality"]) == pytest.approx(0.25 * inter, rel=1e-4)


def test_its_gradient_is_that_of_the_sums() -> None:
    torch.manual_seed(0)
    weight, others = torch.randn(5, 2, 3, 3, requires_grad=True), torch.randn(3, 5, 18)
    others = others / others.norm(dim=2, keepdim=True)

    def gradient(inner: Tensor, between: Tensor) -> Tensor:
        return torch.autograd.grad(inner + 0.3 * between, weight)[0]

    filters = weight.flatten(1) / weight.flatten(1).norm(dim=1, keepdim=True)
    within = (filters @ filters.T).square()
    inner = (within.sum() - within.diagonal().sum()) / 2
    between = torch.einsum("fd,kgd->kfg", filters, others).square().sum() / 3
    expected = gradient(inner, between)
    torch.testing.assert_close(gradient(*squared_cosines(unit_filters(weight), others)), expected)


def test_identical_filters_are_the_most_and_orthogonal_ones_nothing() -> None:
    same = unit_filters(torch.ones(4, 3, 3, 3) * torch.tensor([1.0, -2.0, 3.0, 0.5])[:, None, None, None])
    inner, between = squared_cosines(same, torch.stack([same, same]))
    assert (float(inner), float(between)) == (pytest.approx(4 * 3 / 2), pytest.approx(16))
    basis = torch.eye(8)
    inner, between = squared_cosines(unit_filters(basis[:4]), basis[None, 4:])
    assert (float(inner), float(between)) == (0, 0)
    # A filter of zeros has no direction, and no undefined gradient.
    zero = torch.zeros(2, 3, requires_grad=True)
    torch.stack(squared_cosines(unit_filters(zero), basis[None, :2, :3])).sum().backward()
    assert zero.grad is not None
    assert bool(zero.grad.isfinite().all())


def test_only_the_trained_network_learns_and_grows_apart(tmp_path: Path) -> None:
    module, other = module_of(0), module_of(1)
    other.load_state_dict(module.state_dict())  # alike in every filter
    folder = write_checkpoint_folder(other, tmp_path, name="unet-test", version="1.0.0", half=False)
    objective = started(Orthogonal(0.0, 0.1, members=[str(folder)]), module)
    before = mean_cosine(module.state_dict(), other.state_dict(), filter_layers(module))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        [term] = objective.terms(Step(module, {}, None)).values()
        term.backward()
        optimizer.step()
    assert all(not value.requires_grad for value in objective._filters.values())
    learnt = {name for name, p in module.named_parameters() if p.grad is not None}
    assert learnt == {f"{name}.weight" for name in filter_layers(module)}
    assert mean_cosine(module.state_dict(), other.state_dict(), filter_layers(module)) < before


def test_the_rule_leaves_out_the_image_heads_and_groups() -> None:
    found = filter_layers(module_of(0))
    assert found
    assert not [name for name in found if "head" in name]
    convolutions = {n: m for n, m in module_of(0).named_modules() if isinstance(m, nn.Conv2d)}
    assert all(convolutions[name].in_channels > 1 for name in found)
    left = {name for name in convolutions if name not in found}
    others = {n: convolutions[n] for n in left if convolutions[n].in_channels > 1 and n != "network.head"}
    assert others
    assert all(each.out_channels > each.weight[0].numel() for each in others.values())
    plain = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 2),
        nn.Conv2d(4, 6, 1), nn.Conv2d(4, 2, 1),
    )  # fmt: skip
    assert filter_layers(plain) == ["2"]
    assert filter_layers(plain, ["*"]) == ["0", "2", "4", "5"]


def test_a_resumed_fit_does_not_need_the_members(tmp_path: Path) -> None:
    folder = write_checkpoint_folder(module_of(1), tmp_path / "a", name="unet-test", version="1.0.0")
    first, module = Orthogonal(members=[str(folder)]), module_of(0)
    expected = started(first, module).terms(Step(module, {}, None))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    (folder / "model.safetensors").unlink()
    again = Orthogonal(members=[str(folder)])
    again.setup(None, module, "fit")  # type: ignore[arg-type]
    again.load_state_dict(state)
    again.on_fit_start(None, module)  # type: ignore[arg-type]
    assert again.terms(Step(module, {}, None)) == expected
    with pytest.raises(ConfigError, match="had 1 earlier members, and 2 are named"):
        Orthogonal(members=["x", "y"]).load_state_dict(state)


def test_members_are_others_and_those_of_before(tmp_path: Path) -> None:
    a, b = (
        str(write_checkpoint_folder(module_of(seed), tmp_path / str(seed), name="unet-test", version="1.0.0"))
        for seed in (1, 2)
    )
    module = module_of(0)
    with pytest.raises(ConfigError, match="are the same network"):
        started(Orthogonal(members=[a, a]), module)
    other = Orthogonal(members=[b])
    other.setup(None, module, "fit")  # type: ignore[arg-type]
    other.load_state_dict(started(Orthogonal(members=[a]), module).state_dict())
    with pytest.raises(ConfigError, match="had other earlier members"):
        other.on_fit_start(None, module)  # type: ignore[arg-type]


def test_weights_of_zero_and_first_members_have_no_term() -> None:
    module = module_of(0)
    assert set(started(Orthogonal(), module).terms(Step(module, {}, None))) == {"self_orthogonality"}
    assert started(Orthogonal(0, 0.1), module).terms(Step(module, {}, None)) == {}
    volume = AcnnModule(organs=["a", "b"], frame=FrameSpec([8, 16, 16]), widths=[4, 8])
    [term] = started(Orthogonal(0.1), volume).terms(Step(volume, {}, None)).values()
    assert math.isfinite(float(term.detach()))
    with torch.autocast("cpu", torch.bfloat16):
        [half] = started(Orthogonal(0.1), volume).terms(Step(volume, {}, None)).values()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, term, rtol=0.02, atol=0)


def test_what_cannot_be_is_said_before_the_first_step(tmp_path: Path) -> None:
    for weights in ((-0.1, 0.1), (0.1, -0.1), (math.nan, 0.1), (0.1, math.inf)):
        with pytest.raises(ConfigError, match="finite and not negative"):
            Orthogonal(*weights)
    module = module_of(0)
    wide = UNetModule(organs=["a"], frame=FrameSpec(64), decoder_widths=[8, 4, 8, 8, 8])
    folder = write_checkpoint_folder(wide, tmp_path, name="unet-wide", version="1.0.0")
    with pytest.raises(ConfigError, match=r"another architecture: it has .* network\.blocks\.1.*\(4, "):
        started(Orthogonal(members=[str(folder)]), module)
    with pytest.raises(ConfigError, match="no convolution of UNetModule is called 'x'"):
        started(Orthogonal(layers=["x"]), module)
    with pytest.raises(ConfigError, match="no convolution between"):
        started(Orthogonal(), nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 1)))
