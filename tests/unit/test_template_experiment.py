"""The experiment on meshes of other anatomy: what it draws, and that it runs on a few small organs."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyvista")
pytest.importorskip("trimesh")

EXPERIMENT = "template_meshes"


def test_each_number_changes_the_organ_and_none_leaves_the_template(evidence: Any) -> None:
    still, faces = evidence.organ(np.zeros(evidence.MODES), 2)
    np.testing.assert_allclose(still, evidence.ball(2)[0] * [1.5, 1.0, 0.8], rtol=1e-12)
    for mode in np.eye(evidence.MODES):
        moved, same = evidence.organ(mode, 2)
        assert 0.5 < np.linalg.norm(moved - still, axis=1).max() < 20
        np.testing.assert_array_equal(same, faces)


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.")
def test_a_small_run_gives_the_tables(evidence: Any) -> None:
    found = evidence.learned(count=12, trained=9, epochs=2, level=2)
    assert (found["vertices"], found["measured"]) == (162, 3)
    assert found["rms_mm"]["components"]["mean"] < found["rms_mm"]["mean mesh"]["mean"]
    ring = evidence.decimated(*evidence.surfaces()["ring"])
    assert ring["vertices"][:2] == [4608, 2304]
    text = evidence.markdown({"command": evidence.COMMAND, "pyramids": {"ring": ring}, "fit": found})
    assert "| ring | 4,608, 2,304," in text
    assert "Reconstruction of 3 drawn organs" in text
