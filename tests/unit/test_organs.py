from anatozoo.organs import with_pairs


def test_pairs_are_added_whose_organs_are_both_there() -> None:
    assert with_pairs(["heart", "lung_left", "lung_right"]) == ["heart", "lung_left", "lung_right", "lungs"]
    assert with_pairs(("lung_left", "clavicle_right")) == ["lung_left", "clavicle_right"]
    both = ["lungs", "lung_right", "lung_left", "clavicle_left", "clavicle_right"]
    assert with_pairs(both) == [*both, "clavicles"]
    assert with_pairs([]) == []
