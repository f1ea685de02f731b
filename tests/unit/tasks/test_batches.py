"""Many inputs at a time: in order, and what one that fails does to the others."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from anatozoo.errors import AnatozooError, ConfigError, GeometryError, ImageError
from anatozoo.io.images import read_image
from anatozoo.methods.unet.model import UNetModel
from anatozoo.tasks.base import FailedInput, in_batches


def read(x: int) -> int:
    if x < 0:
        raise ImageError(f"{x} is negative")
    return x


class Answers:
    """Squares of several numbers, of which 13 is bad luck for all beside it."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> Iterator[int]:
        self.asked.append(list(numbers))
        if 13 in numbers:
            raise GeometryError("no 13")
        return iter([number**2 for number in numbers])


def words(outcomes: Any) -> list[Any]:
    return [x if not isinstance(x, FailedInput) else str(x.error) for x in outcomes]


def test_inputs_that_fail_are_recorded_in_their_place() -> None:
    answers = Answers()
    found = list(in_batches(iter([1, -2, 3, 4, 13, -5]), 3, read, answers, "record"))
    assert words(found) == [1, "-2 is negative", 9, 16, "no 13", "-5 is negative"]
    assert answers.asked == [[1, 3], [4, 13], [4], [13]]
    failed = found[1]
    assert not failed
    assert isinstance(failed.error, AnatozooError)
    assert failed.image == "array"
    assert words(in_batches([-1, -2], 8, read, answers, "record")) == ["-1 is negative", "-2 is negative"]
    assert list(in_batches([], 8, read, answers, "record")) == []


def test_by_default_the_first_failure_is_raised_behind_the_results_before_it() -> None:
    found = in_batches([1, 2, -3, 4], 8, read, Answers())
    assert [next(found), next(found)] == [1, 4]
    with pytest.raises(ImageError, match="-3 is negative"):
        next(found)


def test_what_is_wrong_with_the_call_is_raised_at_once() -> None:
    with pytest.raises(ConfigError, match="on_error='skip' must be 'raise' or 'record'"):
        in_batches([1], 8, read, Answers(), "skip")
    for single in ("scan.png", b"scan"):
        with pytest.raises(ConfigError, match="put a single one into a list"):
            in_batches(single, 8, read, Answers())

    def refuse(numbers: Sequence[int]) -> list[int]:
        raise ConfigError("no such precision")

    with pytest.raises(ConfigError, match="no such precision"):
        list(in_batches([1], 8, read, refuse, "record"))


def test_a_model_records_what_it_cannot_read(tmp_path: Any) -> None:
    model = UNetModel(["heart"], {"size": 64}, decoder_widths=[4, 4, 4, 4, 4]).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    absent = tmp_path / "absent.png"
    found = list(model.predict_batch([pixels, b"no image", absent, pixels], on_error="record"))
    assert [bool(each) for each in found] == [True, False, False, True]
    assert [each.image for each in found] == ["array", "bytes", str(absent), "array"]
    assert "cannot be opened" in str(found[2].error)
    assert np.array_equal(found[0].mask, model.predict(read_image(pixels)).mask)
