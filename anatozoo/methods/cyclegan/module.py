"""CycleGAN in training: two generators and two critics (discriminators), by one optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn
from torch.func import functional_call

from anatozoo.errors import ConfigError
from anatozoo.methods.cyclegan.model import CycleGANModel
from anatozoo.metrics.images import psnr, ssim
from anatozoo.tasks.cases import bare_cases, with_numbers
from anatozoo.training.module import ZooModule
from anatozoo.training.optim import Optim

if TYPE_CHECKING:
    from anatozoo.metrics.cases import Case

CRITICS = "critics"
"""What the critics are called among the parts of the module; weights of a checkpoint lack them."""
STATE = "anatozoo_cyclegan"
"""Key of a training checkpoint under which critics and pools are stored."""


@dataclass(frozen=True, eq=False)
class Translated:
    """What the generators make of a training batch; ``a`` is of the first domain, ``b`` of the second.

    Attributes:
        a: (n, 1, S, S), as given.
        b: (m, 1, S, S), as given.
        fake_a: `b` in the look of the first domain.
        fake_b: `a` in the look of the second domain.
        cycled_a: `fake_b`, translated back.
        cycled_b: `fake_a`, translated back.
        same_a: `a`, translated to the first domain, which it has already.
        same_b: `b`, translated to the second domain.
    """

    a: Tensor
    b: Tensor
    fake_a: Tensor
    fake_b: Tensor
    cycled_a: Tensor
    cycled_b: Tensor
    same_a: Tensor
    same_b: Tensor


class ImagePool:
    """Remembers translated images, so that a critic also sees those of earlier generators.

    Shrivastava et al., CVPR 2017: with even chances an image is shown, or an earlier one in its place.

    Args:
        size: how many it remembers; 0 shows each image as it is.
    """

    def __init__(self, size: int) -> None:
        self.size, self.images = size, list[Tensor]()

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, ...) to show, for these new ones."""
        shown = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
            elif self.size and float(torch.rand(())) < 0.5:
                place = int(torch.randint(self.size, ()))
                self.images[place], image = image.clone(), self.images[place].to(image)
            shown.append(image)
        return torch.stack(shown)


