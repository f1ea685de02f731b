import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from anatozoo.cli.train import in_order
from anatozoo.errors import ConfigError, DataError, WeightsError
from anatozoo.io.landmarks import write_landmarks
from anatozoo.methods.hybridgnet.module import HybridGNetModule
from anatozoo.methods.shapevae.data import ShapeVAEDataModule
from anatozoo.methods.shapevae.module import ShapeVAEModule
from anatozoo.methods.shapevae.network import ShapeVAE
from anatozoo.nn.augment import ShapeAugment, move_shapes
from anatozoo.nn.hybridgnet import HybridGNet
from anatozoo.organs import LUNGS_HEART
from anatozoo.training.optim import Optim
from anatozoo.training.weights import read_weights
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from anatozoo.zoo.golden import run_golden, write_golden
from tests.contract.trials import shapes
from tests.support.chest_data import write_chest_data
from tests.support.trainers import QUIET

ORGANS = dict(LUNGS_HEART)
SMALL: dict[str, Any] = {"latents": 6, "features": 8, "order": 3}
STILL = ShapeAugment(0.0, 0.0, 0.0, 0.0)


def module(seed: int = 0, **settings: Any) -> ShapeVAEModule:
    torch.manual_seed(seed)
    made = ShapeVAEModule(**SMALL | settings).eval()
    made.network.take_prior(shapes(made, 40)[0])
    return made


def hybrid(**settings: Any) -> HybridGNetModule:
    torch.manual_seed(9)
    wanted = {"organs": "lungs_heart", "skips": [], "upsampling": "copy", "frame": {"size": 64}} | SMALL
    return HybridGNetModule(**wanted | settings).eval()


def in_pixels(decoded: Tensor, side: int = 256) -> np.ndarray:
    """Points in [0, 1] of a frame in pixels of 1024 x 1024, whole numbers being centres."""
    return (decoded.double().numpy() * side + 0.5) * 1024 / side - 0.5


@pytest.fixture
def given() -> dict[str, np.ndarray]:
    """A shape in pixels of 1024 x 1024."""
    [points] = (1024 * shapes(module(), 1)[0]).double().numpy()
    return dict(zip(ORGANS, np.split(points, np.cumsum(list(ORGANS.values()))[:-1]), strict=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"))


def test_the_decoder_is_that_of_hybridgnet_without_skips() -> None:
    torch.manual_seed(0)
    vae = ShapeVAE(ORGANS, latents=64)
    net = HybridGNet(ORGANS, 64, skips=(), upsampling="copy").eval()
    own = {name: value.shape for name, value in vae.state_dict().items()}
    theirs = {
        name: value for name, value in net.state_dict().items() if not name.startswith(("encoder", "fc"))
    }
    assert {name: own.get(name) for name in theirs} == {name: value.shape for name, value in theirs.items()}
    vae.load_state_dict(theirs, strict=False)
    z = torch.randn(3, 64)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(z), net.decode(z, {})[0], rtol=0, atol=1e-6)


def test_the_prior_is_the_distribution_of_the_given_codes() -> None:
    net = module().network
    [given] = shapes(module(), 40)
    with torch.no_grad():
        mu = net.encode(given)[0]
    torch.testing.assert_close(net.prior_mean, mu.mean(0))
    torch.testing.assert_close(net.prior_root @ net.prior_root.T, torch.cov(mu.T), rtol=1e-3, atol=1e-6)
    lengths = net.prior_root.norm(dim=0)
    assert bool((lengths.diff() <= 1e-6).all())
    torch.testing.assert_close(net.codes(torch.zeros(2, 6)), net.prior_mean.expand(2, 6))


def test_one_shape_has_a_prior_without_spread() -> None:
    net = module().network
    net.take_prior(shapes(module(), 1)[0])
    assert float(net.prior_root.abs().max()) == 0


@pytest.mark.parametrize("settings", [{"latents": 0}, {"features": 3}, {"features": 0}, {"order": 0}])
def test_impossible_networks_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ShapeVAEModule(**SMALL | settings)


def test_shapes_move_as_a_whole() -> None:
    [points] = shapes(module(), 5)
    torch.testing.assert_close(move_shapes(points, STILL), points, rtol=0, atol=1e-6)
    torch.manual_seed(0)
    turned = move_shapes(points, ShapeAugment(3.0, 0.0, 0.0, 0.1))
    torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(points, points), rtol=0, atol=1e-3)
    edge, new = (x[:, 1] - x[:, 0] for x in (points, turned))
    angle = torch.rad2deg(torch.atan2(edge[:, 0] * new[:, 1] - edge[:, 1] * new[:, 0], (edge * new).sum(1)))
    assert 0.1 < float(angle.abs().max()) < 3.1
    stretched = move_shapes(points, ShapeAugment(0.0, 0.0, 0.2, 0.0)) - 0.5
    factor = stretched / (points - 0.5)
    assert float((factor - factor[:, :1]).abs().max()) < 1e-3
    assert float((factor[:, 0, 0] - factor[:, 0, 1]).abs().max()) > 0.01


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_fit_learns_and_stores_the_distribution_of_its_codes(root: Path, tmp_path: Path) -> None:
    L.seed_everything(1, verbose=False)
    data = ShapeVAEDataModule(str(root), layout="jsrt", batch_size=2, repeat=20)
    made = ShapeVAEModule(**SMALL, optim=Optim("adamw", 3e-3, 0.0))
    trainer = L.Trainer(**QUIET, max_epochs=4, default_root_dir=tmp_path)
    trainer.validate(made, data, verbose=False)
    assert torch.equal(made.network.prior_root, torch.eye(6))
    before = float(trainer.callback_metrics["val/mse_px2"])
    trainer.fit(made, data)
    assert float(trainer.callback_metrics["val/mse_px2"]) < before / 3
    with torch.no_grad():
        mu = made.eval().network.encode(data.training_shapes())[0]
    torch.testing.assert_close(made.network.prior_mean, mu.mean(0), rtol=1e-3, atol=1e-4)


