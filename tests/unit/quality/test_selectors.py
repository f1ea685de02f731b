"""Atlas images chosen by latents, on generated radiographs and with latents that are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from anatozoo.errors import ConfigError, DataError, UnknownCheckpoint
from anatozoo.frames.spec import FrameSpec
from anatozoo.io.grid import GridImage
from anatozoo.methods.affinereg.module import AffineRegModule
from anatozoo.quality import Atlas, build_atlas, register_to_atlas, selector_of
from anatozoo.quality.selectors import likeness
from anatozoo.serve.quality import Judge
from anatozoo.tasks.engines import Demons
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.chest_data import write_chest_data
from tests.unit.quality.test_rca import Shift

ORGANS = ("lungs", "heart")
SIDE = 48


class Halves:
    """A selector whose latents are the brightness of both halves of an image."""

    def __init__(self, name: str = "halves-test", version: str = "1.0.0", digest: str = "0" * 64) -> None:
        self.name, self.version, self.digest = name, version, digest

    def embed(self, image: GridImage) -> npt.NDArray[np.float32]:
        left, right = np.array_split(image.pixels, 2, axis=-1)
        return np.asarray([left.mean(), 2 * right.mean()], np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chest_data(tmp_path_factory.mktemp("chest"), {"train": 6, "val": 2}, side=64)


@pytest.fixture(scope="module")
def atlas(root: Path) -> Atlas:
    return build_atlas(root, ORGANS, name="p", layout="jsrt", image_size=SIDE, selector=Halves())


def checkpoint(folder: Path, seed: int = 0) -> str:
    """A folder with an affine network of random weights."""
    torch.manual_seed(seed)
    model = AffineRegModule(widths=[4, 8, 8], latent=8, hidden=16, cells=2, frame=FrameSpec(32))
    write_checkpoint_folder(model, folder, name="affinereg-test", version="1.0.0", half=False)
    return str(folder)


def test_latents_in_the_same_direction_come_first(atlas: Atlas) -> None:
    image = atlas.images[2].image
    mine = Halves().embed(image)
    found = {each.id: Halves().embed(each.image) for each in atlas.images}
    mean = np.mean(list(found.values()), axis=0)
    cosines = {
        name: float((each - mean) @ (mine - mean) / np.linalg.norm(each - mean))
        for name, each in found.items()
    }
    nearest = atlas.nearest(image, 6, selector=Halves())
    assert nearest[0].id == atlas.images[2].id
    assert [each.id for each in nearest] == sorted(cosines, key=lambda name: -cosines[name])
    left = atlas.nearest(image, 6, selector=Halves(), exclude=[nearest[0].id])
    assert [each.id for each in left] == [each.id for each in nearest[1:]]
    by_thumbnail = [each.id for each in atlas.nearest(image, 6)]
    assert by_thumbnail == [each.id for each in atlas.nearest(image, 6, selector="thumbnail")]
    assert by_thumbnail != [each.id for each in nearest]
    chosen = register_to_atlas(image.pixels, atlas, engine=Shift(), count=3, selector=Halves()).registrations
    assert [each.id for each, _ in chosen] == [each.id for each in nearest[:3]]


def test_long_latents_are_not_preferred() -> None:
    latents = np.asarray([[1, 0.1], [0, 1], [-1, -0.1], [9, 9]], np.float32)
    products = latents @ latents[0]
    assert products.argmax() == 3
    for i, each in enumerate(latents):
        alike = likeness(latents, each)
        assert alike.argmax() == i
        assert alike.max() == pytest.approx(1)
        assert alike.min() >= -1.001
    assert likeness(latents[:1], latents[0]).tolist() == [0]
    assert likeness(latents, latents.mean(0)).tolist() == [0, 0, 0, 0]


def test_names_and_latents_stay_in_one_order(atlas: Atlas, tmp_path: Path) -> None:
    """In the published pipeline they do not, so that its choice of atlas images is nearly random."""
    turned = replace(atlas, images=atlas.images[::-1])
    for each in (atlas, turned):
        each.save(tmp_path / "a")
        read = Atlas.load(tmp_path / "a")
        assert read.latents_of == atlas.latents_of
        assert [image.id for image in read.images] == [image.id for image in each.images]
        for image in read.images:
            assert image.latent is not None
            np.testing.assert_array_equal(image.latent, Halves().embed(image.image))


def test_latents_of_another_source_are_refused(root: Path, atlas: Atlas) -> None:
    image = atlas.images[0].image
    for other, said in (
        (Halves(name="other-test"), r"latents of halves-test 1\.0\.0, the selector is other-test 1\.0\.0"),
        (Halves(version="2.0.0"), r"the selector is halves-test 2\.0\.0"),
        (Halves(digest="1" * 64), r"the selector is halves-test 1\.0\.0 \(weights 11111111\)"),
    ):
        with pytest.raises(DataError, match=said):
            atlas.nearest(image, 1, selector=other)
        with pytest.raises(DataError, match="Build the atlas again"):
            Judge(atlas, Demons(), selector=other)
    bare = build_atlas(root, ORGANS, name="bare", layout="jsrt", image_size=SIDE)
    with pytest.raises(DataError, match="the atlas bare holds no latents; build it with the selector halves"):
        register_to_atlas(image.pixels, bare, engine=Shift(), selector=Halves())
    with pytest.raises(ConfigError, match="name a checkpoint"):
        bare.with_latents("thumbnail")
    mixed = (atlas.images[0], *bare.images[1:])
    with pytest.raises(DataError, match="do not all have latents"):
        replace(atlas, images=mixed)
    with pytest.raises(DataError, match="do not all have latents"):
        replace(atlas, latents_of=None)


def test_files_of_atlases_with_and_without_latents(atlas: Atlas, tmp_path: Path) -> None:
    _, about = atlas.save(tmp_path / "a")
    content = json.loads(about.read_text())
    # As earlier releases wrote it.
    about.write_text(json.dumps({key: value for key, value in content.items() if key != "latents_of"}))
    assert Atlas.load(about).latents_of is None
    bare = replace(atlas, latents_of=None, images=tuple(replace(each, latent=None) for each in atlas.images))
    bare.save(tmp_path / "b")
    other = json.loads((tmp_path / "b.json").read_text())
    assert other["latents_of"] is None
    (tmp_path / "b.json").write_text(json.dumps(other | {"latents_of": content["latents_of"]}))
    with pytest.raises(DataError, match="not an atlas of anatozoo"):
        Atlas.load(tmp_path / "b")


def test_a_checkpoint_selects(root: Path, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "one")
    atlas = build_atlas(root, ORGANS, name="p", layout="jsrt", image_size=SIDE, selector=folder)
    assert atlas.latents_of is not None
    assert (atlas.latents_of.name, atlas.latents_of.version) == ("affinereg-test", "1.0.0")
    assert len({np.asarray(each.latent).tobytes() for each in atlas.images}) == len(atlas)
    assert len(atlas.nearest(atlas.images[0].image, 2, selector=folder)) == 2
    # Name and version are the same, the weights are not.
    with pytest.raises(DataError, match="weights"):
        atlas.nearest(atlas.images[0].image, 2, selector=checkpoint(tmp_path / "two", seed=1))
    with pytest.raises(ConfigError, match="gives no latents"):
        selector_of("hybridgnet-jsrt")
    with pytest.raises(UnknownCheckpoint):
        selector_of("affinereg-nowhere")


def test_who_chose_is_a_part_of_what_judged(atlas: Atlas) -> None:
    plain, other = Judge(atlas, Demons()), Judge(atlas, Demons(), selector=Halves())
    assert other.checkpoint_name == f"{plain.checkpoint_name} by halves-test"
    assert other.checkpoint_version == f"{plain.checkpoint_version}-1.0.0-00000000"
