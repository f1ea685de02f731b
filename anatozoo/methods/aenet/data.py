"""The data of AENet: label maps in the frame of the registration network."""

from anatozoo.methods.frame_data import FrameDataModule


class AeNetDataModule(FrameDataModule):
    """Label maps for the first stage; see `anatozoo.methods.frame_data.FrameDataModule`."""
