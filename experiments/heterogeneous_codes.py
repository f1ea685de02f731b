"""The code of an image, and how far codes keep two groups apart: classifiers, silhouettes and MMD."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FOLDS, NEIGHBOURS, PERMUTATIONS = 5, 5, 1000
Codes = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


@torch.inference_mode()
def codes_of(module: Any, items: Any) -> Codes:
    """The code of each item: HybridGNet's latents, or the means of the channels of the coarsest map."""
    network, found = module.network, []
    for item in items:
        image = item["image"][None]
        if hasattr(network, "encode"):
            found.append(network.encode(network.encoder(image))[0][0])
            continue
        kept: list[torch.Tensor] = []
        part = network.encoder if hasattr(network, "levels") else network.network.bottleneck
        handle = part.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        network(image)
        handle.remove()
        coarsest = kept[0][network.levels[0]] if isinstance(kept[0], dict) else kept[0]
        found.append(coarsest[0].mean((1, 2)))
    return torch.stack(found).double().numpy()


def apart(codes: Codes, group: Numbers, of: Numbers | None = None) -> dict[str, float]:
    """Accuracies of two classifiers, silhouette, MMD and its p.

    Args:
        codes: (n, d), standardised here.
        group: (n,) 0 or 1.
        of: (n,) whom a code is of, where each has one code in either group. One image is then never both
            learnt from and judged, and permutations exchange the two codes of an image. None: all differ.
    """
    x = (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-9)
    random = np.random.default_rng(0)
    names = np.arange(len(x)) if of is None else of
    fold_of = random.permutation(np.arange(names.max() + 1) % FOLDS)
    folds = fold_of[names]
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    distance = np.sqrt(squared)
    return {
        "n": len(x),
        "logistic": float(np.mean(np.concatenate([_logistic(x, group, folds == f) for f in range(FOLDS)]))),
        "neighbours": float(
            np.mean(np.concatenate([_neighbours(distance, group, folds == f) for f in range(FOLDS)]))
        ),
        "silhouette": silhouette(distance, group),
        **mmd(squared, group, of, random),
    }


def _logistic(x: Codes, group: Numbers, held: Truths) -> Truths:
    """Whether logistic regression with a ridge penalty of weight 1/2 is right about held codes."""
    from scipy.optimize import minimize

    inputs, sign = x[~held], 2.0 * group[~held] - 1

    def loss(w: Codes) -> tuple[float, Codes]:
        margin = sign * (inputs @ w[:-1] + w[-1])
        pull = -sign / (1 + np.exp(np.minimum(margin, 500)))
        gradient = np.append(inputs.T @ pull + w[:-1], pull.sum())
        return float(np.logaddexp(0, -margin).sum() + 0.5 * w[:-1] @ w[:-1]), gradient

    w = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    right: Truths = (x[held] @ w[:-1] + w[-1] > 0) == (group[held] == 1)
    return right


def _neighbours(distance: Codes, group: Numbers, held: Truths) -> Truths:
    """Whether most of the five nearest codes of other folds are of the same group."""
    nearest = np.argsort(distance[held][:, ~held], axis=1)[:, :NEIGHBOURS]
    right: Truths = (group[~held][nearest].mean(1) > 0.5) == (group[held] == 1)
    return right


def silhouette(distance: Codes, group: Numbers) -> float:
    """Mean silhouette of two groups, −1 … 1, from distances (n, n)."""
    same = group[:, None] == group[None]
    within = (distance * same).sum(1) / np.maximum(same.sum(1) - 1, 1)
    between = (distance * ~same).sum(1) / (~same).sum(1)
    return float(np.mean((between - within) / np.maximum(within, between)))


def mmd(squared: Codes, group: Numbers, of: Numbers | None, random: np.random.Generator) -> dict[str, float]:
    """Squared maximum mean discrepancy, unbiased, with an RBF kernel of the median distance; permutation p.

    Gretton et al., "A kernel two-sample test", JMLR 2012.
    """
    n = len(squared)
    kernel = np.exp(-squared / (2 * np.median(squared[~np.eye(n, dtype=bool)])))
    np.fill_diagonal(kernel, 0)

    def statistic(which: Numbers) -> float:
        one, two = which == 0, which == 1
        a, b = one.sum(), two.sum()
        return float(
            kernel[one][:, one].sum() / (a * (a - 1))
            + kernel[two][:, two].sum() / (b * (b - 1))
            - 2 * kernel[one][:, two].mean()
        )

    value = statistic(group)

    def exchanged() -> Numbers:
        if of is None:
            return random.permutation(group)
        return group ^ random.integers(0, 2, of.max() + 1)[of]

    above = sum(statistic(exchanged()) >= value for _ in range(PERMUTATIONS))
    return {"mmd2": value, "mmd_p": (1 + above) / (1 + PERMUTATIONS)}
