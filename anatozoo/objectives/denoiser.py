"""A denoiser of label maps, adapted to the network whose predictions it denoises."""

import torch
from torch import Tensor

from anatozoo.objectives.shape_code import ShapeCode, fit_to


class Denoiser(ShapeCode):
    """A frozen denoiser of label maps, adapted to a network's organs and resolution as `ShapeCode` is.

    Where the denoiser has ``lungs`` and the network each side, what it finds is dealt to the sides in the
    proportion in which they were given.
    """

    def forward(self, answer: Tensor) -> Tensor:
        """Denoised soft labels (B, 1 + organs, ...) float32 that sum to 1, of soft labels of that shape."""
        with torch.autocast(answer.device.type, enabled=False):
            values, size = answer.float(), tuple(answer.shape[2:])
            joined = values if self.merge is None else torch.einsum("kc,bc...->bk...", self.merge, values)
            clean = self.model(fit_to(joined, self.model.frame.shape)).float().softmax(1)
            clean = fit_to(clean, size)
            if self.merge is not None:
                parts = values + torch.finfo(torch.float16).tiny
                whole = torch.einsum("kc,bc...->bk...", self.merge, parts)
                clean = parts * torch.einsum("kc,bk...->bc...", self.merge, clean / whole)
            return clean / clean.sum(1, keepdim=True)