def test_a_case_without_an_organs_landmarks_is_refused(root: Path) -> None:
    data = ShapeVAEDataModule(str(root), layout="jsrt", organs={"heart": 26, "aorta": 10})
    with pytest.raises(DataError, match="aorta"):
        data.setup("fit")


def test_every_form_of_landmarks_gives_the_same(given: dict[str, np.ndarray], tmp_path: Path) -> None:
    made = module()
    expected = made.predict(given)
    points = np.concatenate(list(given.values()))
    forms: list[Any] = [points, points.ravel(), torch.from_numpy(points)]
    forms += [write_landmarks(tmp_path / f"a{end}", given) for end in (".csv", ".json", ".npy")]
    for form in forms:
        for organ, found in made.predict(form).landmarks.items():
            np.testing.assert_allclose(found, expected.landmarks[organ], atol=0.02)
    assert made.predict(given).landmarks["heart"].shape == (26, 2)
    assert expected.size == (1024, 1024)


def test_the_size_of_the_image_counts(given: dict[str, np.ndarray], tmp_path: Path) -> None:
    made = module()
    expected = made.predict(given, spacing_mm=0.35)
    half = {organ: (points + 0.5) / 2 - 0.5 for organ, points in given.items()}
    found = made.predict(half, size=(512, 512))
    np.testing.assert_allclose(2 * found.landmarks["heart"] + 0.5, expected.landmarks["heart"], atol=1e-2)
    [path] = expected.save(tmp_path, ["json"], "result")
    again, direct = made.predict(path), made.predict(expected)
    assert again.size == direct.size == (1024, 1024)
    assert again.spacing_mm == direct.spacing_mm == (0.35, 0.35)
    wide = made.predict(half, size=(512, 300))
    assert wide.size == (512, 300)


def test_a_shape_that_comes_back_badly_is_flagged(given: dict[str, np.ndarray]) -> None:
    made = module()
    assert "poor_reconstruction" in made.predict(given).flags
    assert "ignored_clavicle_right" in made.predict({**given, "clavicle_right": np.zeros((23, 2))}).flags


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heart": np.zeros((25, 2))}, r"heart \(25, not 26\)"),
        ({"heart": np.zeros((26, 3))}, "heart"),
        ({"lung_left": np.full((50, 2), np.nan)}, "NaN or infinite"),
        (None, r"lung_right \(none, not 44\)"),
    ],
)
def test_landmarks_that_do_not_fit_are_refused(
    given: dict[str, np.ndarray], change: dict[str, np.ndarray] | None, message: str
) -> None:
    wrong = {"heart": given["heart"]} if change is None else {**given, **change}
    with pytest.raises(DataError, match=message):
        module().predict(wrong)


def test_arrays_of_other_lengths_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="119 points"):
        module().predict(np.zeros((119, 2)))
    with pytest.raises(DataError):
        module().predict(tmp_path / "none.csv")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(DataError, match="holds no landmarks"):
        module().predict(tmp_path / "list.json")


