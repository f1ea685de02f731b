"""The computation of the HybridGNet authors' code, as the yardstick of the benchmarks.

PyG message passing, torchvision's RoIAlign one image at a time, batch statistics in the encoder. It is
anatozoo's own network with these three parts exchanged, so that weights and outputs can be compared.
"""

from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from anatozoo.nn import graph_decoder
from anatozoo.nn.hybridgnet import HybridGNet, HybridGNetOutput


def roi_align_each(maps: Tensor, positions: Tensor, window: int = 3, *, lookup: str = "roi_align") -> Tensor:
    """`anatozoo.nn.igsc.window_average` by torchvision, one image after the other."""
    height = maps.shape[-2]
    rows = []
    for image, points in zip(maps, positions.detach(), strict=True):
        centre = points * height
        boxes = torch.cat([centre - window // 2, centre + window // 2 + 1], 1)
        rows.append(roi_align(image[None], [boxes], 1, aligned=True)[:, :, 0, 0])
    return torch.stack(rows)


class Reference(nn.Module):
    """A HybridGNet that computes as the authors' does.

    Args:
        model: the network to compare with; its weights are copied.
        settings: the arguments that built it.
    """

    def __init__(self, model: HybridGNet, **settings: object) -> None:
        super().__init__()
        self.network = HybridGNet(model.organs, model.image_size, graph_conv="pyg", **settings)  # type: ignore[arg-type]
        self.network.load_state_dict(model.state_dict())
        for block in self.network.encoder.modules():
            for name, child in block.named_children():
                if isinstance(child, nn.InstanceNorm2d):
                    norm = nn.BatchNorm2d(child.num_features, track_running_stats=False)
                    norm.load_state_dict(child.state_dict())
                    setattr(block, name, norm)

    def forward(self, image: Tensor) -> HybridGNetOutput:
        """All outputs for images (B, 1, S, S)."""
        with patch.object(graph_decoder, "window_average", roi_align_each):
            return self.network(image)
