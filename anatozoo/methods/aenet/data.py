"""The data of AENet: label maps in the frame of the registration network."""

from collections.abc import Sequence
from typing import Any, ClassVar

from anatozoo.data.case import Case
from anatozoo.data.framed import FrameDataset
from anatozoo.data.module import ZooDataModule
from anatozoo.frames.spec import FrameSpec


class AeNetDataModule(ZooDataModule):
    """Label maps, one at a time, for the first stage of AC-RegNet.

    Args:
        root: folder with the data, or a manifest; see `anatozoo.data.layouts.registry`.
        layout: layout of the data, such as ``"jsrt"`` or ``"folder"``.
        organs: organs, as in the module.
        frame: frame, as in the registration module.
        batch_size: items per process and step.
        **settings: see `ZooDataModule`.
    """

    fewest: ClassVar[int] = 2

    def __init__(
        self,
        root: str,
        layout: str | list[str] = "jsrt",
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(64),
        batch_size: int = 16,
        **settings: Any,
    ) -> None:
        super().__init__(root, layout, organs=organs, frame=frame, batch_size=batch_size, **settings)

    def dataset(self, cases: Sequence[Case], split: str) -> FrameDataset:
        """Images with label maps."""
        return FrameDataset(cases, self.organs, self.frame)
