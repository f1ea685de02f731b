"""A classifier: from an image to one probability for each finding."""

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.classifier.network import Classifier
from anatozoo.tasks.scores import ScoreTask


class ClassifierModel(ScoreTask):
    """Scores findings in an image.

    The classifiers of Larrazabal et al., PNAS 2020, with any timm backbone.

    Args:
        findings: names of the findings, which are those of columns in tables.
        frame: square input of the network; see `anatozoo.frames.spec.FrameSpec`.
        encoder: ``"residual"``, which learns from scratch, or the name of a timm feature extractor, such as
            ``tf_efficientnet_lite0`` or the paper's ``densenet121``; see `anatozoo.nn.blocks.TimmEncoder`.
        dropout: share of the pooled features that training drops.
        check_view: whether `predict` flags images that are not upright frontal chest radiographs, see
            `anatozoo.tasks.chest_view`.
        temperature: what logits are divided by, see `anatozoo.tasks.scores.ScoreTask`.

    Raises:
        ConfigError: settings that are not possible.
    """

    network: Classifier

    def __init__(
        self,
        findings: list[str] = ["finding"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(224),
        encoder: str = "tf_efficientnet_lite0",
        dropout: float = 0.0,
        check_view: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(findings, frame, check_view, temperature)
        if self.side % 32:
            raise ConfigError(f"the frame's size={self.side} must be a multiple of 32.")
        self.encoder, self.dropout = encoder, dropout
        self.network = Classifier(len(self.findings), encoder, dropout)
