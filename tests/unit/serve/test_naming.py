import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from anatozoo.serve.naming import Nameable, assign_stems, choose_stems


def stems(*names, known=None):
    paths = [Path("/data") / name for name in names]
    chosen = assign_stems(paths, {f"/data/{k}": v for k, v in (known or {}).items()})
    assert set(chosen) == set(paths)
    return [chosen[path] for path in paths]


def test_a_name_without_a_rival_is_kept():
    assert stems("a.png", "x/b.nii.gz", "c.d.dcm", "1.2.840") == ["a", "b", "c.d", "1.2.840"]


def test_suffixes_tell_files_apart():
    assert stems("a.png", "a.jpg", "b.png") == ["a_png", "a_jpg", "b"]
    assert stems("a.nii.gz", "a.DCM") == ["a_nii_gz", "a_dcm"]


def test_folders_are_told_apart_by_a_hash_that_never_changes():
    first, second = stems("x/a.png", "y/a.png")
    assert first != second
    assert first.startswith("a_")
    assert second.startswith("a_")
    assert [len(first), len(second)] == [10, 10]
    assert stems("y/a.png", "x/a.png") == [second, first]


def test_the_order_of_the_images_does_not_matter():
    names = ["a.png", "a.jpg", "x/a.png", "a_jpg.png", "A.tif"]
    expected = dict(zip(names, stems(*names), strict=True))
    assert len({stem.casefold() for stem in expected.values()}) == len(names)
    for order in itertools.permutations(names):
        assert dict(zip(order, stems(*order), strict=True)) == expected


def test_case_and_unicode_form_do_not_make_a_difference():
    first, second = stems("a.png", "A.png")
    assert first.casefold() != second.casefold()
    first, second = stems("é.png", "e\u0301.png")
    assert first not in ("é", "e\u0301")
    assert first != second


def test_stems_of_earlier_runs_are_kept_and_not_given_again():
    assert stems("a.png", "a.jpg", known={"a.png": "a"})[0] == "a"
    assert stems("a.jpg", known={"a.png": "a"}) == ["a_jpg"]
    assert stems("a.png", known={"a.png": "a_png"}) == ["a_png"]


def test_very_long_names_leave_room_for_endings():
    (stem,) = stems("心" * 83 + ".png")
    assert len(stem.encode()) <= 200
    assert stem.startswith("心" * 60)
    first, second = stems("x" * 240 + "1.png", "x" * 240 + "2.png")
    assert first != second


@given(
    st.sets(
        st.tuples(
            st.sampled_from("xyz"),
            st.sampled_from(["a", "A", "a_png", "b"]),
            st.sampled_from([".png", ".jpg", ""]),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=100)
def test_no_two_images_share_a_stem(parts):
    names = [f"{folder}/{stem}{suffix}" for folder, stem, suffix in sorted(parts)]
    chosen = stems(*names)
    assert len({stem.casefold() for stem in chosen}) == len(names)
    for name, stem in zip(names, chosen, strict=True):
        assert stem.startswith(Path(name).stem)


def test_an_ending_is_dropped_and_tells_namesakes_apart():
    paths = [Path("/x") / name for name in ("a_mask.png", "b.png", "b_mask.nii.gz", "_mask.png")]
    found = assign_stems(paths, {}, without="_mask")
    assert [found[path] for path in paths] == ["a", "b_png", "b_mask_nii_gz", "_mask"]


def test_reserved_stems_are_given_to_nobody():
    items = [Nameable("1", "a_to_b"), Nameable("2", "c_to_d")]
    found = choose_stems(items, {}, ["A_to_b"])
    assert found["2"] == "c_to_d"
    assert found["1"].startswith("a_to_b_")
