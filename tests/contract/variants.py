"""Settings under which the contract tests build each method: small, and every branch once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pytest
import torch
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
    """

    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    exact: bool = True
    shape_weight: float = 0.0


def cases(methods: "Mapping[str, Mapping[str, Variant]]", *, expensive: bool = False) -> Any:
    """All variants of the methods; where a check is expensive, most of them are left to ``-m slow``."""
    return pytest.mark.parametrize(
        ("method", "variant"),
        [
            pytest.param(
                method,
                variant,
                id=f"{method}-{name}",
                marks=[pytest.mark.slow] * (expensive and not variant.quick),
            )
            for method, variants in methods.items()
            for name, variant in variants.items()
        ],
    )


def build_without_zeros(method: str, variant: Variant) -> Any:
    """A module of which no layer is zero, in training mode."""
    torch.manual_seed(0)
    module = METHODS[method].module_class()(**variant.settings)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    return module


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
        "pyg": Variant({"graph_conv": "pyg", "frame": {"size": 64}}),
        "refined": Variant({"template": True, "refine": [0.05, 0.02], "frame": {"size": 64}}),
        "recipe": Variant(
            {"template": True, "refine": [0.05], "loss": "contour", "frame": {"size": 64}}
            | {"anchors": {"heart": [0, 5, 12, 18]}}
            | _LITE,
            quick=True,
        ),
        "timm": Variant({"organs": {"heart": 26, "aorta": 31}, "frame": {"size": 64}} | _LITE),
    },
    "unet": {
        "published": Variant({"organs": ["lungs", "heart"], "frame": {"size": 64}}, quick=True),
        "one organ": Variant({"organs": ["heart"], "loss": "organs", "frame": {"size": 64}}),
        "wide": Variant({"decoder_widths": [4, 8, 16, 16, 24], "dice_weight": 0.5, "frame": {"size": 96}}),
        "recipe": Variant({"loss": "organs", "frame": {"size": 64}} | _LITE, quick=True),
        # Its finest map has a stride of 4.
        "coarse encoder": Variant(
            {"encoder": "convnext_atto", "organs": "lungs_heart", "frame": {"size": 64}}
        ),
    },
}
"""Method -> name -> variant. A method that segments and is missing here fails the tests."""

_STACK = {"frame": {"size": [8, 32, 32], "fit": "slices", "long_side": 40}}
VOLUMES: dict[str, dict[str, Variant]] = {
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
}
"""The same of the methods that segment volumes."""
