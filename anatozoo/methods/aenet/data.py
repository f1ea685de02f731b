"""The data of AENet: label maps in the frame of the registration network."""

from typing import Literal

from anatozoo.data.framed import FrameDataModule
from anatozoo.frames.spec import FrameSpec


class AeNetDataModule(FrameDataModule):
    """Label maps, one at a time, for the first stage of AC-RegNet.

    Args:
        root: folder with the data; see `anatozoo.data.cases.find_cases` for the layouts.
        layout: ``"jsrt"`` or ``"folders"``.
        organs: as in the module.
        label_values: value of each organ in the files of ``"folders"``; None is 1, 2, ...
        subject_pattern: regular expression whose first group is the subject in a case's name.
        frame: as in the module.
        batch_size: items per process and step.
        num_workers: loading processes; images are read once and kept in memory.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["jsrt", "folders"] = "jsrt",
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        label_values: list[int] | None = None,
        subject_pattern: str | None = None,
        frame: FrameSpec = FrameSpec(64),
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="frame")
        self.check_settings(frame)
