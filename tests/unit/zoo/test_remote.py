"""Pulling through the real huggingface_hub client, from a server on this machine that speaks its protocol."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import anatozoo
from anatozoo.errors import ChecksumMismatch, DownloadError, OfflineMiss, OutputError, WeightsError
from anatozoo.zoo.hub import download, is_local, resolve
from tests.zoo_fixtures import COMMIT, OTHER_COMMIT, published, write_manifest, write_tiny


class ToyHub(ThreadingHTTPServer):
    """Serves the files of one repository at one commit, and misbehaves on request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.requests: list[str] = []
        self.status = 200
        self.error_code = ""
        self.wrong_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ToyHub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        prefix = f"/toys/tiny/resolve/{COMMIT}/"
        if self.server.status != 200:
            return self.refuse(self.server.status, self.server.error_code)
        if not self.path.startswith("/toys/tiny/"):
            return self.refuse(404, "RepoNotFound")
        if not self.path.startswith(prefix):
            return self.refuse(404, "RevisionNotFound")
        content = self.server.files.get(self.path.removeprefix(prefix))
        if content is None:
            return self.refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            if self.server.wrong_bytes:
                self.server.wrong_bytes -= 1
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.wfile.write(content)
        return None

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyHub]:
    """`tiny-toy` is published on a hub of our own, and nowhere else."""
    source = tmp_path / "source"
    write_tiny(source)
    write_manifest(package / "checkpoints_manifest.yaml", published(source))
    server = ToyHub({path.name: path.read_bytes() for path in source.iterdir()})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    # Otherwise the client may first ask huggingface.co itself which program it runs in.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path: Path) -> list[Path]:
    """Everything that the cache keeps of the weights: links and blobs, whole or in part."""
    weights = (tmp_path / "source" / "model.safetensors").stat().st_size
    return [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.stat().st_size == weights]


def test_a_published_checkpoint_is_pulled_once(hub: ToyHub, tmp_path: Path) -> None:
    assert not is_local(anatozoo.info("tiny-toy"))
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert is_local(anatozoo.info("tiny-toy"))
    assert len(hub.requests) == 2 * len(hub.files)  # a HEAD and a GET for each
    assert all(f"/toys/tiny/resolve/{COMMIT}/" in request for request in hub.requests)
    hub.requests.clear()
    for offline in (None, True):
        folder = resolve("tiny-toy", offline=offline)
        assert (folder / "golden.safetensors").is_file()
    assert hub.requests == []


def test_a_repository_is_pulled_by_its_commit(hub: ToyHub) -> None:
    assert anatozoo.load(f"hf:toys/tiny@{COMMIT}").checkpoint_name == "tiny-toy"
    hub.requests.clear()
    assert anatozoo.load(f"hf:toys/tiny@{COMMIT}", offline=True).checkpoint_name == "tiny-toy"
    assert hub.requests == []


def test_the_copy_for_another_machine_comes_from_the_hub(hub: ToyHub, tmp_path: Path) -> None:
    copy = download("tiny-toy", tmp_path / "usb")
    assert {path.name for path in copy.iterdir()} == set(hub.files)
    assert not any(path.is_symlink() for path in copy.iterdir())


@pytest.mark.parametrize("name", ["tiny-toy", f"hf:toys/tiny@{COMMIT}"])
def test_wrong_bytes_are_fetched_again(hub: ToyHub, name: str) -> None:
    hub.wrong_bytes = 1
    assert (resolve(name) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_wrong_bytes_twice_are_refused_and_not_kept(hub: ToyHub, tmp_path: Path) -> None:
    hub.wrong_bytes = 10
    with pytest.raises(ChecksumMismatch, match=hashlib.sha256(hub.files["model.safetensors"]).hexdigest()):
        resolve("tiny-toy")
    assert cached(tmp_path) == []
    hub.wrong_bytes = 0
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"


def test_a_cached_file_that_went_bad_is_replaced(hub: ToyHub) -> None:
    weights = (resolve("tiny-toy") / "model.safetensors").resolve()
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(ChecksumMismatch):
        resolve("tiny-toy", offline=True)
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_another_revision_is_loaded_with_a_warning(hub: ToyHub, package: Path, tmp_path: Path) -> None:
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
    hub: ToyHub, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    hub.status, hub.error_code = status, code
    with pytest.raises(DownloadError, match=words) as caught:
        resolve("tiny-toy")
    assert hub.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repository_without_a_checkpoint_is_refused_before_the_weights_come(hub: ToyHub) -> None:
    hub.files = {"model.safetensors": b"", "pytorch_model.bin": b"\x80"}
    with pytest.raises(DownloadError, match=r"has no config\.json"):
        resolve(f"hf:toys/tiny@{COMMIT}")
    assert not any("model" in request for request in hub.requests)


def test_a_repository_with_a_pickle_in_disguise_is_refused(hub: ToyHub) -> None:
    hub.files["model.safetensors"] = b"\x80\x04\x95 pickled"
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        anatozoo.load(f"hf:toys/tiny@{COMMIT}")


def test_no_hub_at_the_address(hub: ToyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    with pytest.raises(DownloadError, match=r"cannot reach http://127\.0\.0\.1:9: check the network"):
        resolve("tiny-toy")


def test_an_uncached_repository_offline(hub: ToyHub) -> None:
    with pytest.raises(OfflineMiss, match=r"config\.json of toys/tiny at commit"):
        resolve(f"hf:toys/tiny@{COMMIT}", offline=True)
    assert hub.requests == []


def test_a_cache_that_cannot_be_written_is_named(hub: ToyHub, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(OutputError, match="Set ANATOZOO_HOME to another folder"):
        resolve("tiny-toy")
