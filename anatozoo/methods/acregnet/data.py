"""The data of AC-RegNet: ordered pairs of images of different subjects."""

from anatozoo.methods.frame_data import PairDataModule


class AcRegNetDataModule(PairDataModule):
    """Pairs for the second stage; see `anatozoo.methods.frame_data.PairDataModule`."""
