"""What goes wrong on the way from the Hub, through the real client: no wrong file is used, none is kept."""

import hashlib
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save

import anatozoo
from anatozoo.errors import ChecksumMismatch, DownloadError, OfflineMiss, WeightsError
from anatozoo.zoo.hub import locate, resolve
from anatozoo.zoo.remote import refuse_unsafe
from tests.support.hub_server import HubServer
from tests.support.hub_server_repos import Entry
from tests.support.zoo_fixtures import COMMIT, OTHER_COMMIT, published, write_manifest, write_tiny

WEIGHTS = "*model.safetensors"
OTHER = f"hf:toys/other@{COMMIT}"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anatozoo.zoo.transfer.PAUSES_S", (0.01, 0.01, 0.01))


def weights(hub: HubServer) -> bytes:
    return hub.repos["toys/tiny"].files["model.safetensors"].content


def kept(tmp_path: Path) -> list[str]:
    """Names of the files in the cache, but for locks and marks."""
    found = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
    return sorted(path.name for path in found)


# --- connections that break -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_a_broken_connection_is_taken_up_where_it_broke(hub: HubServer, kind: str, at: float) -> None:
    fault = hub.fault(kind, file=WEIGHTS, method="GET", times=1, at=at)
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes() == weights(hub)
    assert fault.happened == 1
    resumed = [line for line in hub.storage_requests if "bytes=" in line]
    # A reset may take bytes with it that were sent; a mere close does not.
    if kind == "cut":
        assert [line.rpartition(" ")[2] for line in resumed] == [f"bytes={int(len(weights(hub)) * at)}-"]


def test_a_server_without_ranges_sends_the_whole_again(hub: HubServer) -> None:
    hub.ranges = False
    hub.fault("cut", file=WEIGHTS, method="GET", times=1, at=0.5)
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes() == weights(hub)


def test_a_line_that_breaks_often_gets_there_in_steps(hub: HubServer) -> None:
    fault = hub.fault("cut", file=WEIGHTS, method="GET", times=8, at=0.2)
    assert (resolve("tiny-toy") / "model.safetensors").read_bytes() == weights(hub)
    assert fault.happened == 8


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_a_line_that_never_gets_there_leaves_no_short_file(
    hub: HubServer, tmp_path: Path, kind: str, at: float
) -> None:
    hub.ranges = False
    hub.fault(kind, file=WEIGHTS, method="GET", at=at)
    with pytest.raises(
        DownloadError, match=r"the connection to http.* breaks while model\.safetensors comes"
    ):
        resolve("tiny-toy")
    assert "model.safetensors" not in kept(tmp_path)
    assert not any(name.endswith(".part") for name in kept(tmp_path))
    hub.faults.clear()
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"


