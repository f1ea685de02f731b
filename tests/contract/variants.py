"""Settings under which the contract tests build each method: small, and every branch once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from anatozoo.zoo.registry import METHODS

_LITE = {"encoder": "tf_efficientnet_lite0"}


@dataclass(frozen=True)
class Variant:
    """One way to build a method.

    Args:
        settings: arguments of the LightningModule.
        quick: whether the expensive checks run on it by default; they run on all variants with ``-m slow``.
        exact: whether the same image alone and in a batch gives the same to float precision.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    exact: bool = True


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


VARIANTS: dict[str, dict[str, Variant]] = {
    "hybridgnet": {
        "published": Variant({"image_size": 64}, quick=True),
        **{
            f"skips {' '.join(map(str, skips)) or 'none'}": Variant({"image_size": 64, "skips": skips})
            for skips in ([], [2], [3], [4], [5], [6], [5, 4], [4, 3])
        },
        # The last bit of a position changes how many samples RoIAlign takes; see `anatozoo.nn.igsc`.
        "roi align": Variant({"image_size": 64, "lookup": "roi_align"}, exact=False),
        "tmi": Variant({"image_size": 64, "upsampling": "copy", "organs": "lungs"}),
        "pyg": Variant({"image_size": 64, "graph_conv": "pyg"}),
        "refined": Variant({"image_size": 64, "template": True, "refine": [0.05, 0.02]}),
        "recipe": Variant(
            {"image_size": 64, "template": True, "refine": [0.05], "loss": "contour"}
            | {"anchors": {"heart": [0, 5, 12, 18]}}
            | _LITE,
            quick=True,
        ),
        "timm": Variant({"image_size": 64, "organs": {"heart": 26, "aorta": 31}} | _LITE),
    },
    "unet": {
        "published": Variant({"image_size": 64, "organs": ["lungs", "heart"]}, quick=True),
        "one organ": Variant({"image_size": 64, "organs": ["heart"], "loss": "organs"}),
        "wide": Variant({"image_size": 96, "decoder_widths": [4, 8, 16, 16, 24], "dice_weight": 0.5}),
        "recipe": Variant({"image_size": 64, "loss": "organs"} | _LITE, quick=True),
        # Its finest map has a stride of 4.
        "coarse encoder": Variant({"image_size": 64, "encoder": "convnext_atto", "organs": "lungs_heart"}),
    },
}
"""Method -> name -> variant. A method that segments and is missing here fails the tests."""

_STACK = {"image_size": [8, 32, 32], "long_side": 40}
VOLUMES: dict[str, dict[str, Variant]] = {
    "acnn": {
        "fcn": Variant({**_STACK, "network": "fcn", "widths": [4, 8]}),
        "published": Variant(
            {**_STACK, "network": "seg", "widths": [4, 8, 8], "shape_weight": 0.1}, quick=True
        ),
        "unet": Variant({**_STACK, "network": "unet", "widths": [4, 8], "dice_weight": 1.0}),
        "ae-seg": Variant({**_STACK, "network": "ae-seg", "widths": [4, 8]}),
        "ae-seg-m": Variant({**_STACK, "network": "ae-seg-m", "widths": [4, 8]}),
        "modern": Variant(
            {**_STACK, "network": "dynunet", "widths": [4, 8, 8], "dice_weight": 1.0}, quick=True
        ),
        "spacing": Variant(
            {
                "image_size": [16, 16, 16],
                "fit": "spacing",
                "spacing_mm": [2.0, 2.0, 2.0],
                "labels": ["a", "b"],
            }
            | {"network": "seg", "widths": [4, 8]}
        ),
    },
    "acnntl": {
        "published": Variant({**_STACK, "widths": [4, 8], "code": 6}, quick=True),
        "spacing": Variant(
            {
                "image_size": [16, 16, 16],
                "fit": "spacing",
                "spacing_mm": [2.0, 2.0, 2.0],
                "labels": ["a", "b"],
            }
            | {"widths": [4, 8], "code": 6},
            quick=True,
        ),
    },
}
"""The same of the methods that segment volumes."""
