"""Small networks with random weights of the kinds that export."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acnn.model import AcnnModel
from anatozoo.methods.acregnet.model import AcRegNetModel
from anatozoo.methods.postdae.model import PostDAEModel
from anatozoo.tasks.base import Predictor
from anatozoo.tasks.contours import ContourTask
from anatozoo.tasks.labels import LabelTask
from anatozoo.zoo.golden_pictures import golden_radiograph

NODES = {"lung": 6, "heart": 4}


class _Asked:
    """What asks models that no method registers: the free radiograph."""

    def golden_input(self) -> np.ndarray:
        return golden_radiograph()


class FewLandmarks(_Asked, ContourTask):
    """Landmarks on two circles, which move a little with the image."""

    def __init__(self, organs: Any = NODES, frame: Any = FrameSpec(32)) -> None:
        super().__init__(organs, frame)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 8, 8), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(64, 2 * sum(self.organs.values()))
        turns = torch.cat([torch.arange(n) * (2 * torch.pi / n) for n in self.organs.values()])
        middle = torch.cat([torch.full((n, 2), 0.3 + 0.3 * i) for i, n in enumerate(self.organs.values())])
        self.register_buffer("template", middle + 0.2 * torch.stack([turns.cos(), turns.sin()], 1))

    def forward_landmarks(self, image: Tensor) -> Tensor:
        moves = self.head(self.network(image)).view(len(image), -1, 2)
        return self.template + 0.05 * moves.tanh()


class FewLabels(_Asked, LabelTask):
    """One convolution and its normalisation."""

    def __init__(self, organs: Any = ("lung", "heart"), frame: Any = FrameSpec(32), **more: Any) -> None:
        super().__init__(list(organs), frame, **more)
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, self.channels, 3, padding=1),
        )


def small_models() -> dict[str, Predictor]:
    """One of each kind, in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    models: dict[str, Predictor] = {
        "contours": FewLandmarks(),
        "labels": FewLabels(),
        "volume": AcnnModel(frame=FrameSpec([8, 16, 16], "slices", long_side=20), widths=[4, 4]),
        "field": AcRegNetModel(frame=FrameSpec(32)),
        "repair": PostDAEModel(["lung", "heart"], FrameSpec(32), widths=[4, 4, 4], code=8, skips=[4]),
    }
    for name, model in models.items():
        model.checkpoint_name = f"small-{name}"
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(0, 0.1)
    return {name: model.eval() for name, model in models.items()}
