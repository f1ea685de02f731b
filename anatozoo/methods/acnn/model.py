"""The networks of ACNN's table: from a volume to one label per voxel."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import FineFrame, fit_frame
from anatozoo.methods.acnn.network import build_network
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.restore import check_slices, fine_grid
from anatozoo.tasks.volumes import Look, VolumeTask

if TYPE_CHECKING:
    from anatozoo.io.grid import GridImage
    from anatozoo.metrics.cases import Case

Architecture = Literal["fcn", "seg", "unet", "ae-seg", "ae-seg-m", "dynunet"]


class AcnnModel(VolumeTask):
    """Segments volumes and stacks of slices.

    Oktay et al., IEEE TMI 2018: the network that a learned shape prior constrains in training, and the
    baselines of the paper.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: three-dimensional input of the network; see `anatozoo.frames.spec.FrameSpec`.
        architecture: network of the paper's table, see `anatozoo.methods.acnn.network.build_network`.
        widths: channels of each level; None takes the default of the architecture.
        one_part: keep only the largest connected component of all organs together, for organs that touch one
            another as those of the heart do.
        temperature: what logits are divided by where probabilities are asked for; `anatozoo calibrate` fits
            it. Label maps and training do not depend on it.
        upsample: fine slices of labels for each slice of the image, as the paper's networks give. The frame
            is then that of the fine slices, in millimetres, and the network sees one frame of a volume, with
            slices `upsample` times as thick. Labels of a volume with such slices have as many times more
            slices; those of a volume with finer ones lie on its own grid.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: Any

    def __init__(
        self,
        organs: list[str] = HEART,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        architecture: Architecture = "seg",
        widths: list[int] | None = None,
        one_part: bool = False,
        temperature: float = 1.0,
        upsample: int = 1,
    ) -> None:
        super().__init__(organs, frame, one_part, temperature)
        self.architecture, self.widths, self.upsample = architecture, widths, upsample
        if upsample != 1:
            check_slices(self.frame, upsample)
            self.sees_parts = False
        classes = len(self.organs) + 1
        network = build_network(architecture, self.seen_shape, classes, widths=widths, upsample=upsample)
        # DynUNet's instance normalisation would copy every map back.
        self.network = network if architecture == "dynunet" else channels_last(network)

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """Shape of the network's input, (D / upsample, H, W)."""
        return (self.shape[0] // self.upsample, *self.shape[1:])

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, D, H, W) of images (B, 1, D / upsample, H, W) in [0, 1]."""
        logits: Tensor = self.network(image)
        return logits

    def cases(self, output: Tensor, batch: Mapping[str, Tensor]) -> "list[Case]":
        """Predicted label maps with the references, within the frame; thick slices are drawn repeatedly."""
        image = batch["image"].repeat_interleave(self.upsample, 2)
        return super().cases(output, {**batch, "image": image})

    def _look(self, stack: "GridImage", part: float | None) -> Look:
        if self.upsample == 1:
            return super()._look(stack, part)
        x, y, z = self.frame.spacing_mm or (1.0, 1.0, 1.0)
        factor = self.upsample
        thick = fit_frame(stack.grid, replace(self.frame, spacing_mm=[x, y, z * factor]))
        thick = type(thick)(thick.grid, self.seen_shape, thick.matrix)
        # Slices nearer to the fine ones than to the thick ones keep their grid.
        grid = stack.grid
        if factor * thick.scale[2] > factor**0.5:
            grid = fine_grid(grid, factor, thick.orientation.axes[2])
        frame = FineFrame.of_thick(thick, factor, grid)
        [logits] = self.computed(self.tensor(thick.image(stack.pixels))[None, None])
        return Look(frame, logits[0].float().softmax(0).cpu().numpy())
