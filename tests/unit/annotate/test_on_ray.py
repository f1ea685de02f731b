import sys
from types import SimpleNamespace

import pytest

from anatozoo.annotate import on_ray
from anatozoo.annotate.engines import Local
from anatozoo.annotate.on_ray import OnRay
from anatozoo.annotate.run import annotate
from anatozoo.errors import ConfigError, OutputError
from anatozoo.methods.hybridgnet.model import HybridGNetModel
from anatozoo.zoo.checkpoint import write_checkpoint_folder
from tests.support.annotating import bytes_of, settings
from tests.support.hybridgnets import small_hybridgnet


def test_ray_that_is_not_installed_is_said(model, scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'anatozoo\[ray\]'"):
        annotate(tmp_path / "out", settings(scans), engine=OnRay())


def test_a_lost_cluster_is_said(model, scans, tmp_path, monkeypatch):
    class RayError(Exception):
        pass

    def lost(*about):
        raise RayError("the head is gone")

    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=RayError), is_initialized=lambda: True)
    monkeypatch.setattr(on_ray, "_import_ray", lambda: ray)
    monkeypatch.setattr(on_ray, "_Actors", lost)
    with pytest.raises(OutputError, match=r"cluster of Ray was lost \(RayError\); .* goes on with the rest"):
        annotate(tmp_path / "out", settings(scans), engine=OnRay())


# Starts Ray and two processes with torch.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_write_the_same_bytes_and_one_that_dies_is_replaced(scans, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    folder = tmp_path / "hybridgnet-tiny"
    write_checkpoint_folder(small_hybridgnet(HybridGNetModel), folder, name=folder.name, version="1.0.0")
    how = {**vars(settings(scans, shard_size=2)), "model": str(folder)}
    same = type(settings(scans))(**how)
    annotate(tmp_path / "local", same, engine=Local(workers=1))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killed = []
        start = on_ray._Actors._give

        def give(self, waiting):
            start(self, waiting)
            if self.given and not killed:
                killed.append(self.ray.kill(self.actors[0]))

        monkeypatch.setattr(on_ray._Actors, "_give", give)
        done = []
        annotate(tmp_path / "ray", same, engine=OnRay(workers=2), on_shard=done.append)
        assert killed
        assert sorted(done) == [0, 1, 2, 3]
        assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")
        monkeypatch.setattr(on_ray, "versions", lambda: {"torch": "0"})
        with pytest.raises(ConfigError, match="a node of the cluster has torch"):
            annotate(tmp_path / "other", same, engine=OnRay(workers=1))
    finally:
        ray.shutdown()
