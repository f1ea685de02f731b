"""The members of an ensemble: built from their settings, checked to go together, and their mean."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.tasks.labels import LabelTask
from anatozoo.tasks.volumes import VolumeTask
from anatozoo.zoo.registry import find_method

Model = TypeVar("Model", LabelTask, VolumeTask)
Member = dict[str, Any]
"""A member in ``config.json``: ``name``, ``version`` and ``sha256`` of the checkpoint that it was made of, by
which people know it again, and ``method`` and ``settings``, which make its network."""
MOST = 100
"""Members at most."""


class MeanOfMembers(nn.Module):
    """A network whose output has the mean of the members' probabilities.

    Args:
        members: networks, or models that are called like one.
        independent: the channels are probabilities of their own, by a sigmoid; else one softmax over all.
    """

    def __init__(self, members: Sequence[nn.Module], independent: bool = False) -> None:
        super().__init__()
        self.members, self.independent = nn.ModuleList(members), independent

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, ...) float32 whose softmax, or sigmoid, is the mean of the members' probabilities."""
        logits = torch.stack([member(image).float() for member in self.members])
        if self.independent:
            return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
        return logits.log_softmax(2).logsumexp(0) - math.log(len(self.members))


def build_members(members: Sequence[Mapping[str, Any]], kind: type[Model]) -> list[Model]:
    """The members' models, without weights.

    Args:
        members: see `Member`.
        kind: `LabelTask` or `VolumeTask`, what all must be.

    Raises:
        ConfigError: there are fewer than two or more than 100, one is no mapping with a method and settings,
            is of another kind or an ensemble, or they do not go together.
    """
    if not isinstance(members, Sequence) or not 2 <= len(members) <= MOST:
        count = len(members) if isinstance(members, Sequence) else members
        raise ConfigError(f"an ensemble has 2 to {MOST} members, not {count!r}.")
    built: list[tuple[str, Model]] = []
    for number, member in enumerate(members, start=1):
        stated = dict(member) if isinstance(member, Mapping) else {}
        method, settings = stated.get("method"), stated.get("settings")
        if not isinstance(method, str) or not isinstance(settings, Mapping):
            raise ConfigError(f"member {number} of the ensemble lacks its method or its settings.")
        name = str(stated.get("name") or f"member {number}")
        entry = find_method(method)
        cls = entry.model_class()
        if not issubclass(cls, kind) or entry.package == __package__:
            raise ConfigError(
                f"{name} is of the method {method}, which cannot be a member here: members of an ensemble "
                f"are single networks that give labels of {'images' if kind is LabelTask else 'volumes'}."
            )
        try:
            built.append((name, cls(**settings)))
        except AnatozooError:
            raise
        except Exception as error:  # constructors fail on values that nobody meant in any way they like
            raise ConfigError(f"{name}: {cls.__name__} does not take its settings: {error}.") from error
    check_together(built)
    return [model for _, model in built]


def check_together(members: Sequence[tuple[str, LabelTask | VolumeTask]]) -> None:
    """Refuse members whose probabilities cannot be averaged.

    Args:
        members: names and models, at least one.

    Raises:
        ConfigError: they differ in kind, organs, frame or in what their channels are; the message says how.
    """
    (first, reference), *others = members
    for name, model in others:
        for what, ours, theirs in zip(
            ("kind", "organs", "frame", "output"), _facts(reference), _facts(model), strict=True
        ):
            if ours != theirs:
                raise ConfigError(
                    f"{first} and {name} cannot be members of one ensemble: they differ in their {what}, "
                    f"{ours} and {theirs}. Members have the same organs, in one order, and the same frame."
                )


def _facts(model: LabelTask | VolumeTask) -> tuple[str, str, str, str]:
    if isinstance(model, LabelTask):
        return "labels of images", ", ".join(model.organs), str(model.frame), model.output
    seen = "windows of a volume" if model.sees_parts else "one frame of a volume"
    return "labels of volumes", ", ".join(model.organs), str(model.frame), seen
