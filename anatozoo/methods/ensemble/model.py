"""Ensembles that predict: the mean of the members' probabilities, and how far the members differ."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.methods.ensemble.members import MeanOfMembers, Member, build_members
from anatozoo.metrics.ensembles import disagreement, vote_variance
from anatozoo.results.shares import FrameProbabilities
from anatozoo.tasks.labels import LabelTask, painted
from anatozoo.tasks.signature import Signature
from anatozoo.tasks.volumes import Look, VolumeTask

if TYPE_CHECKING:
    from anatozoo.frames.geometry import Geometry
    from anatozoo.io.grid import GridImage
    from anatozoo.io.images import Image
    from anatozoo.results.segmentation import SegmentationResult

Floats = npt.NDArray[np.float32]


def _of_many(name: str) -> ConfigError:
    return ConfigError(
        f"{name} is an ensemble of several networks, whose answers are compared; export its members one by "
        "one, and leave the engine out."
    )


class EnsembleModel(LabelTask):
    """Segments images by the mean probability of several networks.

    Organs, frame and the check of the view are those of the members, see `anatozoo.tasks.labels.LabelTask`.
    Results also hold the variance of the members' probabilities and how far their masks disagree, see
    `anatozoo.results.votes.Votes`.

    Args:
        members: of each member ``method`` and ``settings``, and where it comes from: ``name``, ``version``,
            ``sha256``.
        temperature: what logits of the mean are divided by where probabilities are asked for;
            `anatozoo calibrate` fits it. The members' own temperatures do not count.

    Raises:
        ConfigError: fewer than two members, or members that do not go together.
    """

    votes: ClassVar[bool] = True

    def __init__(self, members: list[Member], temperature: float = 1.0) -> None:
        models = build_members(members, LabelTask)
        first = models[0]
        check_view = any(model.check_view for model in models)
        super().__init__(first.organs, first.frame, check_view, first.output, temperature)
        self.members = [dict(member) for member in members]
        self.network = MeanOfMembers(models, independent=self.output == "organs")

    @property
    def models(self) -> list[LabelTask]:
        """The members' models."""
        return list(self.network.members)  # type: ignore[arg-type]

    def signature(self) -> Signature:
        """There is none: results need what each member says.

        Raises:
            ConfigError: always.
        """
        raise _of_many(self.checkpoint_name)

    def _answers(self, batch: Tensor) -> Sequence[Floats]:
        """Of each image the probabilities of all members, (members, C, S, S)."""
        each = [np.asarray(list(model._answers(batch)), np.float32) for model in self.models]
        return list(np.stack(each, axis=1))

    def _result(self, image: "Image", geometry: "Geometry", answer: Floats) -> "SegmentationResult":
        result: Any = super()._result(image, geometry, answer.mean(0))
        apart = self.output == "organs"
        variance = geometry.image_to_source(vote_variance(answer if apart else answer[:, 1:]))
        labels = painted(torch.from_numpy(answer > 0.5)).numpy() if apart else answer.argmax(1)
        voted: SegmentationResult = replace(
            result,
            variance=variance.clip(0, None),
            disagreement=disagreement(labels),
            members=len(self.members),
            shares=FrameProbabilities.of(self.organs, answer.mean(0)[not apart :], geometry.image_to_source),
        )
        return voted


class VolumeEnsembleModel(VolumeTask):
    """Segments volumes by the mean probability of several networks.

    Organs, frame and `one_part` are those of the members, see `anatozoo.tasks.volumes.VolumeTask`; the rest
    as `EnsembleModel`.

    Args:
        members: see `EnsembleModel`.
        temperature: see `EnsembleModel`.

    Raises:
        ConfigError: see `EnsembleModel`.
    """

    votes: ClassVar[bool] = True

    def __init__(self, members: list[Member], temperature: float = 1.0) -> None:
        models = build_members(members, VolumeTask)
        first = models[0]
        one_part = any(model.one_part for model in models)
        super().__init__(first.organs, first.frame, one_part, temperature)
        self.members = [dict(member) for member in members]
        self.sees_parts = first.sees_parts
        self.network = MeanOfMembers(models)

    @property
    def models(self) -> list[VolumeTask]:
        """The members' models."""
        return list(self.network.members)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1 + organs, D, H, W) of images (B, 1, D, H, W) in [0, 1]."""
        logits: Tensor = self.network(image)
        return logits

    def signature(self) -> Signature:
        """There is none: results need what each member says.

        Raises:
            ConfigError: always.
        """
        raise _of_many(self.checkpoint_name)

    def _look(self, stack: "GridImage", part: float | None) -> Look:
        """Every member looks at the same part of the volume."""
        looks = [model._look(stack, part) for model in self.models]
        votes = np.stack([look.probability for look in looks])
        flags = tuple(dict.fromkeys(flag for look in looks for flag in look.flags))
        return Look(looks[0].frame, votes.mean(0), flags, votes)

    def _votes(self, look: Look) -> dict[str, Any]:
        assert look.votes is not None
        variance = look.frame.to_source(vote_variance(look.votes[:, 1:]))
        return {
            "variance": variance.clip(0, None),
            "disagreement": disagreement(look.votes.argmax(1)),
            "members": len(self.members),
            "shares": FrameProbabilities.of(self.organs, look.probability[1:], look.frame.to_source),
        }