def test_an_overloaded_hub_is_asked_again_when_it_says(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    hub.fault("status", method="HEAD", status=429, retry_after=7, times=1)
    hub.fault("status", method="GET", status=503, times=2)
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
    assert pauses == [7, 0.01, 0.01]


def test_a_slow_file_comes_and_a_silent_hub_is_given_up(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fault("slow", file=WEIGHTS, times=1, seconds=0.3)
    assert resolve("tiny-toy").is_dir()
    monkeypatch.setattr("anatozoo.zoo.transfer.ANSWER_S", 0.1)
    hub.fault("slow", method="HEAD")
    with pytest.raises(DownloadError, match=r"does not answer in time.*HF_HUB_ETAG_TIMEOUT"):
        resolve(OTHER)


# --- wrong bytes ------------------------------------------------------------------------------------------


def other_checkpoint(tmp_path: Path) -> bytes:
    write_tiny(tmp_path / "another", name="tiny-another")
    return (tmp_path / "another" / "model.safetensors").read_bytes()


def test_a_file_without_end_does_not_fill_the_disk(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anatozoo.zoo.transfer._TOO_MUCH", 1000)
    hub.fault("content", file=WEIGHTS, method="GET", content=bytes(30_000_000))
    with pytest.raises(ChecksumMismatch) as caught:
        resolve("tiny-toy")
    came = re.search(r"SHA-256 \w+ \((\d+) bytes\)", str(caught.value))
    assert came is not None
    assert 1000 < int(came[1]) < 10_000_000


@pytest.mark.parametrize("what", ["flipped", "longer", "shorter", "empty", "another"])
def test_wrong_bytes_name_both_digests_and_are_not_kept(hub: HubServer, tmp_path: Path, what: str) -> None:
    right = weights(hub)
    wrong = {
        "flipped": right[: len(right) // 2]
        + bytes([right[len(right) // 2] ^ 1])
        + right[len(right) // 2 + 1 :],
        "longer": right + b"x",
        "shorter": right[:-1],
        "empty": b"",
        "another": other_checkpoint(tmp_path),
    }[what]
    hub.fault("flip" if what == "flipped" else "content", file=WEIGHTS, method="GET", content=wrong)
    with pytest.raises(ChecksumMismatch) as caught:
        anatozoo.load("tiny-toy")
    message = str(caught.value)
    assert f"SHA-256 {hashlib.sha256(wrong).hexdigest()} ({len(wrong)} bytes)" in message
    assert f"expected {hashlib.sha256(right).hexdigest()} ({len(right)} bytes)" in message
    assert "It was not used" in message
    assert "model.safetensors" not in kept(tmp_path)
    digests = [
        hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "cache").rglob("*") if p.is_file()
    ]
    assert hashlib.sha256(wrong).hexdigest() not in digests or what == "empty"
    hub.faults.clear()
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"


def test_a_commit_that_holds_another_checkpoints_file_is_refused(hub: HubServer, tmp_path: Path) -> None:
    wrong = other_checkpoint(tmp_path)
    repo = hub.repos["toys/tiny"]
    files_ = {name: entry.content for name, entry in repo.files.items()} | {"model.safetensors": wrong}
    repo.commits.clear()
    repo.head = None
    repo.put(files_, oid=COMMIT)
    with pytest.raises(ChecksumMismatch, match=hashlib.sha256(wrong).hexdigest()):
        resolve("tiny-toy")
    assert "model.safetensors" not in kept(tmp_path)


def test_without_a_manifest_the_hubs_own_digest_counts(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("flip", file=WEIGHTS, method="GET")
    with pytest.raises(ChecksumMismatch, match="is not the file that the"):
        resolve(OTHER)
    assert "model.safetensors" not in kept(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("counts"), "missing counts"),
        (lambda t: t.update(more=t["counts"].clone()), "unexpected more"),
        (
            lambda t: t.update(offsets=t["offsets"][:4].clone()),
            r"misshapen offsets \(4, 2\) instead of \(5, 2\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_listed(hub: HubServer, source: Path, change: object, words: str) -> None:
    tensors = load_file(source / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    repo = hub.repos["toys/other"]
    commit = repo.put({"model.safetensors": save(tensors)})
    with pytest.raises(WeightsError, match=words):
        anatozoo.load(f"hf:toys/other@{commit.oid}")


# --- who may, and who is there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "private", "gated", "words"),
    [
        (None, True, False, "does not exist or is private: check the name, or set HF_TOKEN"),
        ("hf_stranger", True, False, "does not exist or is private"),
        ("hf_nonsense", True, False, r"refuses this token \(401\): check HF_TOKEN"),
        (None, False, True, "is gated: accept its terms there, then set HF_TOKEN"),
        ("hf_stranger", False, True, "is gated: accept its terms there"),
        ("hf_reader", True, False, None),
        ("hf_reader", False, True, None),
    ],
)
def test_private_and_gated_repositories(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    private: bool,
    gated: bool,
    words: str | None,
) -> None:
    hub.repos["toys/tiny"].private, hub.repos["toys/tiny"].gated = private, gated
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if words is None:
        assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"
        assert hub.tokens_at_storage == 0
        return
    with pytest.raises(DownloadError, match=words) as caught:
        anatozoo.load("tiny-toy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9",
        "https://127.0.0.1:9",
        "127.0.0.1",
        "ftp://127.0.0.1",
        "http://127.0.0.1:port",
        "nonsense",
    ],
)
def test_no_network_and_wrong_addresses_are_said_soon(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("anatozoo.zoo.transfer.PAUSES_S", (0.5, 1.0, 2.0))
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(
        DownloadError, match=f"cannot reach {re.escape(address)}: check the network"
    ) as caught:
        resolve("tiny-toy")
    # The pauses are all that takes time; the client's own would be 23 seconds.
    assert sum(pauses) <= 0.5
    assert "\n" not in str(caught.value)


def test_a_proxy_that_is_not_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    close_session()
    try:
        with pytest.raises(
            DownloadError, match=r"cannot reach http://hub\.invalid: check the network, the proxy"
        ):
            resolve("tiny-toy")
    finally:
        close_session()


@pytest.mark.parametrize("kind", ["headers", "status"])
def test_something_that_is_no_hub(hub: HubServer, kind: str) -> None:
    hub.fault(kind, status=404)
    with pytest.raises(DownloadError, match="answers, but not as a Hugging Face Hub does: check HF_ENDPOINT"):
        resolve("tiny-toy")


def test_a_mirror_is_honoured_when_it_is_set_late(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    assert resolve("tiny-toy").is_dir()
    assert hub.sent("/toys/tiny/resolve/")


@pytest.mark.parametrize("offline", [None, True])
def test_offline_asks_nobody(hub: HubServer, monkeypatch: pytest.MonkeyPatch, offline: bool | None) -> None:
    if offline is None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("tiny-toy", OTHER):
        with pytest.raises(OfflineMiss, match="the network may not be used"):
            resolve(name, offline=offline)
    assert hub.requests == []


def test_a_client_that_was_told_to_stay_offline_says_how_to_end_it(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineMiss, match=r"HF_HUB_OFFLINE forbids to ask .*toys/tiny for .*: unset it"):
        resolve("tiny-toy", offline=False)
    assert hub.requests == []


# --- commits ----------------------------------------------------------------------------------------------


def test_a_commit_that_was_not_asked_for_is_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("commit")
    with pytest.raises(DownloadError, match=f"answers with commit {'e' * 40} where {COMMIT} was asked for"):
        resolve("tiny-toy")
    assert kept(tmp_path) == []


def test_another_commit_of_a_listed_repository_is_warned_about(
    hub: HubServer, package: Path, tmp_path: Path
) -> None:
    listed = published(tmp_path / "source")
    listed["hub"]["revision"] = OTHER_COMMIT
    write_manifest(package / "checkpoints_manifest.yaml", listed)
    with pytest.raises(DownloadError, match=f"has no commit {OTHER_COMMIT}"):
        anatozoo.load("tiny-toy")
    with pytest.warns(UserWarning, match="cannot be verified against the manifest") as caught:
        anatozoo.load(f"hf:toys/tiny@{COMMIT}")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="cannot be verified") as caught:
        anatozoo.load("tiny-toy", revision=COMMIT)
    assert len(caught) == 1


# --- what must not be in a repository ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch_model.bin", "may run code when it is read"),
        ("old/LAST.CKPT", "may run code"),
        ("weights.pt", "may run code"),
        ("notes.pickle", "may run code"),
        ("../escape.txt", "not a name inside it"),
        ("a/../../escape.txt", "not a name inside it"),
        ("/etc/passwd", "not a name inside it"),
        ("..\\escape.txt", "not a name inside it"),
        ("C:\\escape.txt", "not a name inside it"),
    ],
)
def test_pickles_and_names_that_lead_out_are_refused(
    hub: HubServer, tmp_path: Path, name: str, words: str
) -> None:
    commit = hub.repos["toys/other"].put({name: b"\x80\x04."})
    with pytest.raises(WeightsError, match=words) as caught:
        anatozoo.load(f"hf:toys/other@{commit.oid}")
    assert repr(name) in str(caught.value)
    assert hub.storage_requests == []
    assert "model.safetensors" not in kept(tmp_path)


def test_harmless_names_are_not_refused() -> None:
    refuse_unsafe(dict.fromkeys(["README.md", ".gitattributes", "a..b.txt", "docs/picture.png"]), "it")


class Evil(Entry):
    """A file whose server calls its content by a path."""

    @property
    def etag(self) -> str:
        return "../../../../outside"


def test_a_server_cannot_choose_where_a_file_goes(hub: HubServer, tmp_path: Path) -> None:
    repo = hub.repos["toys/other"]
    config = Evil(repo.files["config.json"].content, lfs=False)
    commit = repo.commit({**repo.files, "config.json": config})
    assert locate(f"hf:toys/other@{commit.oid}").name == "tiny-toy"
    assert not list(tmp_path.rglob("*outside*"))
