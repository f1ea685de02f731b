import copy
from typing import Any

import pytest
import torch

from anatozoo.errors import ConfigError
from anatozoo.methods.acnn.network import NETWORKS, build_network, trainable_parameters
from anatozoo.nn.shape_autoencoder import CodeEncoder, ShapeAutoencoder, halvings
from anatozoo.nn.volume_blocks import pyramid

ACDC = (16, 160, 160)
# Oktay et al., IEEE TMI 2018, numbers of trainable parameters of 2D-FCN, 3D-Seg, 3D-UNet, AE-Seg, AE-Seg-M.
PUBLISHED = {"fcn": 1.39e6, "seg": 1.60e6, "unet": 1.64e6, "ae-seg": 1.68e6, "ae-seg-m": 1.91e6}
FRAMES = [(4, 32, 32), (16, 16, 16), (64, 32)]


def small(name: str, shape: tuple[int, ...], **settings: Any) -> Any:
    torch.manual_seed(0)
    return build_network(name, shape, 3, widths=(4, 8, 8), **settings)


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_rows_have_the_published_number_of_parameters(name: str, count: float) -> None:
    assert trainable_parameters(build_network(name, ACDC, 4)) == pytest.approx(count, rel=0.05)


def test_the_modern_row_fits_a_checkpoint() -> None:
    assert trainable_parameters(build_network("dynunet", ACDC, 4)) < 5e6  # 10 MB in half precision


@pytest.mark.parametrize("shape", FRAMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_logits_and_gets_gradients(name: str, shape: tuple[int, ...]) -> None:
    network = small(name, shape).train()
    outputs = network.outputs(torch.rand(2, 1, *shape))
    assert all(any(p is q for q in network.parameters()) for p in network.contracting.parameters())
    assert len(list(network.contracting.parameters())) > 0
    assert {tuple(output.shape) for output in outputs} == {(2, 3, *shape)}
    assert {output.dtype for output in outputs} == {torch.float32}
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_alone_gives_what_it_gives_in_a_batch(name: str) -> None:
    network = small(name, (4, 32, 32)).eval()
    images = torch.rand(3, 1, 4, 32, 32)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "dynunet"])
@pytest.mark.parametrize("size", [(5, 33, 47), (2, 16, 18)])
def test_odd_sizes_go_through(name: str, size: tuple[int, ...]) -> None:
    with torch.no_grad():
        assert small(name, (4, 32, 32)).eval()(torch.rand(1, 1, *size)).shape == (1, 3, *size)


def test_the_2d_network_sees_one_slice_at_a_time() -> None:
    network = small("fcn", (4, 32, 32)).eval()
    volume = torch.rand(1, 1, 4, 32, 32)
    other = volume.clone()
    other[:, :, 2] = 0
    with torch.no_grad():
        same = (network(volume) == network(other)).flatten(3).all(-1).flatten(0, 1).all(0)
        assert same.tolist() == [True, True, False, True]
        torch.testing.assert_close(network(volume)[:, :, 1], network(volume[:, :, 1]))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "dynunet"])
def test_slices_may_be_upsampled_in_the_network(name: str) -> None:
    network = small(name, (4, 32, 32), upsample=5)
    assert network(torch.rand(1, 1, 4, 32, 32)).shape == (1, 3, 20, 32, 32)


def test_deep_supervision_ends_with_training() -> None:
    network = small("dynunet", (4, 32, 32)).train()
    deep = build_network("dynunet", (4, 32, 32), 3, widths=(4, 4, 8, 8, 8)).train()
    assert len(network.outputs(torch.rand(1, 1, 4, 32, 32))) == 2
    assert len(deep.outputs(torch.rand(1, 1, 4, 32, 32))) == 3
    assert len(deep.eval().outputs(torch.rand(1, 1, 4, 32, 32))) == 1


def test_dynunet_stores_each_weight_once_and_moves_as_a_whole() -> None:
    network = small("dynunet", (4, 32, 32)).eval()
    state = network.state_dict()
    assert sum(value.numel() for value in state.values()) == sum(p.numel() for p in network.parameters())
    other = copy.deepcopy(network)
    image = torch.rand(1, 1, 4, 32, 32)
    with torch.no_grad():
        expected = network(image)
        for parameter in network.parameters():
            parameter.zero_()
        assert not torch.equal(network(image), expected)
        assert torch.equal(other(image), expected)
        assert other.double()(image.double()).dtype == torch.float32  # logits are, whatever the network


def test_few_slices_are_neither_halved_nor_mixed_too_early() -> None:
    strides, kernels = pyramid(ACDC, 5)
    assert strides == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert pyramid((48, 64, 48), 3)[0] == [(1, 1, 1), (2, 2, 2), (2, 2, 2)]
    assert halvings(ACDC, 4) == [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize("shape", FRAMES)
def test_the_autoencoder_gives_codes_and_logits(shape: tuple[int, ...]) -> None:
    network = ShapeAutoencoder(shape, 3, 5, (4, 8)).train()
    code, logits = network(torch.rand(2, 3, *shape).softmax(1))
    assert code.shape == (2, 5)
    assert logits.shape == (2, 3, *shape)
    (code.square().mean() + logits.square().mean()).backward()
    # Batch normalisation of two maps of few pixels may cancel a gradient exactly; none may be missing.
    assert not [n for n, p in network.named_parameters() if p.grad is None]


def test_the_code_has_the_length_of_the_paper() -> None:
    network = ShapeAutoencoder(ACDC, 4)
    assert network.encoder.to_code.out_features == 64
    assert CodeEncoder((48, 64, 48), 1).to_code.out_features == 64


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: build_network("vnet", ACDC, 4), "architecture='vnet' is unknown"),
        (lambda: build_network("seg", ACDC, 4, widths=[8]), "two or more"),
        (lambda: build_network("seg", ACDC, 4, upsample=0), "upsample=0"),
        (lambda: build_network("seg", (64, 64), 4, upsample=2), "needs volumes"),
        (lambda: build_network("dynunet", ACDC, 4, upsample=2), "does not upsample"),
        (lambda: build_network("dynunet", (16, 150, 160), 4), "150 is not a multiple of 16"),
        (lambda: ShapeAutoencoder((16, 60, 64), 4), "cannot be halved 4 times"),
        (lambda: ShapeAutoencoder((16, 64, 64), 4, code=0), "code=0"),
    ],
)
def test_impossible_networks_are_refused(make: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        make()
