"""`ANATOZOO_MANIFEST`: files and repositories whose entries join those of the package."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import anatozoo
from anatozoo.cli.main import main
from anatozoo.errors import ChecksumMismatch, DownloadError, ManifestError, OfflineMiss, UnknownCheckpoint
from anatozoo.zoo import catalogue, private
from anatozoo.zoo.hub import download, locate
from tests.support.hub_server import HubServer, Repo
from tests.support.zoo_fixtures import (
    COMMIT,
    OTHER_COMMIT,
    TinyModule,
    entry,
    published,
    write_manifest,
    write_tiny,
)

Capture = pytest.CaptureFixture[str]
ON_HUB = f"hf:clinic/zoo@{COMMIT}"


def set_manifests(monkeypatch: pytest.MonkeyPatch, *sources: object) -> None:
    monkeypatch.setenv(private.VARIABLE, os.pathsep.join(map(str, sources)))


@pytest.fixture
def zoo(package: Path, bundled: TinyModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the private manifest `ours.yaml`, which lists `tiny-ours` with its weights beside it."""
    folder = tmp_path / "zoo"
    write_tiny(folder / "checkpoints" / "tiny-ours", name="tiny-ours")
    write_manifest(folder / "ours.yaml", entry(folder / "checkpoints" / "tiny-ours", "tiny-ours"))
    set_manifests(monkeypatch, folder / "ours.yaml")
    return folder


@pytest.fixture
def zoo_on_hub(
    package: Path, bundled: TinyModule, empty_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> HubServer:
    """A repository with a manifest that lists `tiny-far`, whose weights lie in another repository."""
    write_tiny(tmp_path / "far", name="tiny-far")
    weights = empty_hub.repos["toys/tiny"] = Repo("toys/tiny")
    weights.put({p.name: p.read_bytes() for p in sorted((tmp_path / "far").iterdir())}, oid=COMMIT)
    put_manifest(empty_hub, tmp_path, published(tmp_path / "far", "tiny-far"))
    set_manifests(monkeypatch, ON_HUB)
    return empty_hub


def put_manifest(hub: HubServer, tmp_path: Path, *entries: dict[str, Any]) -> None:
    repo = hub.repos["clinic/zoo"] = Repo("clinic/zoo")
    text = write_manifest(tmp_path / "on_hub.yaml", *entries).read_bytes()
    repo.put({"checkpoints_manifest.yaml": text}, oid=COMMIT)


# --- the variable -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("::", []),
        ("a.yaml", ["a.yaml"]),
        ("a.yaml:b.yaml:", ["a.yaml", "b.yaml"]),
        ("a.yaml:a.yaml", ["a.yaml"]),
        (ON_HUB, [ON_HUB]),
        (f"a.yaml:{ON_HUB}:/b c.yaml:hf:x/y@1", ["a.yaml", ON_HUB, "/b c.yaml", "hf:x/y@1"]),
        ("hf", ["hf"]),
        ("/srv/hf:b.yaml", ["/srv/hf", "b.yaml"]),
    ],
)
def test_the_colon_of_hf_does_not_separate(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: list[str]
) -> None:
    monkeypatch.setattr(os, "pathsep", ":")
    monkeypatch.setenv(private.VARIABLE, value)
    assert private.sources() == expected


def test_drive_letters_are_whole_where_the_separator_is_a_semicolon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pathsep", ";")
    monkeypatch.setenv(private.VARIABLE, rf"C:\zoo\a.yaml;{ON_HUB};D:\b.yaml")
    assert private.sources() == [r"C:\zoo\a.yaml", ON_HUB, r"D:\b.yaml"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://example.org/zoo.yaml", "a web address is not read"),
        ("hf:clinic/zoo", "full commit of 40 hex digits"),
        ("hf:clinic/zoo@main", "full commit of 40 hex digits"),
        ("hf:../zoo@" + COMMIT, "must be hf:organisation/name@commit"),
        ("missing.yaml", r"names .*missing\.yaml, which cannot be read"),
        (".", r"is a folder; name the file in it, as .*checkpoints_manifest\.yaml"),
    ],
)
def test_a_source_of_another_form_is_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv(private.VARIABLE, value)
    with pytest.raises(ManifestError, match=words):
        anatozoo.list_models()


# --- a folder with manifest and weights -------------------------------------------------------------------


