"""Pulling through the real huggingface_hub client, from a server on this machine that speaks its protocol."""

from pathlib import Path

import pytest

import anatozoo
from anatozoo.errors import ChecksumMismatch, DownloadError, OfflineMiss, OutputError, WeightsError
from anatozoo.zoo.hub import download, is_local, locate, resolve
from tests.support.hub_server import HubServer
from tests.support.zoo_fixtures import COMMIT, OTHER_COMMIT, published, write_manifest

FILES = ("config.json", "golden.safetensors", "model.safetensors")
WEIGHTS = "*model.safetensors"


def content(hub: HubServer, name: str) -> bytes:
    return hub.repos["toys/tiny"].files[name].content


def replace_files(hub: HubServer, **contents: bytes | None) -> None:
    """Change files of the unlisted repository's commit: `config__json=b"..."`; None takes a file away."""
    repo = hub.repos["toys/other"]
    files = {name: entry.content for name, entry in repo.files.items()}
    for key, value in contents.items():
        name = key.replace("__", ".")
        files.pop(name, None)
        if value is not None:
            files[name] = value
    repo.commits.clear()
    repo.head = None
    repo.put(files, oid=COMMIT)


def cached(tmp_path: Path) -> list[Path]:
    """Everything that the cache keeps of the weights: links and blobs, whole or in part."""
    weights = (tmp_path / "source" / "model.safetensors").stat().st_size
    return [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.stat().st_size == weights]


def test_a_published_checkpoint_is_pulled_once(hub: HubServer, tmp_path: Path) -> None:
    assert not is_local(anatozoo.info("tiny-toy"))
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert is_local(anatozoo.info("tiny-toy"))
    assert len(hub.requests) == 2 * len(FILES)  # a HEAD and a GET for each
    assert len(hub.storage_requests) == 2  # where the GET of a large file is sent on to
    assert hub.tokens_at_storage == 0
    assert all(f"/toys/tiny/resolve/{COMMIT}/" in request for request in hub.requests)
    hub.requests.clear()
    for offline in (None, True):
        folder = resolve("tiny-toy", offline=offline)
        assert (folder / "golden.safetensors").is_file()
    assert hub.requests == []
    assert len(hub.storage_requests) == 2


@pytest.mark.parametrize("repo_id", ["toys/tiny", "toys/other"])
def test_a_repository_is_pulled_by_its_commit(hub: HubServer, repo_id: str) -> None:
    assert anatozoo.load(f"hf:{repo_id}@{COMMIT}").checkpoint_name == "tiny-toy"
    hub.requests.clear()
    assert (
        anatozoo.load(f"hf:{repo_id}@{COMMIT}", offline=True, golden_check=True).checkpoint_name == "tiny-toy"
    )
    assert anatozoo.load(f"hf:{repo_id}@{COMMIT}").checkpoint_name == "tiny-toy"
    assert hub.requests == []


def test_a_repository_of_the_manifest_is_verified_against_it(hub: HubServer) -> None:
    assert locate(f"hf:toys/tiny@{COMMIT}").spec == anatozoo.info("tiny-toy")
    assert locate(f"hf:toys/other@{COMMIT}").spec is None


def test_the_copy_for_another_machine_comes_from_the_hub(hub: HubServer, tmp_path: Path) -> None:
    copy = download("tiny-toy", tmp_path / "usb")
    assert {path.name for path in copy.iterdir()} == set(FILES)
    assert not any(path.is_symlink() for path in copy.iterdir())


@pytest.mark.parametrize("name", ["tiny-toy", f"hf:toys/tiny@{COMMIT}", f"hf:toys/other@{COMMIT}"])
def test_wrong_bytes_are_fetched_again(hub: HubServer, name: str) -> None:
    hub.fault("flip", file=WEIGHTS, times=1)
    assert (resolve(name) / "model.safetensors").read_bytes() == content(hub, "model.safetensors")
    assert hub.faults[0].happened == 1


def test_wrong_bytes_twice_are_refused_and_not_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("flip", times=10)
    expected = hub.repos["toys/tiny"].files["model.safetensors"].sha256
    with pytest.raises(ChecksumMismatch, match=expected):
        resolve("tiny-toy")
    assert cached(tmp_path) == []
    hub.faults.clear()
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"


def test_a_cached_file_that_went_bad_is_replaced(hub: HubServer) -> None:
    weights = (resolve("tiny-toy") / "model.safetensors").resolve()
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(ChecksumMismatch):
        resolve("tiny-toy", offline=True)
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes() == content(hub, "model.safetensors")


def test_another_revision_is_loaded_with_a_warning(hub: HubServer, package: Path, tmp_path: Path) -> None:
    listed = published(tmp_path / "source")
    listed["hub"]["revision"] = OTHER_COMMIT
    write_manifest(package / "checkpoints_manifest.yaml", listed)
    with pytest.warns(UserWarning, match="cannot be verified against the manifest"):
        assert anatozoo.load("tiny-toy", revision=COMMIT).checkpoint_name == "tiny-toy"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "is gated: accept its terms there, then set HF_TOKEN"),
        (401, "RepoNotFound", "does not exist or is private"),
        (404, "RevisionNotFound", f"has no commit {COMMIT}"),
        (404, "EntryNotFound", "has no model.safetensors"),
        (403, "", "refuses this token"),
        (429, "", "is overloaded"),
        (500, "", "answered 500"),
    ],
)
def test_refusals_become_sentences(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    hub.fault("status", status=status, code=code)
    with pytest.raises(DownloadError, match=words) as caught:
        resolve("tiny-toy")
    assert hub.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repository_without_a_checkpoint_is_refused_before_the_weights_come(hub: HubServer) -> None:
    replace_files(hub, config__json=None, model__safetensors=b"", **{"pytorch_model__bin": b"\x80"})
    with pytest.raises(DownloadError, match=r"has no config\.json"):
        resolve(f"hf:toys/other@{COMMIT}")
    assert not any("model" in request for request in hub.requests)


def test_a_repository_with_a_pickle_in_disguise_is_refused(hub: HubServer) -> None:
    replace_files(hub, model__safetensors=b"\x80\x04\x95 pickled")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        anatozoo.load(f"hf:toys/other@{COMMIT}")


def test_no_hub_at_the_address(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    with pytest.raises(DownloadError, match=r"cannot reach http://127\.0\.0\.1:9: check the network"):
        resolve("tiny-toy")


def test_an_uncached_repository_offline(hub: HubServer) -> None:
    with pytest.raises(OfflineMiss, match=r"config\.json of toys/other at commit"):
        resolve(f"hf:toys/other@{COMMIT}", offline=True)
    assert hub.requests == []


def test_a_cache_that_cannot_be_written_is_named(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(OutputError, match="Set ANATOZOO_HOME to another folder"):
        resolve("tiny-toy")