def test_samples_follow_the_seed_and_the_prior(given: dict[str, np.ndarray]) -> None:
    made = module()
    found = made.sample(3, seed=4)
    assert np.array_equal(found.points, made.sample(3, seed=4).points)
    assert not np.array_equal(found.points, made.sample(3, seed=5).points)
    noise = torch.randn(3, 6, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = made.network.decode(made.network.codes(noise))
    np.testing.assert_allclose(found.points, in_pixels(expected), atol=1e-3)
    around = made.sample(2, like=[given, given], spread=1e-4)
    assert around.captions[2] == "shape 2, sample 1"
    np.testing.assert_allclose(around[3]["heart"], made.predict(given).landmarks["heart"], atol=1.0)


def test_a_traversal_goes_along_one_direction(given: dict[str, np.ndarray]) -> None:
    made = module()
    found = made.traverse(1, steps=5, reach=2)
    assert found.captions[0] == "component 1: -2.0"
    middle = made.sample(1, spread=1e-6)
    np.testing.assert_allclose(found.points[2], middle.points[0], atol=0.01)
    codes = made.network.prior_mean + 2 * made.network.prior_root[:, 1]
    with torch.no_grad():
        last = made.network.decode(codes[None])[0]
    np.testing.assert_allclose(found.points[4], in_pixels(last), atol=1e-3)
    of_one = made.traverse(0, steps=3, like=given)
    np.testing.assert_allclose(of_one[1]["heart"], made.predict(given).landmarks["heart"], atol=1e-2)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.sample(0),
        lambda m: m.sample(10_001),
        lambda m: m.sample(2.5),
        lambda m: m.sample(True),
        lambda m: m.sample(2, spread=0),
        lambda m: m.sample(2, spread=float("nan")),
        lambda m: m.sample(2, like=[]),
        lambda m: m.traverse(6),
        lambda m: m.traverse(-1),
        lambda m: m.traverse(0, steps=1),
        lambda m: m.traverse(0, reach=-1.0),
        lambda m: m.traverse(0, like=[np.full((120, 2), 5.0)] * 2),
    ],
)
def test_numbers_out_of_range_are_refused(call: Any) -> None:
    with pytest.raises(ConfigError):
        call(module())


def test_the_golden_file_holds_a_shape(tmp_path: Path) -> None:
    made = module()
    write_checkpoint_folder(made, tmp_path, name="shapevae-test", version="1.0.0", half=False)
    write_golden(made, made.golden_input(), tmp_path)
    assert run_golden(made, tmp_path).difference == 0
    with torch.no_grad():
        made.network.head.lins[0].weight += 0.1
    with pytest.raises(WeightsError, match="golden test"):
        run_golden(made, tmp_path)


# --- the decoder as a start of HybridGNet ------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapevae")
    write_checkpoint_folder(module(), path, name="shapevae-test", version="1.0.0", half=False)
    return path


def started(folder: Path, **settings: Any) -> HybridGNetModule:
    net = hybrid(init_weights=str(folder), **settings)
    net.start()
    return net


def test_unit_codes_give_the_same_shapes_in_hybridgnet(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        net = started(folder)
    noise = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net.network.decode(noise, {})[0]
    np.testing.assert_allclose(in_pixels(found), module().sample(3, seed=0).points, atol=0.05)
    assert "coarse1, coarse2, coarse3, expand, fine1, fine2, head, up (" in caplog.text
    assert "Fresh weights: encoder, fc_logvar, fc_mu." in caplog.text
    own = hybrid().state_dict()
    assert torch.equal(net.state_dict()["network.fc_mu.weight"], own["network.fc_mu.weight"])


def test_layers_behind_skips_start_fresh_and_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        net = started(folder, skips=[6, 5])
    state, vae = net.state_dict(), read_weights(str(folder), "shapevae")[0]
    assert torch.equal(state["network.fine1.conv.bias"], vae["network.fine1.conv.bias"])
    assert "Fresh weights: coarse3, encoder, fc_logvar, fc_mu, fine2, skip1, skip2." in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latents": 7}, "latents is 6 there, 7 here"),
        ({"order": 4}, "order is 3 there"),
        ({"upsampling": "wrap"}, "upsampling is copy there"),
        ({"organs": "lungs"}, "organs is"),
        ({"template": True}, "set model.template to false"),
    ],
)
def test_other_decoders_are_refused(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        started(folder, **settings)


def test_an_image_network_is_no_start_of_a_shape_network(tmp_path: Path) -> None:
    write_checkpoint_folder(hybrid(), tmp_path, name="hybridgnet-test", version="1.0.0", half=False)
    with pytest.raises(ConfigError, match="is a hybridgnet checkpoint, not a Graph spectral VAE"):
        module(init_weights=str(tmp_path)).start()


def test_the_command_line_takes_over_what_must_agree(folder: Path) -> None:
    plan = in_order(["fit", "--config=hybridgnet/graph_start.yaml", "--model.init_weights", str(folder)])
    assert plan.method == "hybridgnet"
    [first] = [json.loads(arg.removeprefix("--config=")) for arg in plan.arguments if "{" in arg][:1]
    assert first["model"] == {"organs": ORGANS, "upsampling": "copy", **SMALL}
    with pytest.raises(ConfigError, match="the method is not clear"):
        in_order(["fit", "--config=unet/jsrt.yaml", "--model.init_weights", str(folder)])
    assert in_order(["fit", "--model.init_weights", str(folder)]).method == "shapevae"


def test_gradients_reach_a_started_network(folder: Path) -> None:
    net = started(folder).train()
    output = net(torch.rand(2, 1, 64, 64))
    loss: Tensor = output.landmarks.square().sum()
    loss.backward()
    weight = net.network.expand.weight.grad
    assert weight is not None
    assert bool(weight.any())
