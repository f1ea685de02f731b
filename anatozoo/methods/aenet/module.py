"""The label autoencoder as a LightningModule: the first stage of AC-RegNet."""

from typing import Any, Literal

import torch

from anatozoo.errors import ConfigError
from anatozoo.frames.frame import Frame, frame_shape
from anatozoo.io.grid import Grid
from anatozoo.methods.aenet.network import AENet
from anatozoo.nn.labels import check_labels
from anatozoo.tasks.codes import LabelAutoencoder
from anatozoo.training.weights import read_weights


class AeNetModule(LabelAutoencoder):
    """Learns a short code of plausible label maps by removing noise from them.

    Mansilla et al., Neural Networks 2020; the defaults are the paper's.

    Args:
        labels: names of the foreground classes, in the order of their values 1, 2, ...
        image_size: side S of a square frame, [H, W] or [D, H, W]; multiples of 8.
        fit: how label maps of other sizes get into the frame, see `anatozoo.frames.frame.Frame.fit`.
        spacing_mm: (x, y[, z]) of the frame, for ``"spacing"``.
        code: length of the code.
        swap_probability: how often two neighbouring pixels change places in training.
        lr: learning rate of Adam.

    Raises:
        ConfigError: settings out of range.
    """

    architecture = ("labels", "image_size", "fit", "spacing_mm", "code")
    links = {  # noqa: RUF012 - typed in the base class
        "labels": "labels",
        "image_size": "image_size",
        "fit": "fit",
        "spacing_mm": "spacing_mm",
    }

    def __init__(
        self,
        labels: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        image_size: int | list[int] = 64,
        fit: Literal["pad", "stretch", "spacing"] = "pad",
        spacing_mm: list[float] | None = None,
        code: int = 32,
        swap_probability: float = 0.1,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.initialise()

    def configure_network(self) -> None:
        """Build the autoencoder."""
        h: Any = self.hparams
        self.labels, self.shape = check_labels(h.labels), frame_shape(h.image_size)
        if h.fit == "spacing" and len(h.spacing_mm or ()) != len(self.shape):
            raise ConfigError(f"fit='spacing' needs spacing_mm with {len(self.shape)} numbers.")
        if not self.labels or not 0 <= h.swap_probability <= 1:
            raise ConfigError(
                f"labels={h.labels} must not be empty, swap_probability={h.swap_probability} within 0 … 1."
            )
        self.network = AENet(self.shape, len(self.labels) + 1, h.code)

    def frame_of(self, grid: Grid) -> Frame:
        """How a label map on this grid gets into the frame; see the base class."""
        return Frame.fit(grid, self.shape, self.hparams["fit"], self.hparams["spacing_mm"])

    def configure_optimizers(self) -> Any:
        """Adam at a constant rate."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def load_shape_model(source: str) -> AeNetModule:
    """An autoencoder from a checkpoint name, a folder or a ``.ckpt`` file of a fit of the first stage.

    Raises:
        ConfigError: the source is another method's or does not exist.
    """
    state, hparams = read_weights(source, "aenet")
    module = AeNetModule(**hparams)
    own = module.state_dict()
    module.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in state.items()})
    return module.eval()
