"""A short run of the fuzzer: some mutated files of every format, each read or refused in a sentence."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from anatozoo.errors import ImageError
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Reader, _mutated, fuzz
from tests.fuzz.seeds import SEEDS
from tests.fuzz.worker import outcome

FILES = 12


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.end()


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_files_are_read_or_refused_in_a_sentence(kind: str, reader: Reader, tmp_path: Path) -> None:
    tally = fuzz(kind, FILES, 0, tmp_path, reader)
    assert tally.files == FILES
    assert tally.is_good, tally.kept


def test_a_seed_gives_the_same_files_again() -> None:
    cases = [_mutated(SEEDS["mha"](), random.Random(7)) for _ in range(2)]
    assert cases[0] == cases[1]
    [whole] = SEEDS["png"]()[0].values()
    assert len({mutated(whole, whole, random.Random(seed)) for seed in range(20)}) > 10


def test_outcomes_are_told_apart() -> None:
    def refuse() -> None:
        raise ImageError("no")

    def fail() -> None:
        raise RecursionError

    assert [outcome(read)["what"] for read in (lambda: None, refuse, fail)] == ["read", "refused", "raw"]


def test_a_dead_process_is_counted_and_replaced(tmp_path: Path) -> None:
    reader = Reader()
    [content] = SEEDS["pgm"]()[0].values()
    (tmp_path / "a.pgm").write_bytes(content)
    assert [answer["what"] for answer in reader.ask("pgm", tmp_path / "a.pgm")].count("read") > 0
    assert reader.process is not None
    reader.process.kill()
    reader.process.wait()
    assert [answer["what"] for answer in reader.ask("pgm", tmp_path / "a.pgm")] == ["dead process"]
    assert [answer["what"] for answer in reader.ask("pgm", tmp_path / "a.pgm")].count("read") > 0
    reader.end()
