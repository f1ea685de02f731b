"""Ensembles as LightningModules, which validate and do not learn."""

from anatozoo.errors import ConfigError
from anatozoo.methods.ensemble.model import EnsembleModel, VolumeEnsembleModel
from anatozoo.training.module import ZooModule


class NotTrained(ZooModule):
    """A module that no fit can begin with."""

    def start(self) -> None:
        """Refuse a fit.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "an ensemble is not trained: fit its members one by one, and put them together by `anatozoo "
            "ensemble A B C --name NAME --to DIR`."
        )


class EnsembleModule(NotTrained, EnsembleModel):
    """An ensemble of images' segmenters as a LightningModule; see `EnsembleModel`."""


class VolumeEnsembleModule(NotTrained, VolumeEnsembleModel):
    """An ensemble of volumes' segmenters as a LightningModule; see `VolumeEnsembleModel`."""
