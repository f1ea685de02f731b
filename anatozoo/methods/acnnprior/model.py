"""The shape prior of ACNN: an autoencoder of label maps."""

from anatozoo.data.layouts.acdc import HEART
from anatozoo.frames.frame import Frame
from anatozoo.frames.spec import FrameSpec
from anatozoo.frames.stacks import fit_frame
from anatozoo.io.grid import Grid
from anatozoo.nn.shape_autoencoder import ShapeAutoencoder
from anatozoo.nn.volume_blocks import channels_last
from anatozoo.tasks.codes import CodeTask


class AcnnPriorModel(CodeTask):
    """Encodes plausible label maps, 2-D or 3-D, as a short code. Oktay et al., IEEE TMI 2018.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...
        frame: size and resolution of the label maps; see `anatozoo.frames.spec.FrameSpec`.
        code: length of the code, 64 in the paper.
        widths: channels at strides 2, 4, ...
        skips: levels of the encoder whose maps the decoder receives beside the code, 0 for the label map; see
            `anatozoo.nn.shape_autoencoder.ShapeAutoencoder`. The paper has none.

    Raises:
        ConfigError: settings that are not possible.
    """

    def __init__(
        self,
        organs: list[str] = HEART,
        frame: FrameSpec = FrameSpec([16, 128, 128], "slices", long_side=208),
        code: int = 64,
        widths: list[int] = [16, 32, 48, 64],  # noqa: B006 - jsonargparse shows it, nothing changes it
        skips: list[int] = [],  # noqa: B006
    ) -> None:
        super().__init__(organs, frame)
        self.code, self.widths, self.skips = code, list(widths), list(skips)
        network = ShapeAutoencoder(self.shape, len(self.organs) + 1, code, widths, skips)
        self.network = channels_last(network) if len(self.shape) == 3 else network

    def frame_of(self, grid: Grid) -> Frame:
        """The frame of a label map on this grid, aligned with its slices.

        Raises:
            GeometryError: the model works in millimetres and the spacing is unknown.
        """
        return fit_frame(grid, self.frame)
