"""Orthogonal ensembles: filters that differ within a network, and from those of earlier members."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from anatozoo.errors import AnatozooError, ConfigError
from anatozoo.nn.filters import filter_layers, squared_cosines, unit_filters
from anatozoo.training.objective import Objective
from anatozoo.training.step import Step
from anatozoo.training.weights import read_state


class Orthogonal(Objective):
    """Makes filters of convolutions orthogonal, within a network and to the earlier members of an ensemble.

    Larrazabal, Martínez, Dolz and Ferrante, "Orthogonal Ensemble Networks for Biomedical Image Segmentation",
    MICCAI 2021: ``L = L_seg + Σ_layers (λ_self · ½ Σ_{i≠j} cos²(w_i, w_j) + λ_inter · mean_k Σ_ij cos²(w_i,
    w_j^k))``, where w_i is filter i of a layer and w_j^k filter j of this layer in member k. The sum is over
    layers, so that a weight means more in a deeper network.

    Members are trained one after another: the first one without `members`, each further one with all before
    it, which stay as they are. Their filters are stored in the run's ``.ckpt`` files, so that a resumed fit
    does not need the members again.

    Args:
        self_weight: λ_self, 0.1 in the paper; 0 switches the term off.
        inter_weight: λ_inter, 0.1 in the paper; 0 switches the term off.
        members: earlier members: checkpoint names, folders or ``.ckpt`` files of this architecture.
        layers: names of convolutions, or patterns such as ``"network.blocks.*"``; empty takes all but those
            of the image, the heads and those that cannot be orthogonal, see
            `anatozoo.nn.filters.filter_layers`.

    Raises:
        ConfigError: a weight is negative.
    """

    needs = frozenset()
    sources: ClassVar[frozenset[str]] = frozenset({"members"})

    def __init__(
        self,
        self_weight: float = 0.1,
        inter_weight: float = 0.1,
        members: list[str] = [],  # noqa: B006 - jsonargparse shows it, nothing changes it
        layers: list[str] = [],  # noqa: B006
    ) -> None:
        if not (0 <= self_weight < math.inf and 0 <= inter_weight < math.inf):
            raise ConfigError(
                f"self_weight={self_weight} and inter_weight={inter_weight} of Orthogonal must be "
                "finite and not negative."
            )
        self.self_weight, self.inter_weight = self_weight, inter_weight
        self.members, self.layers = list(members), list(layers)
        self._names: list[str] = []
        self._filters: dict[str, Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Choose the layers.

        Raises:
            ConfigError: there is none, or a pattern fits none.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        for pattern in self.layers:
            if not filter_layers(pl_module, [pattern]):
                every = filter_layers(pl_module, ["*"])
                raise ConfigError(
                    f"Orthogonal: no convolution of {type(pl_module).__name__} is called {pattern!r}; it has "
                    f"{', '.join(every[:5]) or 'none'}{', ...' if len(every) > 5 else ''}."
                )
        self._names = filter_layers(pl_module, self.layers)
        if not self._names:
            raise ConfigError(
                f"Orthogonal: {type(pl_module).__name__} has no convolution between its first and its last "
                "one; leave the objective out, or name layers by --objectives.layers."
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Read the members, unless they came with the checkpoint of a resumed fit.

        Raises:
            ConfigError: a member is of another architecture or named twice, or the fit that goes on had
                others.
        """
        own = {name: _weight_of(pl_module, name) for name in self._names}
        if self._filters and set(self._filters) != set(self._names):
            raise ConfigError(
                "Orthogonal: the fit that is to go on compared other layers; give its --objectives.layers."
            )
        if self.inter_weight and self.members:
            self._filters = self._read(own)
        self._filters = {name: value.to(own[name].device) for name, value in self._filters.items()}

    def _read(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The members' filters by layer; those of a fit that goes on where the members are no longer there.

        Raises:
            ConfigError: see `on_fit_start`.
        """
        try:
            states = [(source, read_state(source)) for source in self.members]
        except AnatozooError:
            if self._filters:
                return self._filters
            raise
        found = {
            name: torch.stack([_filters_of(state, source, name, own[name]) for source, state in states])
            for name in self._names
        }
        first = found[self._names[0]]
        for later in range(1, len(first)):
            for earlier in range(later):
                if all(torch.equal(each[earlier], each[later]) for each in found.values()):
                    raise ConfigError(
                        f"Orthogonal: {self.members[earlier]} and {self.members[later]} are the same "
                        "network; name each earlier member once."
                    )
        if self._filters and any(not torch.equal(found[n].cpu(), self._filters[n].cpu()) for n in found):
            raise ConfigError(
                "Orthogonal: the fit that is to go on had other earlier members; name those of before, or "
                "begin a fit of its own."
            )
        return found

    def terms(self, step: Step) -> dict[str, Tensor]:
        """``self_orthogonality`` and, with earlier members, ``inter_orthogonality``, weighted scalars."""
        weights = {"self_orthogonality": self.self_weight}
        if self._filters:
            weights["inter_orthogonality"] = self.inter_weight
        if not any(weights.values()):
            return {}
        found = [
            squared_cosines(unit_filters(_weight_of(step.module, name)), self._filters.get(name))
            for name in self._names
        ]
        sums = [torch.stack(values).sum() for values in zip(*found, strict=True)]
        return {
            name: weight * value
            for (name, weight), value in zip(weights.items(), sums, strict=False)
            if weight
        }

    def state_dict(self) -> dict[str, Any]:
        """The filters of the earlier members, as unit vectors."""
        return {"filters": {name: value.cpu() for name, value in self._filters.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the filters of the checkpoint.

        Raises:
            ConfigError: this fit names another number of members.
        """
        filters = state_dict.get("filters", {})
        stored = len(next(iter(filters.values()), ()))
        if self.inter_weight and self.members and len(self.members) != stored:
            raise ConfigError(
                f"Orthogonal: the fit that is to go on had {stored} earlier members, and "
                f"{len(self.members)} are named here; a fit with others begins anew."
            )
        self._filters = dict(filters)


def _weight_of(module: nn.Module, name: str) -> Tensor:
    weight: Any = module.get_submodule(name).weight
    found: Tensor = weight
    return found


def _filters_of(state: Mapping[str, Tensor], source: str, name: str, like: Tensor) -> Tensor:
    """A member's filters of a layer, (F, D) of length 1.

    Raises:
        ConfigError: the member has no such layer, or one of another shape.
    """
    weight = state.get(f"{name}.weight")
    if weight is None or weight.shape != like.shape:
        has = "has no such layer" if weight is None else f"has {tuple(weight.shape)} there"
        raise ConfigError(
            f"Orthogonal: the member {source} is of another architecture: it {has}, where the network has "
            f"{name} of {tuple(like.shape)}. Members of an orthogonal ensemble are trained with the same "
            "settings of the model."
        )
    return unit_filters(weight.detach())
