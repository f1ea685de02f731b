"""What every fit does, whatever the method."""

from pathlib import Path

import lightning as L
import pytest
import torch

from anatozoo.errors import DivergedError
from anatozoo.frames.spec import FrameSpec
from anatozoo.methods.affinereg.module import AffineRegModule


def test_weights_that_are_no_numbers_do_not_replace_good_ones(tmp_path: Path) -> None:
    module = AffineRegModule(organs=["heart"], frame=FrameSpec(32))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_model_summary=False, max_steps=0)
    trainer.strategy.connect(module)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    good = path.read_bytes()
    name, weight = next(iter(module.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = torch.nan
    with pytest.raises(DivergedError, match=rf"{name} and 0 more of \d+ tensors .* 32-true"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == good
