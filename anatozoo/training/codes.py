"""Training of autoencoders of label maps, by denoising."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from anatozoo.data.base import strengths
from anatozoo.errors import ConfigError
from anatozoo.nn.labels import one_hot, swap_neighbours
from anatozoo.nn.soft_damage import SoftDamage, damage
from anatozoo.tasks.views import Maps
from anatozoo.training.module import ZooModule


class CodeModule(ZooModule):
    """An autoencoder of label maps in training: it learns to undo swaps of neighbouring pixels, or more.

    Args:
        swap_probability: probability that two neighbouring pixels are swapped.
        soft_damage: strengths of the soft damage that it learns to undo as well, fields of
            `anatozoo.nn.soft_damage.SoftDamage`; ``{}`` takes their defaults, None switches it off. A shape
            prior that shall tell implausible predictions by what the autoencoder would change needs it.
        **settings: see `ZooModule`.

    Raises:
        ConfigError: the probability or a strength is out of range.
    """

    organs: list[str]
    network: Any

    def __init__(
        self,
        *,
        swap_probability: float = 0.1,
        soft_damage: dict[str, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not 0 <= swap_probability <= 1:
            raise ConfigError(f"swap_probability={swap_probability} must be within 0 … 1.")
        self.swap_probability, self.soft_damage = swap_probability, soft_damage
        given = soft_damage or {}
        config = strengths(SoftDamage, "model.soft_damage", given)
        self._damage = None if soft_damage is None else config

    def corrupted(self, labels: Tensor) -> Tensor:
        """Labels (B, ...) as labels (B, C, ...) with swapped neighbours and, if so set, soft damage."""
        noisy = swap_neighbours(one_hot(labels, len(self.organs) + 1), self.swap_probability)
        return noisy if self._damage is None else damage(noisy, self._damage)

    def answer(self, batch: Mapping[str, Tensor]) -> Any:
        """Codes (B, K) and logits (B, C, ...) of the batch's corrupted ``labels``."""
        return self.network(self.corrupted(batch["labels"]))

    def maps(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> Maps:
        """The reconstruction with the clean labels."""
        truth = one_hot(batch["labels"], len(self.organs) + 1)
        return Maps(output[1].float().softmax(1), truth)

    def losses(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the reconstruction against the clean labels (B, ...)."""
        return {"reconstruction": F.cross_entropy(output[1].float(), batch["labels"].long())}
