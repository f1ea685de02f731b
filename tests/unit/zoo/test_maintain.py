from pathlib import Path

import pytest

from anatozoo.errors import ManifestError
from anatozoo.zoo import maintain
from anatozoo.zoo.manifest import read_manifest
from docs import pages
from tests.support.zoo_fixtures import entry, file_record, write_manifest, write_tiny

README = "# Zoo\n<!-- checkpoints:begin -->\n<!-- checkpoints:end -->\n"


@pytest.fixture
def project(tmp_path: Path, tiny_method: None) -> Path:
    """A source checkout with one checkpoint whose hashes are not written yet."""
    write_tiny(tmp_path / "anatozoo" / "checkpoints" / "tiny-toy")
    path = write_manifest(tmp_path / "checkpoints_manifest.yaml", entry(summary="Grüße, 日本."))
    path.write_text(f"# ünder review\n{path.read_text('utf-8')}# the end\n", encoding="utf-8")
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "published.yaml").write_text("[]\n")
    return tmp_path


def refresh(project: Path) -> list[str]:
    return maintain.refresh_hashes(
        project / "checkpoints_manifest.yaml", project / "anatozoo" / "checkpoints"
    )


def test_this_projects_cards_and_pages_are_what_the_manifest_says() -> None:
    assert maintain.main(["check"]) == 0, "run `python -m anatozoo.zoo.maintain all`"
    assert pages.main(["--check"]) == 0, "run `python -m docs.pages`"


def test_this_projects_hashes_are_those_of_its_files() -> None:
    for spec in read_manifest(maintain.PROJECT / "checkpoints_manifest.yaml").checkpoints:
        if spec.bundled:
            folder = maintain.PROJECT / "anatozoo" / "checkpoints" / spec.name
            found = {name: file_record(folder / name) for name in spec.hub.files}
            assert found == spec.to_dict()["hub"]["files"]


def test_hashes_are_written_from_the_bytes_and_nothing_else_changes(project: Path) -> None:
    path = project / "checkpoints_manifest.yaml"
    before = path.read_text("utf-8").splitlines()
    changed = refresh(project)
    after = path.read_text("utf-8").splitlines()
    differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) == len(differing) == 6
    assert all(before[i].split(":")[0].strip() in ("sha256", "size") for i in differing)
    folder = project / "anatozoo" / "checkpoints" / "tiny-toy"
    (spec,) = read_manifest(path).checkpoints
    for name, record in spec.hub.files.items():
        assert {"sha256": record.sha256, "size": record.size} == file_record(folder / name)
    assert refresh(project) == []


def test_a_missing_file_is_named_with_its_line(project: Path) -> None:
    (project / "anatozoo" / "checkpoints" / "tiny-toy" / "golden.safetensors").unlink()
    with pytest.raises(ManifestError, match=r"yaml:\d+: .*golden\.safetensors is missing"):
        refresh(project)


def test_a_broken_manifest_is_explained_by_its_line(project: Path) -> None:
    path = project / "checkpoints_manifest.yaml"
    path.write_text(path.read_text("utf-8").replace("  bundled: true\n", ""), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"yaml:\d+: .*bundled missing"):
        refresh(project)


def test_all_writes_the_cards_and_check_is_then_content(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = project / "anatozoo" / "checkpoints" / "tiny-toy" / "README.md"
    assert maintain.main(["check"], project) == 1
    assert "README.md is out of date; run `maintain all`" in capsys.readouterr().err
    assert maintain.main(["all"], project) == 0
    assert maintain.main(["check"], project) == 0
    assert "# tiny-toy" in card.read_text("utf-8")
    card.unlink()
    assert maintain.main(["cards"], project) == 0
    assert card.exists()


def test_pages_are_written_and_check_is_then_content(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pages.main(["--check"], project) == 1
    assert "README.md is out of date; run `python -m docs.pages`" in capsys.readouterr().err
    assert not (project / "docs" / "checkpoints.md").exists()
    assert pages.main([], project) == 0
    assert pages.main(["--check"], project) == 0
    assert "| `tiny-toy` | Grüße, 日本. |" in (project / "README.md").read_text("utf-8")
    assert "tiny-toy/README.md)" in (project / "docs" / "checkpoints.md").read_text("utf-8")


def test_an_edit_of_the_manifest_makes_the_card_stale(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maintain.main(["all"], project)
    pages.main([], project)
    path = project / "checkpoints_manifest.yaml"
    path.write_text(path.read_text("utf-8").replace("It is a toy.", "It is wrong."), encoding="utf-8")
    capsys.readouterr()
    assert maintain.main(["check"], project) == 1
    assert capsys.readouterr().err.splitlines() == [
        "anatozoo/checkpoints/tiny-toy/README.md is out of date; run `maintain all`"
    ]
    assert pages.main(["--check"], project) == 0


def test_a_readme_without_markers_is_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "README.md").write_text("# Zoo\n")
    assert pages.main([], project) == 1
    assert "needs the lines <!-- checkpoints:begin -->" in capsys.readouterr().err


# --- a private zoo ----------------------------------------------------------------------------------------


@pytest.fixture
def private_zoo(tmp_path: Path, tiny_method: None) -> Path:
    """A manifest with its weights beside it, hashes not written yet."""
    write_tiny(tmp_path / "zoo" / "checkpoints" / "tiny-toy")
    return write_manifest(tmp_path / "zoo" / "ours.yaml", entry())


def test_hashes_and_cards_of_a_private_zoo_are_written_beside_its_manifest(
    private_zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = private_zoo.parent / "checkpoints" / "tiny-toy"
    assert maintain.main(["check", "--manifest", str(private_zoo)]) == 1
    assert f"{folder / 'README.md'} is out of date" in capsys.readouterr().err
    assert maintain.main(["all", "--manifest", str(private_zoo)]) == 0
    assert maintain.main(["check", "--manifest", str(private_zoo)]) == 0
    (spec,) = read_manifest(private_zoo).checkpoints
    assert {name: file_record(folder / name) for name in spec.hub.files} == spec.to_dict()["hub"]["files"]
    assert "Part of a private zoo" in (folder / "README.md").read_text("utf-8")
    assert sorted(path.name for path in private_zoo.parent.iterdir()) == ["checkpoints", "ours.yaml"]


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_private_manifest_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "ours.yaml"
    if content is not None:
        path.write_bytes(content)
    assert maintain.main(["hashes", "--manifest", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
