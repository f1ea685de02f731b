"""Settings under which the contract tests build each method: small, and every branch once."""

from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pytest
from torch import Tensor

from anatozoo.objectives.shape_prior import ShapePrior
from anatozoo.training.step import Step
from anatozoo.zoo.registry import METHODS

_LITE = {"encoder": "tf_efficientnet_lite0"}


@dataclass(frozen=True)
class Variant:
    """One way to build a method.

    Args:
        settings: arguments of the LightningModule.
        quick: whether the expensive checks run on it by default; they run on all variants with ``-m slow``.
        exact: whether the same image alone and in a batch gives the same to float precision.
        shape_weight: weight of the shape prior that it is trained with; 0 is none.
        learns: whether it has a network that learns; an atlas has none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    exact: bool = True
    shape_weight: float = 0.0
    learns: bool = True


_ATLAS = {"atlas": ["a", "b", "c"], "count": 2, "frame": {"size": 64}}
_STACK = {"frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 40}}
_HEART = {**_STACK, "rings": 8, "angles": 16, "widths": [4, 8, 8], "graph_widths": [4, 8], "skips": [0, 2]}
_NO_LABELS = {"organs": [], "label_weight": 0.0}
# Where the deepest maps have a side of 2, torch's 3-D convolutions on a CPU leave parts of their weights'
# gradient in bfloat16 as they find the memory.
_VOLUMES = {"frame": {"size": [24, 32, 24]}}
_SMALL = {"widths": [4, 8, 8], "latent": 8, "hidden": 16, "cells": 2, "frame": {"size": 32}}
_NARROW = {"organs": ["a", "b", "c"], "widths": [4, 8, 8, 8, 8], "code": 8, "skips": [4, 8]}
_MASK_VOLUME = {"organs": ["a", "b"], "widths": [4, 8, 8], "code": 8, "frame": {"size": [16, 24, 16]}}
_UNETS = [
    {"method": "unet", "settings": {"organs": ["a", "b"], "decoder_widths": widths, "frame": {"size": 64}}}
    for widths in ([4, 4, 8, 8, 8], [4, 4, 4, 8, 8])
]
_APART = [{"method": "unet", "settings": {**each["settings"], "output": "organs"}} for each in _UNETS]
_CUBES = [
    {"method": "acnn", "settings": {**_STACK, "architecture": "seg", "widths": [4, 8, width]}}
    for width in (8, 12)
]
_TWO = {"width": 4, "blocks": 1, "critic_width": 4, "critic_layers": 2, "frame": {"size": 32}}
_FRAME = {"frame": {"size": [12, 16, 16], "fit": "spacing", "spacing_mm": [1.0, 1.0, 2.0]}}

VARIANTS: dict[str, dict[str, Variant]] = {
    "hybridgnet": {
        "published": Variant({"frame": {"size": 64}}, quick=True),
        **{
            f"skips {' '.join(map(str, skips)) or 'none'}": Variant({"skips": skips, "frame": {"size": 64}})
            for skips in ([], [2], [3], [4], [5], [6], [5, 4], [4, 3])
        },
        # The last bit of a position changes how many samples RoIAlign takes; see `anatozoo.nn.igsc`.
        "roi align": Variant({"lookup": "roi_align", "frame": {"size": 64}}, exact=False),
        "tmi": Variant({"upsampling": "copy", "organs": "lungs", "frame": {"size": 64}}),
        "mean code": Variant({"variational": False, "skips": [6], "frame": {"size": 64}}),
        "pyg": Variant({"graph_conv": "pyg", "frame": {"size": 64}}),
        "refined": Variant({"template": True, "refine": [0.05, 0.02], "frame": {"size": 64}}),
        "recipe": Variant(
            {"template": True, "refine": [0.05], "loss": "contour", "frame": {"size": 64}}
            | {"anchors": {"heart": [0, 5, 12, 18]}}
            | _LITE,
            quick=True,
        ),
        "timm": Variant({"organs": {"heart": 26, "aorta": 31}, "frame": {"size": 64}} | _LITE),
        "dual": Variant(
            {"mask_decoder": "code", "skips": [], "organs": "lungs_heart", "frame": {"size": 64}}, quick=True
        ),
        "dual skips": Variant({"mask_decoder": "skips", "organs": "lungs_heart", "frame": {"size": 64}}),
    },
    "landmarkvae": {
        "pca": Variant({"decoder": "pca", "latents": 8, "frame": {"size": 64}}, quick=True),
        "fc": Variant({"frame": {"size": 64}}, quick=True),
        "fc of 2021": Variant({"widths": [16, 16], "last_relu": True, "frame": {"size": 64}}),
        "timm": Variant({"frame": {"size": 64}} | _LITE),
    },
    "seg2graph": {
        "plain": Variant({"organs": "lungs_heart", "frame": {"size": 64}}, quick=True),
        "no skips": Variant({"organs": {"heart": 26}, "skips": [], "frame": {"size": 64}}),
        "recipe": Variant(
            {"widths": [8, 8, 16, 16, 16], "refine": [0.06, 0.02], "frame": {"size": 64}}
            | {"anchors": {"heart": [0, 5, 12, 18]}},
            quick=True,
        ),
    },
    "maskhybridgnet": {
        "published": Variant({"frame": {"size": 64}, "kl_weight": 1e-3}, quick=True),
        "recipe": Variant(
            {"organs": {"heart": 32, "aorta": 25}, "encoder": "tf_efficientnet_lite0/16", "skips": [5, 4]}
            | {"refine": [0.05, 0.02], "refine_features": 16, "variational": False, "frame": {"size": 64}},
            quick=True,
        ),
    },
    "shapevae": {
        "published": Variant({"frame": {"size": 64}}, quick=True),
        "small": Variant(
            {"organs": {"heart": 26}, "latents": 4, "features": 8, "order": 3, "upsampling": "wrap"}
            | {"frame": {"size": 64}, "uncrossing_weight": 0.1},
            quick=True,
        ),
    },
    "meshvae": {
        "published": Variant({"rings": 8, "angles": 16, "widths": [4, 8]}, quick=True),
        "dense": Variant({"rings": 8, "angles": 16, "widths": [4, 8], "units": "px", "graph_conv": "static"}),
    },
    "hybridvnet": {
        "published": Variant({**_HEART, "latents": 6}, quick=True),
        "views": Variant(
            {**_HEART, "views": 2, "view_side": 32, "view_latents": 3, "skips": [], "graph_conv": "static"}
        ),
    },
    "unet": {
        "published": Variant({"organs": ["lungs", "heart"], "frame": {"size": 64}}, quick=True),
        "one organ": Variant({"organs": ["heart"], "loss": "organs", "frame": {"size": 64}}),
        "wide": Variant({"decoder_widths": [4, 8, 16, 16, 24], "dice_weight": 0.5, "frame": {"size": 96}}),
        "recipe": Variant({"loss": "organs", "frame": {"size": 64}} | _LITE, quick=True),
        "organs apart": Variant(
            {"organs": ["lungs", "heart"], "output": "organs", "frame": {"size": 64}}, quick=True
        ),
        "dynunet": Variant(
            {"encoder": "dynunet", "decoder_widths": [4, 4, 8], "missing": "ignore", "frame": {"size": 64}},
            quick=True,
        ),
        # Its finest map has a stride of 4.
        "coarse encoder": Variant(
            {"encoder": "convnext_atto", "organs": "lungs_heart", "frame": {"size": 64}}
        ),
    },
    "multiatlas": {
        "classical": Variant({**_ATLAS, "engine": "demons", "fusion": "voting"}, quick=True, learns=False),
        "learned": Variant(
            {**_ATLAS, "organs": {"lung_left": 50, "heart": 26}, "engine": "acregnet-jsrt"}
            | {"selector": "thumbnail", "fusion": "staple", "count": 3, "check_view": True},
            quick=True,
            learns=False,
        ),
    },
    "acnn": {
        "fcn": Variant({**_STACK, "architecture": "fcn", "widths": [4, 8]}),
        "published": Variant(
            {**_STACK, "architecture": "seg", "widths": [4, 8, 8]}, quick=True, shape_weight=0.1
        ),
        "unet": Variant({**_STACK, "architecture": "unet", "widths": [4, 8], "dice_weight": 1.0}),
        "ae-seg": Variant({**_STACK, "architecture": "ae-seg", "widths": [4, 8]}),
        "ae-seg-m": Variant({**_STACK, "architecture": "ae-seg-m", "widths": [4, 8]}),
        "modern": Variant(
            {**_STACK, "architecture": "dynunet", "widths": [4, 8, 8], "dice_weight": 1.0}, quick=True
        ),
        "spacing": Variant(
            {
                "organs": ["a", "b"],
                "frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
            }
            | {"architecture": "seg", "widths": [4, 8]}
        ),
        "thick slices": Variant(
            {
                "organs": ["a", "b"],
                "frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
            }
            | {"architecture": "seg", "widths": [4, 8], "upsample": 2}
        ),
    },
    "acnntl": {
        "published": Variant({**_STACK, "widths": [4, 8], "code": 6}, quick=True),
        "spacing": Variant(
            {
                "organs": ["a", "b"],
                "frame": {"size": [16, 16, 16], "fit": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
            }
            | {"widths": [4, 8], "code": 6},
            quick=True,
        ),
    },
    "acregnet": {
        "paper": Variant({"frame": {"size": 32}}, quick=True, shape_weight=0.1),
        "port": Variant(
            {"normalization": "output", "double_elu": True, "smoothness": "tv_mean", "frame": {"size": 32}},
            shape_weight=0.1,
        ),
        "regnet": Variant(
            {**_NO_LABELS, "normalization": "none", "similarity": "lncc", "frame": {"size": 32}}
        ),
        "ceregnet": Variant({"smoothness": "bending", "frame": {"size": [32, 48]}}),
        "aeregnet": Variant(
            {"label_weight": 0.0, "similarity": "mse", "frame": {"size": 32}}, shape_weight=0.1
        ),
        "velocity": Variant(
            {
                "velocity": True,
                "levels": 2,
                "label_loss": "dice",
                "normalization": "none",
                "frame": {"size": 32},
            },
            quick=True,
            shape_weight=0.1,
        ),
        "volume": Variant(
            {**_VOLUMES, "velocity": True, "similarity": "mi", "smoothness": "diffusion"},
            shape_weight=0.1,
        ),
    },
    "affinereg": {
        "published": Variant(
            {**_SMALL, "widths": [4, 8, 8, 16], "cells": 4, "frame": {"size": 64}}, quick=True
        ),
        "rigid": Variant({**_SMALL, "transform": "rigid", "label_weight": 0.0, "frame": {"size": [32, 48]}}),
        "images": Variant({**_SMALL, "organs": [], "label_weight": 0.0, "similarity": "lncc"}),
        "plain latents": Variant({**_SMALL, "kl_weight": 0.0, "label_loss": "cross_entropy"}, quick=True),
    },
    "aenet": {
        "paper": Variant({"frame": {"size": 64}}, quick=True),
        "volume": Variant({**_VOLUMES, "organs": ["a", "b", "c"], "code": 8}),
    },
    "acnnprior": {
        "volume": Variant(
            {"widths": [4, 8], "code": 6, "frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 40}},
            quick=True,
        ),
        "plane": Variant({"organs": ["a"], "code": 8, "frame": {"size": 64, "fit": "pad"}, "skips": [0, 2]}),
    },
    "postdae": {
        "paper": Variant(
            {
                "architecture": "paper",
                "widths": [8, 8, 8],
                "code": 32,
                "ce_weight": 0.0,
                "frame": {"size": 64},
            },
            quick=True,
        ),
        "residual": Variant(
            {**_NARROW, "architecture": "residual", "organ_weights": [1, 2, 3], "frame": {"size": 64}}
        ),
        "skip": Variant({**_NARROW, "frame": {"size": 64}}, quick=True),
        "every skip": Variant({**_NARROW, "skips": [1, 2, 4, 8, 16, 32], "frame": {"size": [32, 96]}}),
        "stretched": Variant({**_NARROW, "frame": {"size": [64, 96], "fit": "stretch"}}),
        "metric": Variant({**_NARROW, "frame": {"size": 64, "fit": "spacing", "spacing_mm": [1.0, 1.0]}}),
        "volume": Variant({**_MASK_VOLUME, "skips": [1, 2, 4, 8]}),
        "volume by the paper": Variant({**_MASK_VOLUME, "architecture": "paper"}),
    },
    "acnnsr": {
        "published": Variant(
            {
                **_FRAME,
                "factor": 3,
                "architecture": "transposed",
                "width": 8,
                "depth": 1,
            },
            quick=True,
            shape_weight=0.1,
        ),
        "modern": Variant({**_FRAME, "factor": 4, "width": 8, "depth": 2}, quick=True),
    },
    "cyclegan": {
        "published": Variant({**_TWO, "residual": False}, quick=True),
        "small": Variant({**_TWO, "identity_weight": 0.0, "pool": 0}, quick=True),
    },
    "classifier": {
        "scratch": Variant(
            {"encoder": "residual", "findings": ["a", "b", "c"], "frame": {"size": 64}}, quick=True
        ),
        "recipe": Variant(
            {"findings": ["a", "b"], "dropout": 0.2, "frame": {"size": 64}} | _LITE, quick=True
        ),
        "one finding": Variant({"class_weights": False, "temperature": 2.0, "frame": {"size": 64}} | _LITE),
    },
    "ensemble": {
        "labels": Variant({"members": _UNETS}, quick=True, learns=False),
        "organs apart": Variant({"members": _APART}, quick=True, learns=False),
    },
    "volumeensemble": {
        "two": Variant({"members": _CUBES}, quick=True, learns=False),
        "three": Variant({"members": [*_CUBES, _CUBES[0]]}, quick=True, learns=False),
    },
}
"""Method -> name -> variant. A method that is missing here fails the tests."""


PARTS_ELSEWHERE = {("hybridgnet", "published"), ("unet", "recipe")}
"""Quick variants each part of which another quick one has: the encoders are those of the other method."""


def of(*kinds: str, expensive: bool = False, parts: bool = False, learns: bool = False) -> Any:
    """All variants of the methods of these kinds, or of all methods; with `learns`, only those that learn.

    Where a check is expensive, most variants are left to ``-m slow``; where it is of the parts of networks,
    so are those of `PARTS_ELSEWHERE`.
    """
    return pytest.mark.parametrize(
        ("method", "variant"),
        [
            pytest.param(
                method,
                variant,
                id=f"{method}-{name}",
                marks=[pytest.mark.slow]
                * ((expensive and not variant.quick) or (parts and (method, name) in PARTS_ELSEWHERE)),
            )
            for method, variants in VARIANTS.items()
            if not kinds or METHODS[method].kind.name in kinds
            for name, variant in variants.items()
            if variant.learns or not learns
        ],
    )


def training_terms(
    module: Any, variant: Variant, batch: dict[str, Tensor], prior: str = "aenet", **settings: Any
) -> dict[str, Tensor]:
    """The terms of a training step's loss, that of the variant's shape prior included.

    Args:
        module: the module in training.
        variant: of it.
        batch: a training batch.
        prior: the method of the model of shapes, which is untrained and has the module's organs and frame.
        **settings: other settings of that model.
    """
    step = Step(module, batch, module.answer(batch))
    terms: dict[str, Tensor] = module.losses(step.output, batch)
    if variant.shape_weight:
        objective = ShapePrior(weight=variant.shape_weight)
        organs = getattr(module, "organs", ["a"])
        objective._model = METHODS[prior].module_class()(organs=organs, frame=module.frame, **settings)
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        objective.setup(trainer, module, "fit")
        terms |= {name: value.mean() for name, value in objective.terms(step).items()}
    return terms