class CycleGANModule(ZooModule, CycleGANModel):
    """CycleGAN as a LightningModule.

    Zhu et al., ICCV 2017: least-squares adversarial terms with critics of patches, λ times the absolute
    difference of images translated there and back, and half of that of images of the domain that they are
    translated to. The published fit alternates steps of generators and critics. Both see the images that the
    generators made before either step, and neither term has a gradient in the other's weights, so that one
    step of one optimiser over both is the same; this fits into all that trainings of anatozoo have.

    Critics are needed in training alone: they are in the checkpoints of a fit, which goes on with them, and
    not among the weights of the model.

    Args:
        critic_width: channels of the first convolution of a critic, doubled by each that follows; 64 in the
            paper.
        critic_layers: of these, 3 in the paper, where a critic judges patches of 70 x 70 pixels.
        cycle_weight: λ, 10 in the paper.
        identity_weight: weight of images that need no change; λ / 2 in the paper, where it is used.
        pool: translated images that a critic remembers, 50 in the paper.
        optim: see `anatozoo.training.optim.Optim`.
        **settings: see `CycleGANModel` and `anatozoo.training.module.ZooModule`.

    Raises:
        ConfigError: settings that are not possible.
    """

    extra_links: ClassVar = {"domains": "domains"}

    def __init__(
        self,
        *,
        critic_width: int = 64,
        critic_layers: int = 3,
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        pool: int = 50,
        optim: Optim = Optim("adam", 2e-4, beta1=0.5, schedule="linear"),
        **settings: Any,
    ) -> None:
        super().__init__(optim=optim, **settings)
        if min(critic_width, critic_layers) < 1 or min(cycle_weight, identity_weight, pool) < 0:
            raise ConfigError(
                f"critic_width={critic_width} and critic_layers={critic_layers} must be at least 1, "
                f"cycle_weight={cycle_weight}, identity_weight={identity_weight} and pool={pool} not "
                "negative."
            )
        if self.side // 2**critic_layers < 4:
            raise ConfigError(
                f"critic_layers={critic_layers} leave nothing to judge of {self.side} pixels; take fewer."
            )
        self.critic_width, self.critic_layers, self.pool = critic_width, critic_layers, pool
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.critics = nn.ModuleList(
            PatchDiscriminator(2, critic_width, 1, num_layers_d=critic_layers, norm="INSTANCE")
            for _ in range(2)
        )
        self._pools = [ImagePool(pool) for _ in range(2)]
        self.register_state_dict_post_hook(_without_critics)
        self.register_load_state_dict_pre_hook(_with_own_critics)

    def answer(self, batch: Mapping[str, Tensor]) -> Translated:
        """What the generators make of the images of a batch, see `losses`."""
        there, back = self.network.there, self.network.back
        a, b = batch["image"][~batch["target"]], batch["image"][batch["target"]]
        fake_b, fake_a = there(a), back(b)
        return Translated(a, b, fake_a, fake_b, back(fake_b), there(fake_a), back(a), there(b))

    def losses(self, output: Translated, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Terms of the generators, and that of the critics.

        Args:
            output: see `answer`.
            batch: ``image`` (B, 1, S, S) in [0, 1] and ``target`` (B,) bool, true for images of the second
                domain; both domains are in it.
        """
        o = output
        pairs = ((o.a, o.fake_a), (o.b, o.fake_b))
        fooled = [
            _distance(_frozen(critic, fake), 1) for critic, (_, fake) in zip(self.critics, pairs, strict=True)
        ]
        judged = [
            (_distance(critic(true)[-1], 1) + _distance(critic(pool(fake))[-1], 0)) / 2
            for critic, pool, (true, fake) in zip(self.critics, self._pools, pairs, strict=True)
        ]
        cycle = _apart(o.cycled_a, o.a) + _apart(o.cycled_b, o.b)
        terms = {"adversarial": fooled[0] + fooled[1], "cycle": self.cycle_weight * cycle}
        if self.identity_weight:
            terms["identity"] = self.identity_weight * (_apart(o.same_a, o.a) + _apart(o.same_b, o.b))
        return terms | {"critics": judged[0] + judged[1]}

    def columns(self) -> list[str]:
        """PSNR of images translated there and back, and SSIM of translated images with those given.

        Neither says that a translation is good: an identity would have the best of both.
        """
        return ["psnr_cycle", "ssim"]

    def infer(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Images of a validation batch in the look of the other domain, and these translated back."""
        there, back = self.network.there, self.network.back
        image, target = batch["image"], batch["target"][:, None, None, None]
        made = torch.where(target, back(image), there(image))
        return made, torch.where(target, there(made), back(made))

    def cases(self, output: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> "list[Case]":
        """Translated images, in which no organ is known, with the numbers of `columns`."""
        made, cycled = (each.float() for each in output)
        image = batch["image"].float()
        inside = torch.ones_like(image[:, 0], dtype=torch.bool)
        values = [psnr(cycled, image, inside).tolist(), ssim(made, image, inside).tolist()]
        return with_numbers(bare_cases(made), dict(zip(self.columns(), values, strict=True)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store critics and pools too, with which a fit goes on; pools are those of the first process.

        Raises:
            DivergedError: see `anatozoo.training.module.ZooModule.on_save_checkpoint`.
        """
        super().on_save_checkpoint(checkpoint)
        pools = [list(pool.images) for pool in self._pools]
        checkpoint[STATE] = {"critics": self.critics.state_dict(), "pools": pools}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take critics and pools of the fit that goes on.

        Raises:
            ConfigError: see `anatozoo.training.module.ZooModule.on_load_checkpoint`.
        """
        super().on_load_checkpoint(checkpoint)
        if STATE in checkpoint:
            self.critics.load_state_dict(checkpoint[STATE]["critics"])
            for pool, images in zip(self._pools, checkpoint[STATE]["pools"], strict=True):
                pool.images = list(images)


def _frozen(critic: nn.Module, images: Tensor) -> Tensor:
    """What a critic says of images, without a gradient in its weights."""
    weights = {name: weight.detach() for name, weight in critic.named_parameters()}
    scores: Tensor = functional_call(critic, weights, (images,))[-1]
    return scores


def _distance(scores: Tensor, wanted: float) -> Tensor:
    """Mean squared distance of scores from what is wanted: 1 for true images, 0 for translated ones."""
    return (scores.float() - wanted).square().mean()


def _apart(found: Tensor, given: Tensor) -> Tensor:
    return (found.float() - given).abs().mean()


def _without_critics(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}{CRITICS}.")]:
        del state[name]


def _with_own_critics(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    own = getattr(module, CRITICS).state_dict(prefix=f"{prefix}{CRITICS}.")
    for name, value in own.items():
        state.setdefault(name, value)
