"""Publish a checkpoint on the Hugging Face Hub: one commit, read back and verified, then tagged.

Whatever happens in between, doing it again continues: what is there already is neither uploaded nor committed
again. A released version never changes, and a card that somebody edited is not overwritten.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anatozoo.errors import ConfigError, PublishError, WeightsError
from anatozoo.version import __version__
from anatozoo.zoo import hub
from anatozoo.zoo.cache import offline_by_environment
from anatozoo.zoo.checkpoint import build_module, read_config
from anatozoo.zoo.files import fingerprint
from anatozoo.zoo.golden import Difference, run_golden
from anatozoo.zoo.publish_client import no_bars, sentences
from anatozoo.zoo.published_card import (
    CARD,
    card_of,
    check_front_matter,
    is_untouched,
    plain_card,
    read_card,
    sealed,
    unsealed,
)
from anatozoo.zoo.published_entry import Release, entry_of, manifest_of, new_entry, write_entry
from anatozoo.zoo.refusals import endpoint
from anatozoo.zoo.remote import fetch_files, refuse_unsafe
from anatozoo.zoo.spec import FILES, REPO_ID, CheckpointSpec, FileRecord

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BRANCH = "main"


@dataclass(frozen=True)
class Published:
    """What was published, from the bytes that came back.

    Args:
        name: the checkpoint's name.
        release: repository, commit and records.
        tag: tag of the version, on that commit.
        page: address of the repository.
        new_commit: whether a commit was made, or all was there already.
        card: ``"written"``, ``"unchanged"`` or ``"kept"``.
        golden: outcome of the golden test of the files that came back.
        entry: the manifest's entry, YAML.
        manifest: the manifest that was written to, None where it was not asked for.
    """

    name: str
    release: Release
    tag: str
    page: str
    new_commit: bool
    card: str
    golden: Difference
    entry: str
    manifest: Path | None


@dataclass(frozen=True)
class _Parcel:
    """What is to be on the Hub: files, card, and who they are."""

    name: str
    tag: str
    folder: Path
    files: Mapping[str, FileRecord]
    card: str
    spec: CheckpointSpec | None


def publish(
    source: hub.Name,
    repo_id: str,
    *,
    private: bool = False,
    card: Path | None = None,
    replace_card: bool = False,
    keep_card: bool = False,
    message: str | None = None,
    write_manifest: bool = False,
) -> Published:
    """Publish a checkpoint.

    Args:
        source: a name of the manifest, or a folder with all files of a checkpoint.
        repo_id: ``"organisation/name"``; made where it does not exist.
        private: make it a private repository, and refuse a public one.
        card: card to publish; default is the manifest's, else the folder's ``README.md``, else a plain one.
        replace_card: overwrite a card that was edited on the Hub.
        keep_card: leave the card on the Hub as it is.
        message: first line of the commit.
        write_manifest: write the entry into the manifest that lists the checkpoint.

    Returns:
        What is on the Hub now.

    Raises:
        PublishError: the Hub refuses, the version exists with other content, or the card was edited there.
        ConfigError: an argument, the card or the folder is not as it must be.
        WeightsError: a file is missing, the golden test fails, or the repository holds pickled files.
        ChecksumMismatch: what came back is not what was sent.
        DownloadError: it could not be read back.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(REPO_ID, repo_id):
        raise ConfigError(f"--repo-id {repo_id!r} must be organisation/name.")
    if replace_card and keep_card:
        raise ConfigError("the card on the Hub is either replaced or kept; give one of the two.")
    if offline_by_environment():
        raise PublishError("HF_HUB_OFFLINE forbids to publish: unset it.")
    parcel = _pack(source, repo_id, card)
    manifest = manifest_of(parcel.name) if write_manifest else None
    api = HfApi(endpoint=endpoint(), library_name="anatozoo", library_version=__version__)
    with sentences(repo_id), no_bars():
        head = _open(api, repo_id, private)
        state = _State.read(api, repo_id, head)
        _refuse_other_version(api, parcel, repo_id, state)
        commit, made, card_done = _commit(
            api, parcel, repo_id, state, replace_card=replace_card, keep_card=keep_card, message=message
        )
        # A version that was released before stays where it is; only its card may have moved on.
        release_commit = state.tags.get(parcel.tag, commit)
    with TemporaryDirectory(prefix="anatozoo-") as fresh:
        names: dict[str, FileRecord | None] = dict(parcel.files)
        paths = fetch_files(repo_id, release_commit, names, Path(fresh), offline=False)
        if card_done == "written":
            text = parcel.card.encode()
            record = FileRecord(hashlib.sha256(text).hexdigest(), len(text))
            fetch_files(repo_id, commit, {CARD: record}, Path(fresh), offline=False)
        files = {path.name: fingerprint(path) for path in paths}
        folder = paths[0].parent
        golden = run_golden(build_module(folder), folder)
        release = Release(repo_id, release_commit, files)
        entry = (
            entry_of(parcel.spec, release) if parcel.spec else new_entry(read_config(folder), folder, release)
        )
    with sentences(repo_id):
        if parcel.tag not in state.tags:
            _tag(api, parcel, repo_id, release_commit)
    if manifest is not None and parcel.spec is not None:
        write_entry(parcel.spec, release, manifest)
    page = f"{endpoint()}/{repo_id}"
    return Published(parcel.name, release, parcel.tag, page, made, card_done, golden, entry, manifest)