def test_entries_of_a_file_are_added_in_order(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert anatozoo.list_models() == ["tiny-toy", "tiny-ours"]
    assert anatozoo.info("tiny-ours").name == "tiny-ours"
    write_manifest(zoo / "more.yaml", entry(name="tiny-more"))
    set_manifests(monkeypatch, zoo / "more.yaml", zoo / "ours.yaml")
    assert anatozoo.list_models() == ["tiny-toy", "tiny-more", "tiny-ours"]
    monkeypatch.delenv(private.VARIABLE)
    assert anatozoo.list_models() == ["tiny-toy"]


def test_a_relative_path_and_a_home_are_understood(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)
    monkeypatch.setenv("HOME", str(zoo))
    for source in ("ours.yaml", "~/ours.yaml"):
        set_manifests(monkeypatch, source)
        assert locate("tiny-ours").folder == zoo / "checkpoints" / "tiny-ours"


def test_weights_beside_the_manifest_are_its_bundled_ones(zoo: Path) -> None:
    model = anatozoo.load("tiny-ours", offline=True)
    assert model.checkpoint_name == "tiny-ours"
    assert torch.isfinite(model.offsets).all()
    assert locate("tiny-toy").folder == catalogue.PACKAGE / "checkpoints" / "tiny-toy"


def test_a_changed_file_is_refused_with_what_to_do(zoo: Path) -> None:
    with (zoo / "checkpoints" / "tiny-ours" / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    with pytest.raises(ChecksumMismatch, match=r"maintain hashes --manifest .*ours\.yaml"):
        anatozoo.load("tiny-ours")


def test_weights_that_are_missing_are_asked_for_at_their_place(zoo: Path) -> None:
    shutil.rmtree(zoo / "checkpoints")
    with pytest.raises(DownloadError, match=r"beside the private manifest, in .*zoo/checkpoints/tiny-ours"):
        anatozoo.load("tiny-ours")


def test_every_command_sees_them(zoo: Path, tmp_path: Path, capsys: Capture) -> None:
    for arguments, words in [
        (["list"], "tiny-ours"),
        (["info", "tiny-ours"], "ours.yaml"),
        (["card", "tiny-ours"], "Part of a private zoo; never published anywhere else."),
        (["verify", "tiny-ours", "--golden"], "golden test: 0.00"),
        (["verify", "--all"], "2 of 2 checkpoints are as the manifest says"),
        (["download", "tiny-ours", "--to", str(tmp_path / "usb")], "tiny-ours: verified"),
    ]:
        assert main(arguments) == 0, arguments
        assert words in capsys.readouterr().out
    assert (tmp_path / "usb" / "tiny-ours" / "model.safetensors").is_file()
    assert main(["info", "tiny-toy"]) == 0
    assert "private zoo" not in capsys.readouterr().out
    assert main(["card", "tiny-toy"]) == 0
    assert "Part of the Python package anatozoo;" in capsys.readouterr().out


def test_close_matches_include_them(zoo: Path) -> None:
    with pytest.raises(UnknownCheckpoint, match="did you mean tiny-ours"):
        anatozoo.info("tiny-our")
    with pytest.raises(UnknownCheckpoint, match="did you mean tiny-ours"):
        anatozoo.load("tiny-our")


# --- names and mistakes -----------------------------------------------------------------------------------


def test_a_name_of_the_package_names_both_files_and_lines(zoo: Path, package: Path) -> None:
    write_manifest(zoo / "ours.yaml", entry(name="tiny-other"), entry(name="tiny-toy"))
    with pytest.raises(ManifestError) as caught:
        anatozoo.list_models()
    text = (zoo / "ours.yaml").read_text("utf-8").splitlines()
    line = text.index("- name: tiny-toy") + 1
    assert str(caught.value) == (
        f"{zoo / 'ours.yaml'}:{line}: tiny-toy stands in {package / 'checkpoints_manifest.yaml'}:4 already; "
        "rename one."
    )


def test_a_name_in_two_private_manifests_names_both(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(zoo / "more.yaml", entry(name="tiny-ours"))
    set_manifests(monkeypatch, zoo / "ours.yaml", zoo / "more.yaml")
    with pytest.raises(ManifestError, match=r"more\.yaml:4: tiny-ours stands in .*ours\.yaml:4 already"):
        anatozoo.load("tiny-toy")


def test_a_mistake_is_reported_with_its_line_for_every_checkpoint(zoo: Path, capsys: Capture) -> None:
    broken = entry(name="tiny-ours") | {"summary": 3}
    write_manifest(zoo / "ours.yaml", broken)
    assert main(["info", "tiny-toy"]) == 1
    assert "ours.yaml:8: tiny-ours.summary: must be text" in capsys.readouterr().err


def test_a_local_folder_loads_although_it_is_in_no_manifest(zoo: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "mine", name="tiny-mine")
    assert anatozoo.load(str(tmp_path / "mine")).checkpoint_name == "tiny-mine"


def test_a_change_of_the_file_is_seen(zoo: Path) -> None:
    assert anatozoo.info("tiny-ours").summary == "A toy."
    changed = entry(zoo / "checkpoints" / "tiny-ours", "tiny-ours", summary="Better.")
    write_manifest(zoo / "ours.yaml", changed)
    os.utime(zoo / "ours.yaml", ns=(1, 1))
    assert anatozoo.info("tiny-ours").summary == "Better."


# --- on the Hub -------------------------------------------------------------------------------------------


def test_a_manifest_on_the_hub_is_fetched_once(zoo_on_hub: HubServer) -> None:
    assert anatozoo.list_models() == ["tiny-toy", "tiny-far"]
    assert zoo_on_hub.requests
    assert all(f"/clinic/zoo/resolve/{COMMIT}/checkpoints_manifest.yaml" in r for r in zoo_on_hub.requests)
    zoo_on_hub.requests.clear()
    assert anatozoo.info("tiny-far").hub.repo_id == "toys/tiny"
    assert anatozoo.list_models("*far") == ["tiny-far"]
    assert zoo_on_hub.requests == []


def test_its_checkpoints_are_pulled_and_then_cached(zoo_on_hub: HubServer, tmp_path: Path) -> None:
    assert anatozoo.load("tiny-far").checkpoint_name == "tiny-far"
    zoo_on_hub.requests.clear()
    assert anatozoo.load("tiny-far", offline=True).checkpoint_name == "tiny-far"
    assert zoo_on_hub.requests == []


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_it_is_not_fetched(zoo_on_hub: HubServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(OfflineMiss, match=r"checkpoints_manifest\.yaml of clinic/zoo"):
            anatozoo.list_models()
    with pytest.raises(OfflineMiss, match=r"checkpoints_manifest\.yaml of clinic/zoo"):
        anatozoo.load("tiny-far", offline=True if how == "argument" else None)
    assert zoo_on_hub.requests == []


def test_a_copy_made_by_download_serves_without_a_network(
    zoo_on_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("tiny-far", tmp_path / "usb")
    zoo_on_hub.requests.clear()
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("ANATOZOO_HOME", str(tmp_path / "usb"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert anatozoo.load("tiny-far").checkpoint_name == "tiny-far"
    assert main(["verify", "--all", "--golden"]) == 0
    assert zoo_on_hub.requests == []


def test_another_cache_for_the_weights_needs_no_second_copy_of_the_manifest(
    zoo_on_hub: HubServer, tmp_path: Path
) -> None:
    anatozoo.list_models()
    zoo_on_hub.requests.clear()
    anatozoo.load("tiny-far", cache_dir=tmp_path / "other")
    assert not any("checkpoints_manifest" in request for request in zoo_on_hub.requests)


def test_a_manifest_on_the_hub_can_bundle_nothing(zoo_on_hub: HubServer, tmp_path: Path) -> None:
    put_manifest(zoo_on_hub, tmp_path, entry(name="tiny-far"))
    with pytest.raises(ManifestError, match=r"yaml:22: tiny-far\.bundled: must be false"):
        anatozoo.list_models()


@pytest.mark.parametrize("source", [f"hf:clinic/none@{COMMIT}", f"hf:clinic/zoo@{OTHER_COMMIT}"])
def test_a_manifest_that_is_not_there_says_so(
    zoo_on_hub: HubServer, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    set_manifests(monkeypatch, source)
    with pytest.raises(DownloadError, match=r"does not exist or is private|has no"):
        anatozoo.list_models()


def test_files_and_repositories_go_together(
    zoo_on_hub: HubServer, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_manifests(monkeypatch, zoo / "ours.yaml", ON_HUB)
    assert anatozoo.list_models() == ["tiny-toy", "tiny-ours", "tiny-far"]
    assert locate("tiny-ours").folder == zoo / "checkpoints" / "tiny-ours"
