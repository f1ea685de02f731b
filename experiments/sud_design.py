"""The design of the experiment on supervision by denoising: settings, arms, damage of the images."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from fitting import WARMUP_STEPS
from torch import Tensor

from anatozoo.data.case import Case
from anatozoo.data.layouts.registry import find_cases
from anatozoo.errors import DataError
from anatozoo.frames.spec import FrameSpec
from anatozoo.objectives.denoising import Denoising
from anatozoo.training.optim import Optim

OPTIM = Optim("adamw", 1e-3, 1e-4, schedule="cosine", warmup_steps=WARMUP_STEPS)
ALPHA = 0.6
"""Share of the past: a case is visited some 20 times in a fit, and what was found ten visits ago is stale."""
LOOKS = ("clean", "metal")
DAMAGED = 0.5
"""Share of the training images that are damaged in the arm that learns from damaged images."""


class Setting(NamedTuple):
    """A data set, its network and how much of it is annotated.

    Attributes:
        label: in tables.
        layout: of the data.
        organs: of network and denoiser.
        frame: of both.
        labelled: how many subjects are annotated; the others of the training split are images alone.
        method: of the network.
        model: its settings.
        augment: of its data, without anything that hides a part of an image.
        batch: annotated items, and as many unlabelled ones, of a step.
        steps: of each network.
        denoiser: its channels, and by what strides it passes maps on.
        denoiser_steps: of each denoiser.
        denoiser_batch: masks of a step of it.
        runs: of each arm.
        arms: names of those that are asked for; the first is the one with which the others are compared.
    """

    label: str
    layout: str
    organs: list[str]
    frame: FrameSpec
    labelled: int
    method: str
    model: Mapping[str, Any]
    augment: Mapping[str, float]
    batch: int
    steps: int
    denoiser: Mapping[str, Any]
    denoiser_steps: int
    denoiser_batch: int
    runs: int = 3
    arms: tuple[str, ...] = ("supervised", "self", "temporal", "spatial", "sud")

    @property
    def precision(self) -> str:
        """Of the fits: volumes take half the time in bfloat16, planes little less."""
        return "32-true"


_PLANES = {"encoder": "dynunet", "decoder_widths": [8, 16, 32, 64], "loss": "organs"}
_GREY = dict.fromkeys(("occlusion_p", "text_p", "opacity_p", "collimation_p", "invert_p"), 0.0)
_VOLUMES = {"architecture": "dynunet", "widths": [8, 16, 32, 64], "dice_weight": 1.0}
_GENTLE = {"rotation_deg": 15.0, "scale": 0.1, "bias": 0.0}
_FLAT_DAE = {"widths": [16, 32, 48, 64], "code": 64, "skips": [2, 4, 8, 16]}
_DEEP_DAE = {"widths": [8, 16, 32], "code": 64, "skips": [2, 4, 8]}
_HEART = ["right_ventricle", "myocardium", "left_ventricle"]
_ACDC = Setting(
    "ACDC, 3 of 65 patients",
    "acdc",
    _HEART,
    FrameSpec([16, 64, 64], "spacing", [2.5, 2.5, 1.0]),
    3,
    "acnn",
    _VOLUMES,
    _GENTLE,
    2,
    300,
    _DEEP_DAE,
    300,
    4,
)
SETTINGS = {
    "jsrt": Setting(
        "JSRT, 5 of 174 images",
        "jsrt",
        ["lung_right", "lung_left", "heart"],
        FrameSpec(128),
        5,
        "unet",
        _PLANES,
        _GREY,
        4,
        800,
        _FLAT_DAE,
        600,
        8,
        5,
        ("supervised", "damaged", "self", "temporal", "spatial", "sud", "spatial-pool", "sud-pool"),
    ),
    "acdc3": _ACDC,
    "acdc7": _ACDC._replace(label="ACDC, 7 of 65 patients", labelled=7),
    "la": _ACDC._replace(
        label="left atrium, 8 of 71 patients",
        layout="folder",
        organs=["left_atrium"],
        frame=FrameSpec([24, 48, 64], "stretch"),
        labelled=8,
    ),
    "hippocampus": _ACDC._replace(
        label="hippocampus, 4 of 182",
        layout="folder",
        organs=["anterior", "posterior"],
        frame=FrameSpec([40, 56, 40], "spacing", [1.0, 1.0, 1.0]),
        labelled=4,
        steps=400,
    ),
}
DEGRADE = {"shapes_p": 0.0, "blobs_p": 0.0, "soft_p": 0.5}
"""Of the masks that denoisers learn from: no shapes and patches, which look like the damage of images."""


class Arm(NamedTuple):
    """What a network learns from, beside the annotated images.

    Attributes:
        label: in tables.
        denoising: settings of the objective; None without.
        masks: which masks its denoiser knows: ``"few"``, those of the annotated images, ``"pool"``, those of
            the whole training split without their images, or None without one.
        damaged: whether it sees damaged annotated images.
    """

    label: str
    denoising: Mapping[str, Any] | None = None
    masks: str | None = None
    damaged: bool = False

    def objective(self, denoisers: Mapping[str, str]) -> list[Denoising]:
        """The objective, none for supervised training."""
        if self.denoising is None:
            return []
        source = None if self.masks is None else denoisers[self.masks]
        return [Denoising(source, **self.denoising)]


_TEMPORAL, _SPATIAL = {"alpha": ALPHA}, {"alpha": 0.0}
ARMS = {
    "supervised": Arm("supervised"),
    "damaged": Arm("supervised, damage in training", damaged=True),
    "self": Arm("self-training", {"alpha": 0.0, "hard": True}),
    "temporal": Arm("temporal alone", _TEMPORAL),
    "spatial": Arm("spatial alone, few masks", _SPATIAL, "few"),
    "sud": Arm("SUD, few masks", _TEMPORAL, "few"),
    "spatial-pool": Arm("spatial alone, all masks", _SPATIAL, "pool"),
    "sud-pool": Arm("SUD, all masks", _TEMPORAL, "pool"),
}


def find_split(root: Any, setting: Setting, seed: int) -> dict[str, list[Case]]:
    """The cases of a run: ``train``, ``unlabelled`` (images alone), ``pool`` (both, with masks) and ``val``.

    The annotated subjects are drawn by the seed.

    Raises:
        DataError: there are too few.
    """
    found = find_cases(root, setting.layout, setting.organs, dims=setting.frame.dims)
    cases = {
        split: [c for c in found.complete(setting.organs, split) if c.image is not None]
        for split in ("train", "val")
    }
    subjects = sorted({case.subject for case in cases["train"]})
    if len(subjects) <= setting.labelled or not cases["val"]:
        raise DataError(
            f"{root}: {setting.label} needs more than {setting.labelled} subjects in the training split and "
            f"one in the validation split; here are {len(subjects)} and {len(cases['val'])}."
        )
    order = torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed))
    chosen = {subjects[i] for i in order[: setting.labelled].tolist()}
    return {
        "train": [case for case in cases["train"] if case.subject in chosen],
        "unlabelled": [
            replace(case, draw=None, organs=frozenset())
            for case in cases["train"]
            if case.subject not in chosen
        ],
        "pool": cases["train"],
        "val": cases["val"],
    }


def metal(image: Tensor, draw: torch.Generator | None = None) -> Tensor:
    """One image (1, ...) in [0, 1] with one to three bright ellipsoids and the stripes that metal leaves.

    Args:
        image: of any number of dimensions.
        draw: of the random numbers; None takes torch's own.
    """
    n = image.ndim - 1
    axes = [(torch.arange(side) + 0.5) / side for side in image.shape[1:]]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    result = image.clone()
    for _ in range(int(torch.randint(1, 4, (), generator=draw))):
        centre = 0.2 + 0.6 * torch.rand(n, generator=draw)
        radii = 0.07 + 0.13 * torch.rand(n, generator=draw)
        turn = torch.linalg.qr(torch.randn(n, n, generator=draw))[0]
        away = (place - centre) @ turn
        across, along = away[..., 0], away[..., 1:].norm(dim=-1)
        waves = torch.cos(2 * torch.pi * across / (0.3 * radii[0])) * torch.exp(-along / 0.4)
        stripes = 0.6 * waves * (across.abs() < radii[0])
        inside = (away / radii).square().sum(-1) < 1
        result = torch.where(inside, 1.0, (result + stripes).clamp(0, 1))
    return result


def seen(image: Tensor, name: str, look: str) -> Tensor:
    """An image (1, ...) of a case in a look, the same in all runs."""
    if look == "clean":
        return image
    return metal(image, torch.Generator().manual_seed(zlib.crc32(f"{name} {look}".encode())))


def damaging(prepare: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """The `prepare` of a data module, with damage in some of the training images."""

    def prepared(batch: dict[str, Tensor], *, training: bool) -> dict[str, Tensor]:
        batch = prepare(batch, training=training)
        if not training:
            return batch
        images = [metal(x) if float(torch.rand(())) < DAMAGED else x for x in batch["image"]]
        return batch | {"image": torch.stack(images)}

    return prepared