def _pack(source: hub.Name, repo_id: str, card: Path | None) -> _Parcel:
    """Verify what is to be published before anything leaves this machine."""
    text = read_card(card) if card else None
    located = hub.locate(source, offline=True)
    config, folder, spec = read_config(located.folder), located.folder, located.spec
    if spec and (config.name, config.version) != (spec.name, spec.version):
        raise WeightsError(
            f"{folder} says that it is {config.name} {config.version}, but the manifest lists it as "
            f"{spec.name} {spec.version}; correct the manifest."
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", config.version):
        raise ConfigError(f"{folder}: version {config.version!r} must be three numbers, as 1.0.0.")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise WeightsError(
            f"{folder} lacks {', '.join(missing)}; `anatozoo.zoo.golden.write_golden` makes the golden test."
        )
    run_golden(build_module(folder), folder)
    files = {name: fingerprint(folder / name) for name in FILES}
    if text is None and spec is not None:
        text = card_of(spec, repo_id)
    elif text is None and (folder / CARD).is_file():
        text = read_card(folder / CARD)
    elif text is None:
        text = plain_card(config, files, repo_id)
    check_front_matter(text, card or CARD)
    return _Parcel(config.name, f"v{config.version}", folder, files, sealed(text), spec)


def _open(api: "HfApi", repo_id: str, private: bool) -> str:
    """Make the repository where it is missing; returns its newest commit."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise PublishError(
            f"publishing needs a token: make one with the right to write to {repo_id} in the settings of "
            f"{endpoint()}, and set HF_TOKEN."
        )
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=True if private else None, exist_ok=True)
        info = api.model_info(repo_id)
    if private and not info.private:
        raise PublishError(
            f"{endpoint()}/{repo_id} is public: make it private in its settings, or leave --private out."
        )
    if info.sha is None:
        raise PublishError(f"{endpoint()}/{repo_id} has no commit on {BRANCH}: delete it, or name another.")
    return str(info.sha)


@dataclass(frozen=True)
class _State:
    """What a repository holds: newest commit, identifiers of its files' contents, tags, and the card."""

    head: str
    contents: Mapping[str, str]
    tags: Mapping[str, str]
    card: str | None

    @classmethod
    def read(cls, api: "HfApi", repo_id: str, head: str) -> "_State":
        contents = _contents(api, repo_id, head)
        refuse_unsafe(contents, f"{endpoint()}/{repo_id}")
        tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo_id).tags}
        text = None
        if CARD in contents:
            with TemporaryDirectory(prefix="anatozoo-") as fresh:
                (path,) = fetch_files(repo_id, head, {CARD: None}, Path(fresh), offline=False)
                # Whatever it is, it is somebody's; what is not UTF-8 is shown as edited.
                text = path.read_bytes().decode("utf-8", errors="replace")
        return cls(head, contents, tags, text)


def _contents(api: "HfApi", repo_id: str, revision: str) -> dict[str, str]:
    """SHA-256 of the large files and git's SHA-1 of the others, by name."""
    from huggingface_hub.hf_api import RepoFile

    items = api.list_repo_tree(repo_id, revision=revision, recursive=True)
    return {
        item.path: item.lfs.sha256 if item.lfs else item.blob_id
        for item in items
        if isinstance(item, RepoFile)
    }


def _differing(parcel: _Parcel, contents: Mapping[str, str]) -> list[str]:
    """Names of the parcel's files that a commit has not, or has with other bytes."""
    return [
        name
        for name, record in parcel.files.items()
        if contents.get(name) not in (record.sha256, _git_hash((parcel.folder / name).read_bytes()))
    ]


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _refuse_other_version(api: "HfApi", parcel: _Parcel, repo_id: str, state: _State) -> None:
    if parcel.tag not in state.tags:
        return
    differing = _differing(parcel, _contents(api, repo_id, state.tags[parcel.tag]))
    if differing:
        raise PublishError(
            f"{endpoint()}/{repo_id} has a tag {parcel.tag} already, with other bytes in "
            f"{', '.join(differing)}: a released version never changes. Raise the version, or give better "
            "weights a new name that ends in -v2."
        )


def _commit(
    api: "HfApi",
    parcel: _Parcel,
    repo_id: str,
    state: _State,
    *,
    replace_card: bool,
    keep_card: bool,
    message: str | None,
) -> tuple[str, bool, str]:
    """Bring all that differs in one commit: the commit, whether it is new, what became of the card."""
    from huggingface_hub import CommitOperationAdd

    differing = _differing(parcel, state.contents)
    if differing and parcel.tag in state.tags:
        # A newer version is on the branch; the old one stays where its tag is.
        return state.head, False, "kept"
    card = "unchanged"
    if state.card is None or unsealed(state.card) != unsealed(parcel.card):
        card = "kept" if keep_card and state.card is not None else "written"
    if card == "written" and state.card is not None and not (replace_card or is_untouched(state.card)):
        raise PublishError(
            f"the card of {endpoint()}/{repo_id} was edited there, so nothing was published: --keep-card "
            "leaves it as it is, --replace-card puts the new one in its place; its old text stays in the "
            "repository's history."
        )
    operations = [CommitOperationAdd(name, str(parcel.folder / name)) for name in differing]
    if card == "written":
        operations.append(CommitOperationAdd(CARD, parcel.card.encode()))
    if not operations:
        return state.head, False, card
    made = api.create_commit(
        repo_id,
        operations,
        commit_message=message or f"{parcel.name} {parcel.tag.removeprefix('v')}",
        revision=BRANCH,
        # Refused if somebody else commits in between: their card might be lost.
        parent_commit=state.head,
    )
    return str(made.oid), True, card


def _tag(api: "HfApi", parcel: _Parcel, repo_id: str, commit: str) -> None:
    api.create_tag(repo_id, tag=parcel.tag, revision=commit, exist_ok=True)
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo_id).tags}
    if tags.get(parcel.tag) != commit:
        raise PublishError(
            f"somebody else made the tag {parcel.tag} of {endpoint()}/{repo_id} at the same time, on commit "
            f"{tags.get(parcel.tag)}: look which one is right."
        )
