"""Models without networks for the page: of radiographs with samples, of hearts, of masks."""

import io
from typing import Any

import numpy as np
import PIL.Image

from anatozoo.io.grid import Grid, itk_image
from anatozoo.io.images import read_image
from anatozoo.io.read import read_stack
from anatozoo.io.writers import write_itk
from anatozoo.page.answers import Upload
from anatozoo.results.contours import ContourResult
from anatozoo.results.volume import VolumeResult
from anatozoo.service.models import Model
from anatozoo.zoo.kinds import CONTOURS
from tests.support.fake_model import FakeSegmenter
from tests.support.phantoms import make_chest_phantom
from tests.unit.serve.fakes import FakeRepairer


class Contours(FakeSegmenter):
    """Segments radiographs, with samples where they are asked for; fails for pictures of 70 columns."""

    kind, has_latent = CONTOURS, True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.checkpoint_name, self.samples = name, None

    def predict(self, x: Any) -> ContourResult:
        """Segment one image."""
        image = read_image(x)
        if image.size[0] == 70:
            raise ValueError("of the patient Doe^Jane")
        result: Any = self._result(image)
        if self.samples is None:
            return result
        from dataclasses import replace

        sigma = {organ: np.full_like(points, 2.5) for organ, points in result.landmarks.items()}
        return replace(result, sigma=sigma, samples=self.samples)


class Hearts:
    """Labels the bright voxels of a volume."""

    checkpoint_version, organs, shape = "1.0.0", ("left_ventricle",), (8, 16, 16)

    def __init__(self, name: str) -> None:
        self.checkpoint_name = name

    def predict(self, x: Any, *, spacing_mm: Any = None) -> VolumeResult:
        """Segment one volume."""
        image = read_stack(x, spacing_mm=spacing_mm)
        labels = (image.pixels > image.pixels.mean()).astype(np.uint8)
        return VolumeResult(
            self.checkpoint_name,
            "1.0.0",
            str(image.source),
            image.grid,
            self.organs,
            labels,
            pixels=image.pixels,
        )

    def predict_batch(self, xs: Any, batch_size: int = 1) -> Any:
        """Segment several."""
        return map(self.predict, xs)


def fake(name: str, **options: Any) -> Any:
    """A model of the kind that a checkpoint of this name is."""
    if name.startswith("postdae"):
        model = FakeRepairer()
        model.checkpoint_name = name
        return model
    return Hearts(name) if name.startswith("acnn") else Contours(name)


def models(*names: str) -> dict[str, Model]:
    """Models of these names."""
    return {name: Model(fake(name)) for name in names}


def upload(content: bytes, name: str = "scan.png") -> Upload:
    """One file."""
    return Upload(name, content, (len(content),))


def radiograph(width: int = 96) -> bytes:
    """A phantom as PNG."""
    file = io.BytesIO()
    PIL.Image.fromarray(make_chest_phantom(width, 100).image).save(file, "PNG")
    return file.getvalue()


def heart(folder: Any) -> bytes:
    """A volume of six slices, the fourth of which shows most, as gzipped NIfTI."""
    volume = np.random.default_rng(0).normal(100, 5, (6, 24, 20)).astype(np.float32)
    for z, side in enumerate((0, 2, 4, 8, 4, 2)):
        volume[z, 4 : 4 + side, 4 : 4 + side] = 1000
    path = write_itk(
        folder / "h.nii.gz", itk_image(volume, Grid((20, 24, 6), (1.0, 1.0, 8.0))), units_known=True
    )
    return path.read_bytes()
