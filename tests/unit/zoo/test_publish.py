"""Publishing through the real client: one commit, nothing overwritten, all read back."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import anatozoo
from anatozoo.errors import ChecksumMismatch, ConfigError, DownloadError, PublishError, WeightsError
from anatozoo.zoo.manifest import read_manifest
from anatozoo.zoo.publish import publish
from anatozoo.zoo.published_card import is_untouched, sealed, unsealed
from anatozoo.zoo.reproducible import sort_metadata
from anatozoo.zoo.spec import FILES
from tests.support.hub_server import HubServer, Repo
from tests.support.zoo_fixtures import TinyModule, entry, file_record, write_manifest, write_tiny

REPO = "toys/new"
EDITED = "---\nlicense: mit\n---\n\n# Better words\n"


@pytest.fixture(autouse=True)
def _token(package: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr("anatozoo.zoo.transfer.PAUSES_S", (0.01, 0.01, 0.01))


@pytest.fixture
def mine(package: Path, tmp_path: Path) -> Path:
    """A folder that no manifest lists."""
    write_tiny(tmp_path / "mine", name="tiny-mine")
    return tmp_path / "mine"


def content(hub: HubServer, name: str, repo_id: str = REPO) -> bytes:
    return hub.repos[repo_id].files[name].content


def messages(hub: HubServer) -> list[str]:
    return [commit.message for commit in hub.repos[REPO].commits.values()]


# --- what arrives -----------------------------------------------------------------------------------------


def test_a_bundled_checkpoint_is_published_in_one_commit(
    package: Path, bundled: TinyModule, empty_hub: HubServer
) -> None:
    found = publish("tiny-toy", REPO)
    repo = empty_hub.repos[REPO]
    assert messages(empty_hub) == ["initial commit", "tiny-toy 1.0.0"]
    assert not repo.private
    folder = package / "checkpoints" / "tiny-toy"
    for name in FILES:
        assert content(empty_hub, name) == (folder / name).read_bytes()
        assert file_record(folder / name) == vars(found.release.files[name])
    assert repo.tags == {"v1.0.0": repo.head} == {found.tag: found.release.revision}
    assert (found.new_commit, found.card, found.manifest) == (True, "written", None)
    assert found.golden.difference <= found.golden.tolerance
    assert anatozoo.load(f"hf:{REPO}@{repo.head}", golden_check=True).checkpoint_name == "tiny-toy"
    # Read back into a folder of its own, not from a cache that might hold it already.
    assert empty_hub.sent(f"GET /{REPO}/resolve/{repo.head}/model.safetensors")
    assert empty_hub.tokens_at_storage == 0


def test_the_card_is_the_manifests_and_says_where_it_is(
    package: Path, bundled: TinyModule, empty_hub: HubServer
) -> None:
    publish("tiny-toy", REPO)
    text = content(empty_hub, "README.md").decode()
    assert "Published as `toys/new` with the tag `v1.0.0`." in text
    assert "never published anywhere else" not in text
    assert is_untouched(text)
    assert not is_untouched(text.replace("A toy.", "A marvel."))


def test_the_entry_can_go_into_the_manifest(
    package: Path, bundled: TinyModule, empty_hub: HubServer, tmp_path: Path
) -> None:
    found = publish("tiny-toy", REPO)
    head = "schema_version: 1\nhub_organisation: null\ncheckpoints:\n"
    (tmp_path / "m.yaml").write_text(head + found.entry, encoding="utf-8")
    (spec,) = read_manifest(tmp_path / "m.yaml").checkpoints
    assert (spec.status, spec.hub.repo_id, spec.hub.revision) == ("published", REPO, found.release.revision)
    assert spec.hub.files == found.release.files


def test_the_manifest_is_written_and_its_words_stay(
    package: Path, bundled: TinyModule, empty_hub: HubServer
) -> None:
    path = package / "checkpoints_manifest.yaml"
    other = entry(name="tiny-other")
    write_manifest(path, other, entry(package / "checkpoints" / "tiny-toy"))
    path.write_text("# Words of ours\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    before = path.read_text(encoding="utf-8").splitlines()
    found = publish("tiny-toy", REPO, write_manifest=True)
    after = path.read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert [b.strip() for _, b in changed] == [
        "status: published",
        f"repo_id: {REPO}",
        f'revision: "{found.release.revision}"',
    ]
    assert found.manifest == path
    assert anatozoo.info("tiny-toy").hub.revision == found.release.revision
    # From now on it comes from there where it is not bundled.
    shutil.rmtree(package / "checkpoints")
    assert anatozoo.load("tiny-toy").checkpoint_name == "tiny-toy"


def test_a_manifest_that_does_not_list_it_is_said_before_anything_is_sent(
    mine: Path, empty_hub: HubServer
) -> None:
    with pytest.raises(ConfigError, match="no manifest file lists tiny-mine"):
        publish(mine, REPO, write_manifest=True)
    assert empty_hub.requests == []


def test_an_unlisted_folder_gets_an_honest_card_and_an_entry_to_complete(
    mine: Path, empty_hub: HubServer, tmp_path: Path
) -> None:
    found = publish(mine, REPO)
    text = content(empty_hub, "README.md").decode()
    for words in ["license: unknown", "# tiny-mine", "Not stated", "Nothing is stated", "`nodes` | `5`"]:
        assert words in text
    assert f'"hf:{REPO}@COMMIT"' in text
    values = yaml.safe_load(found.entry)[0]
    assert values["hub"]["revision"] == found.release.revision
    assert values["output"] == {"kind": "contours", "classes": ["heart"], "landmarks": {"heart": 5}}
    assert (values["summary"], values["license"]["weights"]) == (None, None)
    # Completed, it is an entry of a manifest.
    blank = entry(name="tiny-mine")
    complete = {
        key: blank[key]
        if value in (None, []) or (isinstance(value, dict) and None in value.values())
        else value
        for key, value in values.items()
    }
    complete["hub"] = values["hub"]
    (spec,) = read_manifest(write_manifest(tmp_path / "m.yaml", complete)).checkpoints
    assert spec.hub.files == found.release.files


def test_a_folders_own_card_is_published(mine: Path, empty_hub: HubServer) -> None:
    (mine / "README.md").write_text(EDITED, encoding="utf-8")
    publish(mine, REPO)
    assert unsealed(content(empty_hub, "README.md").decode()) == EDITED


@pytest.mark.parametrize("private", [True, False])
def test_a_private_repository(mine: Path, empty_hub: HubServer, private: bool) -> None:
    publish(mine, REPO, private=private)
    assert empty_hub.repos[REPO].private == private


def test_a_public_repository_is_not_taken_for_a_private_one(mine: Path, empty_hub: HubServer) -> None:
    publish(mine, REPO)
    with pytest.raises(PublishError, match="is public: make it private in its settings"):
        publish(mine, REPO, private=True)


def test_the_message_is_the_users(mine: Path, empty_hub: HubServer) -> None:
    publish(mine, REPO, message="First weights of the clinic")
    assert messages(empty_hub)[-1] == "First weights of the clinic"


# --- again, and after others ------------------------------------------------------------------------------


def test_again_makes_no_commit_and_sends_nothing(mine: Path, empty_hub: HubServer) -> None:
    first = publish(mine, REPO)
    empty_hub.requests.clear()
    empty_hub.storage_requests.clear()
    again = publish(mine, REPO)
    assert (again.new_commit, again.card) == (False, "unchanged")
    assert again.release == first.release
    assert len(messages(empty_hub)) == 2
    assert not any(
        line.startswith(("PUT", "POST")) for line in empty_hub.requests + empty_hub.storage_requests
    )


@pytest.mark.parametrize(
    "step", ["repos/create", "validate-yaml", "preupload", "objects/batch", "/commit/", "/tag/"]
)
def test_a_publication_that_stops_anywhere_goes_on(mine: Path, empty_hub: HubServer, step: str) -> None:
    fault = empty_hub.fault("status", file=f"*{step}*", method="POST", status=400, times=1)
    with pytest.raises((PublishError, ConfigError)) as caught:
        publish(mine, REPO)
    assert "\n" not in str(caught.value)
    assert fault.happened == 1
    found = publish(mine, REPO)
    assert len(messages(empty_hub)) == 2
    assert empty_hub.repos[REPO].tags == {"v1.0.0": found.release.revision}


def test_a_released_version_never_changes(mine: Path, empty_hub: HubServer) -> None:
    publish(mine, REPO)
    write_tiny(mine, name="tiny-mine")
    with pytest.raises(
        PublishError, match=r"has a tag v1\.0\.0 already, with other bytes in model\.safetensors"
    ):
        publish(mine, REPO)
    assert len(messages(empty_hub)) == 2


def test_an_older_version_does_not_overwrite_a_newer_one(mine: Path, empty_hub: HubServer) -> None:
    publish(mine, REPO)
    repo = empty_hub.repos[REPO]
    newer = repo.put({"model.safetensors": b"newer"})
    repo.tags["v1.1.0"] = newer.oid
    found = publish(mine, REPO)
    assert not found.new_commit
    assert repo.head == newer.oid
    assert found.release.revision == repo.tags["v1.0.0"]


@pytest.mark.parametrize("kept", [False, True])
def test_an_edited_card_is_not_overwritten(mine: Path, empty_hub: HubServer, kept: bool) -> None:
    publish(mine, REPO)
    repo = empty_hub.repos[REPO]
    edited = repo.put({"README.md": EDITED.encode()}, "Update README.md")
    with pytest.raises(
        PublishError, match=r"the card of .*toys/new was edited .*--keep-card .*--replace-card"
    ):
        publish(mine, REPO)
    assert repo.head == edited.oid
    found = publish(mine, REPO, keep_card=kept, replace_card=not kept)
    assert found.card == ("kept" if kept else "written")
    assert (content(empty_hub, "README.md").decode() == EDITED) == kept
    assert repo.commits[edited.oid].files["README.md"].content.decode() == EDITED
    # The version is where it was.
    assert repo.tags["v1.0.0"] == found.release.revision
    assert found.release.revision not in (edited.oid, repo.head)


def test_a_card_from_before_anatozoo_is_somebodys(mine: Path, empty_hub: HubServer) -> None:
    repo = empty_hub.repos[REPO] = Repo(REPO)
    repo.put({"README.md": EDITED.encode()})
    with pytest.raises(PublishError, match="was edited there, so nothing was published"):
        publish(mine, REPO)
    assert list(repo.files) == ["README.md"]
    assert publish(mine, REPO, keep_card=True).card == "kept"
    assert content(empty_hub, "README.md").decode() == EDITED


def test_the_edited_card_itself_is_no_change(mine: Path, empty_hub: HubServer, tmp_path: Path) -> None:
    publish(mine, REPO)
    empty_hub.repos[REPO].put({"README.md": EDITED.replace("\n", "\r\n").encode()})
    (tmp_path / "card.md").write_text(EDITED, encoding="utf-8")
    assert publish(mine, REPO, card=tmp_path / "card.md").card == "unchanged"


def test_a_card_of_ours_is_renewed(package: Path, bundled: TinyModule, empty_hub: HubServer) -> None:
    publish("tiny-toy", REPO)
    here = entry(package / "checkpoints" / "tiny-toy", summary="A better described toy.")
    write_manifest(package / "checkpoints_manifest.yaml", here)
    found = publish("tiny-toy", REPO)
    assert found.card == "written"
    assert b"A better described toy." in content(empty_hub, "README.md")
    assert found.release.revision == empty_hub.repos[REPO].tags["v1.0.0"]


def test_somebody_else_in_between(mine: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    publish(mine, REPO)
    repo = empty_hub.repos[REPO]
    real = HfApi.create_commit

    def late(self: HfApi, *args: object, **kwargs: object) -> object:
        repo.put({"README.md": EDITED.encode()}, "Update README.md")
        return real(self, *args, **kwargs)  # type: ignore[call-overload]

    (mine / "README.md").write_text(EDITED.replace("Better", "Other"), encoding="utf-8")
    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(PublishError, match=r"somebody else changed .*toys/new at the same time"):
        publish(mine, REPO)
    assert content(empty_hub, "README.md").decode() == EDITED


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "publishing needs a token"),
        ("hf_nonsense", r"may not be written with this token \(401\): set HF_TOKEN"),
        ("hf_reader", r"may not be written with this token \(403\)"),
        ("hf_stranger", r"may not be written with this token \(403\)"),
    ],
)
def test_who_may_not_write_is_told_so(
    mine: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str | None, words: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishError, match=words) as caught:
        publish(mine, REPO)
    assert "\n" not in str(caught.value)
    assert REPO not in empty_hub.repos


def test_no_network(mine: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PublishError, match=r"cannot reach http://127\.0\.0\.1:9"):
        publish(mine, REPO)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE forbids"):
        publish(mine, REPO)


def test_an_upload_that_fails_is_one_sentence(
    mine: Path, empty_hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own retries
    empty_hub.fault("status", file="/storage/*", method="PUT", status=503)
    with pytest.raises(PublishError, match="answered 503: wait a minute, and run the same command again"):
        publish(mine, REPO)
    assert len(messages(empty_hub)) == 1


def test_what_comes_back_is_compared(mine: Path, empty_hub: HubServer) -> None:
    empty_hub.fault("flip", file="*/model.safetensors", method="GET")
    with pytest.raises(ChecksumMismatch):
        publish(mine, REPO)
    # Nothing is called a version that did not come back right.
    assert empty_hub.repos[REPO].tags == {}
    empty_hub.faults.clear()
    empty_hub.fault("status", file="*/model.safetensors", method="HEAD", status=404, code="EntryNotFound")
    with pytest.raises(DownloadError):
        publish(mine, REPO)
    empty_hub.faults.clear()
    assert publish(mine, REPO).tag == "v1.0.0"


def test_a_repository_with_pickles_is_not_published_to(mine: Path, empty_hub: HubServer) -> None:
    publish(mine, REPO)
    empty_hub.repos[REPO].put({"pytorch_model.bin": b"\x80"})
    with pytest.raises(WeightsError, match="may run code when it is read"):
        publish(mine, REPO)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# No front matter\n", "must begin with front matter that names a licence"),
        ("---\ntags: [a]\n---\n", "must begin with front matter that names a licence"),
        ("---\n{broken\n---\n", "is not YAML"),
        ("---\nlicense: my-own\n---\n", "the Hub refuses the card: .*license"),
        (None, "cannot be read"),
    ],
)
def test_a_card_that_the_hub_would_not_take(
    mine: Path, empty_hub: HubServer, tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "card.md").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as caught:
        publish(mine, REPO, card=tmp_path / "card.md")
    assert "\n" not in str(caught.value)
    assert REPO not in empty_hub.repos or len(messages(empty_hub)) == 1


@pytest.mark.parametrize("repo_id", ["tiny", "a/b/c", "../x", "toys/", "toys/new space"])
def test_a_name_that_is_none(mine: Path, empty_hub: HubServer, repo_id: str) -> None:
    with pytest.raises(ConfigError, match="must be organisation/name"):
        publish(mine, repo_id)
    with pytest.raises(ConfigError, match="is not a name that the Hub accepts"):
        publish(mine, "toys/new..git")
    assert empty_hub.requests == []


def test_a_folder_that_lacks_something_or_computes_something_else(mine: Path, empty_hub: HubServer) -> None:
    with pytest.raises(ConfigError, match="either replaced or kept"):
        publish(mine, REPO, keep_card=True, replace_card=True)
    golden = (mine / "golden.safetensors").read_bytes()
    (mine / "golden.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks golden\.safetensors"):
        publish(mine, REPO)
    write_tiny(mine, name="tiny-mine")
    (mine / "golden.safetensors").write_bytes(golden)
    with pytest.raises(WeightsError, match="fails its golden test"):
        publish(mine, REPO)
    assert empty_hub.requests == []


def test_nothing_is_printed(mine: Path, empty_hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    publish(mine, REPO)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- helpers ----------------------------------------------------------------------------------------------


def test_a_seal_holds_for_any_line_ends_and_is_put_once() -> None:
    once = sealed(EDITED)
    assert sealed(once) == once
    assert is_untouched(once)
    assert is_untouched(once.replace("\n", "\r\n"))
    assert unsealed(once) == EDITED
    assert not is_untouched(EDITED)
    assert not is_untouched(once + "more\n")
    assert len(re.findall("written by anatozoo", once)) == 1


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, tiny_method: None) -> None:
    from safetensors.torch import save_file

    tensors = {"b": torch.ones(3), "a": torch.zeros(2, 2)}
    seen = set()
    for i in range(8):
        path = tmp_path / f"{i}.safetensors"
        save_file(tensors, path, metadata={"version": "1", "name": "ü", "format": "pt", "x": "y"})
        sort_metadata(path)
        seen.add(path.read_bytes())
        assert torch.equal(load_file(path)["a"], tensors["a"])
    assert len(seen) == 1
    save_file(tensors, tmp_path / "plain.safetensors")
    before = (tmp_path / "plain.safetensors").read_bytes()
    sort_metadata(tmp_path / "plain.safetensors")
    assert (tmp_path / "plain.safetensors").read_bytes() == before
