"""AC-RegNet: from two images to a deformation."""

from typing import Any, ClassVar, Literal

from torch import Tensor

from anatozoo.errors import ConfigError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.acregnet.network import Registration, RegNet
from anatozoo.nn.instance import optimise_field
from anatozoo.nn.registration_losses import smoothness_loss
from anatozoo.tasks.field import FieldTask, Similarity


class AcRegNetModel(FieldTask):
    """Registers a moving image to a fixed one by a deformation. Mansilla et al., Neural Networks 2020.

    Args:
        organs: names of the organs, in the order of their labels 1, 2, ...; may be empty.
        frame: size and resolution of the network's input; see `anatozoo.frames.spec.FrameSpec`.
        normalization: batch normalisation after ``"all"`` convolutions (the paper), after the ``"output"``
            only (the authors' port), or ``"none"``.
        double_elu: apply each decoder level's activation twice, as the authors' port does.
        dropout: dropout probability in the decoder.
        velocity: predict a stationary velocity field, which gives an invertible deformation.
        velocity_steps: squaring steps of the velocity field's integration.
        levels: number of resolutions, coarse to fine; 1 in the paper.
        similarity: ``"ncc"``, ``"lncc"`` (in windows), ``"mse"``, or ``"mi"`` for two modalities.
        window: side of the windows of ``"lncc"``.
        smoothness: ``"tv_sum"`` (the paper), ``"tv_mean"`` (the port), ``"diffusion"`` or ``"bending"``.
        smoothness_weight: weight of the smoothness term; 5e-5 in the paper for ``"tv_sum"``.
        instance_steps: optimisation steps by which `predict` refines the field of each pair.
        instance_lr: learning rate of these steps, about the change of the field per step in pixels.

    Raises:
        ConfigError: settings that contradict one another.
    """

    refines: ClassVar[bool] = True

    network: RegNet

    def __init__(
        self,
        organs: list[str] = ["lungs", "heart"],  # noqa: B006 - jsonargparse shows it, nothing changes it
        frame: FrameSpec = FrameSpec(64),
        normalization: Literal["output", "all", "none"] = "all",
        double_elu: bool = False,
        dropout: float = 0.5,
        velocity: bool = False,
        velocity_steps: int = 7,
        levels: int = 1,
        similarity: Similarity = "ncc",
        window: int = 9,
        smoothness: Literal["tv_sum", "tv_mean", "diffusion", "bending"] = "tv_sum",
        smoothness_weight: float = 5e-5,
        instance_steps: int = 0,
        instance_lr: float = 0.1,
    ) -> None:
        super().__init__(organs, frame, similarity, window)
        if min(smoothness_weight, instance_steps) < 0:
            raise ConfigError("smoothness_weight and instance_steps must not be negative.")
        self.normalization, self.double_elu, self.dropout = normalization, double_elu, dropout
        self.velocity, self.velocity_steps, self.levels = velocity, velocity_steps, levels
        self.smoothness, self.smoothness_weight = smoothness, smoothness_weight
        self.instance_steps, self.instance_lr = instance_steps, instance_lr
        self.network = RegNet(
            len(self.shape),
            normalization=normalization,
            double_elu=double_elu,
            dropout=dropout,
            velocity=velocity,
            velocity_steps=velocity_steps,
            levels=levels,
        )

    def forward(self, moving: Tensor, fixed: Tensor) -> Registration:
        """Register images (B, 1, ...) in [0, 1]."""
        found: Registration = self.network(moving, fixed)
        return found

    def weighted_smoothness(self, field: Tensor) -> Tensor:
        """The weighted smoothness loss of a field (B, n, ...)."""
        return self.smoothness_weight * smoothness_loss(self.smoothness, field)

    def refined(self, moving: Tensor, fixed: Tensor, answer: Any, steps: int) -> Tensor:
        """The field (1, n, ...) in pixels after `steps` optimisation steps on this pair."""
        field, _ = optimise_field(
            moving,
            fixed,
            answer.field,
            answer.inverse,
            lambda warped, f: self.dissimilarity(warped, fixed) + self.weighted_smoothness(f),
            steps=steps,
            lr=self.instance_lr,
            velocity_steps=self.velocity_steps,
        )
        return field
