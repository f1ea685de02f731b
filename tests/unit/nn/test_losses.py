import math

import pytest
import torch
from torch import Tensor

from anatozoo.metrics.contours import self_intersections
from anatozoo.nn import losses

WHOLE = [slice(0, 4)]
SQUARE = torch.tensor([[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]])


def ones() -> Tensor:
    return torch.ones(1, 4)


def test_kl_is_zero_for_the_standard_normal_and_a_mean_over_latents() -> None:
    assert losses.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)) == 0
    # mu 1, variance 1: 1/2 per latent. mu 0, variance e: (e - 2) / 2 per latent.
    assert float(losses.kl_divergence(torch.ones(2, 3), torch.zeros(2, 3))) == pytest.approx(0.5)
    assert float(losses.kl_divergence(torch.zeros(2, 3), torch.ones(2, 3))) == pytest.approx((math.e - 2) / 2)
    assert float(losses.kl_divergence(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2))) == pytest.approx(1.0)


def test_kl_is_torchs() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(4, 8), torch.randn(4, 8)
    normal = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(losses.kl_divergence(mu, logvar), expected)


def test_kl_of_an_absurd_variance_is_finite_and_still_falls_with_it() -> None:
    mu, logvar = torch.zeros(1, 2), torch.tensor([[10.0, 300.0]], requires_grad=True)
    value = losses.kl_divergence(mu, logvar)
    value.backward()
    assert float(value.detach()) == pytest.approx((math.exp(10) * (1 + 291) - 312) / 4, rel=1e-5)
    assert logvar.grad is not None
    torch.testing.assert_close(logvar.grad, torch.full((1, 2), (math.exp(10) - 1) / 4))


def test_weighted_mean_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert losses.weighted_mean(values, torch.ones(2, 2)) == 2.5
    assert losses.weighted_mean(values, torch.tensor([[1.0], [0.0]])) == 1.5
    assert losses.weighted_mean(values, torch.tensor([[3.0], [1.0]])) == pytest.approx((3 * 3 + 7) / 8)


def test_landmark_mse_by_hand() -> None:
    error = torch.tensor([[[0.1, 0.0], [0.0, 0.2], [0.0, 0.0], [0.3, 0.4]]])
    assert float(losses.landmark_mse(SQUARE + error, SQUARE, ones())) == pytest.approx(0.3 / 8)
    weight = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert float(losses.landmark_mse(SQUARE + error, SQUARE, weight)) == pytest.approx(0.05 / 6)


@pytest.mark.parametrize(
    ("delta", "expected"),
    # Errors of 0.5 and 3 units: x² / 2 below delta, delta (x - delta / 2) above.
    [(1.0, 0.125 + 2.5), (2.0, 0.125 + 4.0), (4.0, 0.125 + 4.5)],
)
def test_huber_by_hand(delta: float, expected: float) -> None:
    error = torch.tensor([[[0.005, 0.0], [0.03, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    value = losses.landmark_huber(SQUARE + error, SQUARE, ones(), delta=delta)
    assert float(value) == pytest.approx(expected / 8, rel=1e-4)


def test_contour_loss_forgives_sliding_more_than_leaving() -> None:
    # At each corner of the square the tangent is a diagonal.
    along = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]) * 0.02
    across = torch.stack([along[:, 1], -along[:, 0]], 1)
    point = losses.landmark_huber(SQUARE + along, SQUARE, ones())
    sliding = losses.contour_loss(SQUARE + along, SQUARE, ones(), WHOLE)
    leaving = losses.contour_loss(SQUARE + across, SQUARE, ones(), WHOLE)
    torch.testing.assert_close(sliding, point)
    # The whole error of length 0.02·√2 counts once more: 2√2 - 1/2.
    torch.testing.assert_close(leaving, point + 2 * math.sqrt(2) - 0.5)


def test_masked_dice_by_hand() -> None:
    truth = torch.zeros(1, 1, 4, 4)
    truth[..., :2] = 1  # 8 pixels
    guess = torch.zeros(1, 1, 4, 4)
    guess[..., 1:3] = 1  # 8 pixels, 4 in common
    where = torch.ones(1, 1, 4, 4)
    assert float(losses.masked_dice_loss(truth, truth, where)) == pytest.approx(0.0)
    assert float(losses.masked_dice_loss(guess, truth, where)) == pytest.approx(1 - (2 * 4 + 1) / (16 + 1))
    where[..., 2:] = 0  # what lies outside is not judged: 4 pixels guessed, all right
    assert float(losses.masked_dice_loss(guess, truth, where)) == pytest.approx(1 - (2 * 4 + 1) / (12 + 1))


def test_channels_without_weight_are_left_out() -> None:
    guess, truth = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    guess[:, 0] = 1
    where = torch.ones(1, 2, 4, 4)
    where[:, 1] = 0
    assert float(losses.masked_dice_loss(guess, truth, where)) == pytest.approx(0.0)
    entropy = losses.dense_loss(100 * guess - 50, truth, where)
    assert float(entropy) == pytest.approx(0.0, abs=1e-6)


def test_dense_loss_of_undecided_logits() -> None:
    truth = torch.zeros(1, 1, 4, 4)
    truth[..., :2] = 1
    expected = math.log(2) + 1 - (2 * 8 * 0.5 + 1) / (8 + 16 * 0.5 + 1)
    value = losses.dense_loss(torch.zeros_like(truth), truth, torch.ones_like(truth))
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["landmark_mse", "landmark_huber", "contour", "masked_dice", "dense"])
def test_without_any_truth_the_loss_and_its_gradient_are_zero(name: str) -> None:
    points = SQUARE.clone().requires_grad_()
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    # All landmarks at one place have no tangent, which must not give NaN either.
    origin, nowhere, empty = torch.zeros(1, 4, 2), torch.zeros(1, 4), torch.zeros(1, 2, 4, 4)
    value = {
        "landmark_mse": lambda: losses.landmark_mse(points, origin, nowhere),
        "landmark_huber": lambda: losses.landmark_huber(points, origin, nowhere),
        "contour": lambda: losses.contour_loss(points, origin, nowhere, WHOLE),
        "masked_dice": lambda: losses.masked_dice_loss(maps, empty, empty),
        "dense": lambda: losses.dense_loss(maps, empty, empty),
    }[name]()
    assert float(value.detach()) == 0.0
    value.backward()
    source = points if name.startswith(("landmark", "contour")) else maps
    assert source.grad is not None
    assert torch.equal(source.grad, torch.zeros_like(source.grad))


def ring(count: int = 12) -> Tensor:
    angle = torch.arange(count) * 2 * torch.pi / count
    return (0.5 + 0.2 * torch.stack([angle.cos(), angle.sin()], -1))[None]


def test_uncrossing_judges_the_loops_alone_and_gradient_descent_opens_them() -> None:
    points = torch.cat([ring(), ring() + 0.1], 1)
    parts = (slice(0, 12), slice(12, 24))
    assert losses.uncrossing_loss(points, parts) == 0, "two contours may overlap"
    points[:, [3, 4]] = points[:, [4, 3]]
    points = points.requires_grad_()
    losses.uncrossing_loss(points, parts).backward()
    assert points.grad is not None
    assert points.grad.abs().sum(-1)[0].nonzero()[:, 0].tolist() == [3, 4]
    for _ in range(200):
        (gradient,) = torch.autograd.grad(losses.uncrossing_loss(points, parts, delta=3.0), points)
        points = (points - 1e-4 * gradient).detach().requires_grad_()
    assert self_intersections(points.detach()[0, :12]) == 0
