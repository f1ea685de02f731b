"""Converted weights see the grey values that the authors' code gave them, from the image file on."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import anatozoo
from anatozoo.training.conversion import convert_file


def converted(shared: Path, tmp_path: Path, method: str, name: str, **options: Any) -> Any:
    folder = convert_file(method, shared / "parity" / f"{name}.pt", tmp_path / "weights", **options)
    return anatozoo.load(str(folder))


def picture(values: np.ndarray, path: Path, white: float) -> Path:
    """A TIFF file of floating point, so that nothing is rounded, whose white is 1, 255, 4096 or 65535."""
    PIL.Image.fromarray(np.float32(values * white)).save(path)
    return path


@pytest.mark.parametrize("white", [1.0, 255.0, 4096.0, 65535.0])
@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        ("hybridgnet", "hybridgnet_tmi_128", {"style": "tmi"}),
        ("unet", "unet_tmi_128", {"image_size": 128}),
    ],
)
def test_the_network_sees_what_the_authors_gave_it(
    shared: Path, tmp_path: Path, method: str, name: str, options: dict[str, Any], white: float
) -> None:
    module = converted(shared, tmp_path, method, name, **options)
    assert module.settings()["frame"]["intensity"] == module.frame.intensity == "bits"
    with np.load(shared / "parity" / f"{name}.npz") as file:
        image, truth = file["image"], torch.from_numpy(file["out0"]).float()
    # Its darkest value is far from 0: stretching percentiles would show.
    assert image.min() > 0.1
    path = picture(image, tmp_path / "chest.tiff", white)
    answers = []
    network = module.network
    network.register_forward_hook(lambda _, inputs, output: answers.append((inputs[0], output)))
    module.predict(path)
    seen, answer = answers[0]
    np.testing.assert_allclose(seen[0, 0].numpy(), image, atol=1e-6)
    if method == "unet":  # logits are as large as 16 with these random weights
        answer, truth = answer.softmax(1), truth.softmax(1)
    found = getattr(answer, "landmarks", answer)
    torch.testing.assert_close(found.reshape(truth.shape), truth, rtol=0, atol=1e-4)


def test_a_pair_is_registered_as_the_authors_do(shared: Path, tmp_path: Path) -> None:
    module = converted(shared, tmp_path, "acregnet", "acregnet_regnet_64")
    with np.load(shared / "parity" / "acregnet_64.npz") as file:
        pair = {role: np.squeeze(file[role]) for role in ("moving", "fixed")}
        flow = torch.from_numpy(file["flow"]).float()
    paths = [picture(values, tmp_path / f"{role}.tiff", 255) for role, values in pair.items()]
    answers = []
    module.network.register_forward_hook(lambda _, inputs, output: answers.append((inputs, output)))
    module.predict(*paths)
    (moving, fixed, *_), output = answers[0]
    for seen, role in ((moving, "moving"), (fixed, "fixed")):
        np.testing.assert_allclose(seen[0, 0].numpy(), pair[role], atol=1e-6)
    torch.testing.assert_close(output.field, flow, rtol=0, atol=1e-4)
