from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import anatozoo
from anatozoo.errors import ChecksumMismatch, ConfigError, OfflineMiss, WeightsError
from anatozoo.zoo.golden import run_golden, write_golden
from anatozoo.zoo.verification import verify
from tests.support.zoo_fixtures import TinyModule, entry, golden_image, published, write_manifest, write_tiny

BUNDLED = Path(anatozoo.__file__).parent / "checkpoints"


def test_golden_test_of_the_same_weights_passes(package: Path, bundled: TinyModule) -> None:
    found = verify("tiny-toy", golden=True)
    assert found.checked
    assert found.golden is not None
    assert 0 < found.golden.difference < 0.01  # float16 storage moves landmarks a little
    assert (found.golden.tolerance, found.golden.form.unit) == (0.5, "px")
    assert set(found.files) == {"model.safetensors", "config.json", "golden.safetensors"}


def test_verify_without_golden_imports_no_network(package: Path, bundled: TinyModule) -> None:
    found = verify("tiny-toy")
    assert found.golden is None


def test_a_landmark_beyond_the_tolerance_fails(tmp_path: Path, tiny_method: None) -> None:
    module = write_tiny(tmp_path)
    with torch.no_grad():
        module.offsets[3, 0] += 0.4
    assert run_golden(module, tmp_path).difference == pytest.approx(0.4, abs=1e-6)
    with torch.no_grad():
        module.offsets[3, 0] += 0.2
    with pytest.raises(WeightsError, match=r"a landmark of heart is 0\.600 px from where it was"):
        run_golden(module, tmp_path)


def test_not_a_number_fails(tmp_path: Path, tiny_method: None) -> None:
    module = write_tiny(tmp_path)
    with torch.no_grad():
        module.offsets[0, 0] = float("nan")
    with pytest.raises(WeightsError, match="nan px"):
        run_golden(module, tmp_path)


@pytest.mark.parametrize("missing", ["image", "landmarks/heart", "tolerance"])
def test_a_golden_file_that_lacks_something_is_refused(
    tmp_path: Path, tiny_method: None, missing: str
) -> None:
    module = write_tiny(tmp_path)
    path = tmp_path / "golden.safetensors"
    tensors = load_file(path)
    metadata = {} if missing == "tolerance" else {"tolerance_px": "0.5"}
    save_file({key: value for key, value in tensors.items() if key != missing}, path, metadata=metadata)
    with pytest.raises(WeightsError, match="is not a golden test"):
        run_golden(module, tmp_path)


def test_landmarks_of_other_organs_are_refused(tmp_path: Path, tiny_method: None) -> None:
    write_tiny(tmp_path)
    with pytest.raises(WeightsError, match="other landmarks"):
        run_golden(TinyModule(nodes=6), tmp_path)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)])
def test_a_golden_image_is_grey_and_8_bit(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="uint8"):
        write_golden(TinyModule(), image, tmp_path)


def test_verify_of_a_folder_has_nothing_to_compare_with(tmp_path: Path, package: Path) -> None:
    write_tiny(tmp_path / "mine", name="tiny-mine")
    found = verify(tmp_path / "mine", golden=True)
    assert (found.name, found.checked) == ("tiny-mine", False)
    assert found.golden is not None


def test_verify_finds_another_checkpoints_files(package: Path, tiny_method: None) -> None:
    folder = package / "checkpoints" / "tiny-toy"
    write_tiny(folder, name="tiny-other")
    write_manifest(package / "checkpoints_manifest.yaml", entry(folder))
    with pytest.raises(WeightsError, match=r"says that it is tiny-other 1\.0\.0"):
        verify("tiny-toy")


def test_verify_finds_a_changed_file(package: Path, bundled: TinyModule) -> None:
    write_golden(bundled, golden_image()[:, ::-1], package / "checkpoints" / "tiny-toy")
    with pytest.raises(ChecksumMismatch):
        verify("tiny-toy")


def test_verify_never_downloads(package: Path, tmp_path: Path, tiny_method: None) -> None:
    write_tiny(tmp_path / "source")
    write_manifest(package / "checkpoints_manifest.yaml", published(tmp_path / "source"))
    with pytest.raises(OfflineMiss):
        verify("tiny-toy")


@pytest.mark.parametrize(
    "path", sorted(BUNDLED.glob("*/golden.safetensors")), ids=lambda path: path.parent.name
)
def test_no_bundled_golden_test_expects_an_empty_mask(path: Path) -> None:
    stored = load_file(path)
    assert "mask" not in stored or stored["mask"].any()
