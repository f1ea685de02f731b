"""The parts of the registration experiment that could be wrong without anybody seeing it."""

import importlib

import numpy as np
import pandas as pd
import pytest

from anatozoo.errors import DataError, GeometryError
from anatozoo.io.grid import Grid, GridImage

EXPERIMENT = "registration_evidence"


@pytest.fixture
def classical():
    return importlib.import_module("anatozoo.tasks.classical")


def blob(size, spacing, centre_mm, radii_mm=(25.0, 16.0)):
    """A bright ellipse on a dark ground, its centre given from the image's middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)]
    x, y = np.meshgrid(*axes)
    distance = ((x - centre_mm[0]) / radii_mm[0]) ** 2 + ((y - centre_mm[1]) / radii_mm[1]) ** 2
    pixels = 1 / (1 + np.exp(6 * (distance - 1)))
    return GridImage(pixels.astype(np.float32), Grid(size, spacing), "blob"), distance < 1


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_identity_lays_centre_on_centre_whatever_sizes_and_spacings(classical):
    moving, mask = blob((40, 60), (3.0, 2.0), (10, -5))
    fixed, truth = blob((90, 70), (1.5, 2.0), (10, -5))
    result = classical.centred_result("identity", moving, fixed, None)
    np.testing.assert_allclose(result.deformation_px, 0, atol=1e-4)
    np.testing.assert_allclose(result.jacobian, 1, atol=1e-4)
    assert overlap(result.warp(mask, "labels"), truth) > 0.95


def test_a_transform_is_carried_to_pixels_of_other_grids(classical):
    import SimpleITK as sitk

    moving, mask = blob((40, 60), (3.0, 2.0), (14, 3))
    fixed, truth = blob((90, 70), (1.5, 2.0), (10, -5))
    shift = sitk.TranslationTransform(2, (4.0, 8.0))  # from fixed to moving positions, millimetres
    result = classical.centred_result("shift", moving, fixed, shift)
    np.testing.assert_allclose(result.deformation_px, np.broadcast_to((4 / 1.5, 4.0), (70, 90, 2)), atol=1e-4)
    assert overlap(result.warp(mask, "labels"), truth) > 0.95


@pytest.mark.parametrize("name", ["bspline", "demons"])
def test_a_shifted_and_wider_shape_is_found(classical, name):
    moving, mask = blob((64, 64), (2.0, 2.0), (8, -6), (28.0, 14.0))
    fixed, truth = blob((64, 64), (2.0, 2.0), (-4, 4))
    # The demons of the table blur their field by more than this shape is large, as suits radiographs.
    fine = classical.Demons((8, 4, 2), (100, 100, 100), field_px=4.0)
    settings = {"bspline": classical.BSPLINE[2], "demons": fine}[name]
    result = getattr(classical, name)(moving, fixed, settings)
    assert overlap(mask, truth) < 0.65
    assert overlap(result.warp(mask, "labels"), truth) > 0.93
    assert result.folding_fraction < 0.01


def test_unknown_spacings_and_other_directions_are_refused(classical):
    image, _ = blob((32, 32), (2.0, 2.0), (0, 0))
    bare = GridImage(image.pixels, Grid((32, 32)), "bare")
    turned = GridImage(image.pixels, Grid((32, 32), (2.0, 2.0), None, (-1.0, 0, 0, -1.0)), "turned")
    with pytest.raises(GeometryError, match="spacing of bare"):
        classical.centred_result("identity", bare, image, None)
    with pytest.raises(GeometryError, match="directions"):
        classical.centred_result("identity", turned, image, None)


def test_the_chosen_pairs_are_always_the_same(evidence):
    pairs = [(m, f) for m in range(6) for f in range(6) if m != f]
    chosen = evidence.choose_pairs(pairs, 8)
    assert chosen == evidence.choose_pairs(pairs, 8)
    assert len(set(chosen)) == 8
    assert chosen == sorted(chosen)
    assert evidence.choose_pairs(pairs, None) == evidence.choose_pairs(pairs, 99) == pairs


def test_an_interrupted_run_goes_on_where_it_was_and_other_settings_begin_anew(evidence, tmp_path):
    image, mask = blob((32, 32), (2.0, 2.0), (0, 0))
    subjects = [evidence.Subject(f"case {i}", image, mask.astype(np.uint8)) for i in range(3)]
    calls = []

    def register(moving, fixed):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the power is gone")
        return evidence.centred_result("slow", moving, fixed, None)

    method = evidence.Method("slow", register, settings="one")
    of = {"data": "jsrt", "side": 32, "settings": "one"}
    pairs = [(0, 1), (1, 0), (1, 2), (2, 0)]

    def go(**other):
        cache = evidence.Cache(tmp_path / "rows.csv")
        known = cache.known(of | other, "slow")
        return evidence.measure(
            method, pairs, subjects, ["disc"], known, lambda row: cache.add(of | other, row)
        )

    with pytest.raises(RuntimeError, match="slow, case 1 to case 2: the power is gone"):
        go()
    first = go()
    assert len(calls) == 4 + 1 + 2  # one does not count, two were kept
    assert [row["dice/disc"] for row in first] == [1.0] * 4
    again = go()
    assert len(calls) == 7
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(first), check_like=True)
    go(settings="two")
    assert len(calls) == 7 + 5
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no cache"):
        evidence.Cache(tmp_path / "other.csv")


def test_the_first_model_is_compared_on_the_pairs_that_both_did(evidence):
    rows = []
    for m in range(5):
        for f in range(5):
            if m == f:
                continue
            pair = {"moving": str(m), "fixed": str(f)}
            rows.append({"method": "ours", **pair, "dice": 0.9 + 0.001 * f, "hd_mm": 5.0})
            if f < 3:
                rows.append({"method": "theirs", **pair, "dice": 0.8 + 0.001 * m, "hd_mm": 5.0})
    table = pd.DataFrame(rows)
    for metric in ("dice", "hd_mm"):
        table[f"{metric}/heart"] = table[metric]
    found = evidence.tests(table, "ours", ["heart"])["theirs"]
    assert found["dice"]["n"] == 12
    assert found["dice"]["difference"] == pytest.approx(0.1 + 0.001 * (1 - 27 / 12), abs=1e-9)
    assert found["dice"]["p"] < 0.01
    assert found["dice"]["p_images"] == pytest.approx(0.25)  # the least that three images can give
    assert found["hd_mm/heart"]["p"] == 1


def test_label_maps_are_compared_with_what_their_codes_stand_for(evidence):
    class Half:
        """An autoencoder that forgets the lower half."""

        def reconstruct(self, image):
            labels = sitk.GetArrayFromImage(image).copy()
            assert image.GetSpacing() == (2.0, 2.0)
            labels[16:] = 0
            return labels

    import SimpleITK as sitk

    image, mask = blob((32, 32), (2.0, 2.0), (0, 0))
    subjects = [evidence.Subject(f"case {i}", image, mask.astype(np.uint8)) for i in range(3)]
    found = evidence.reconstructed(Half(), subjects, ["disc"])
    assert found["n"] == 3
    assert found["dice"] == found["dice/disc"] == pytest.approx(2 / 3, abs=0.02)
    assert found["hd_mm"] > 10
    [head, _, row] = evidence.autoencoders_table({"half": found}, ["disc"])
    assert head.count("|") == row.count("|") == 9
    assert row.startswith("| half | 3 | 0.6")
