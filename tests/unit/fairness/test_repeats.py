import pandas as pd
import pytest

from anatozoo.errors import DataError
from anatozoo.fairness.audit import audit
from anatozoo.fairness.tables import Scores
from tests.support.fairness_data import scores


def run(table: pd.DataFrame, **settings: object) -> int:
    found = audit(
        Scores(table, len(table)), ["sex"], metrics=["dice/heart"], permutations=9, resamples=9, **settings
    )
    return found.frames[0].rows


def test_an_image_that_is_there_twice_is_refused():
    table = scores(20)
    for again in (table.iloc[3:4], table.iloc[3:4].assign(sex="M"), table.iloc[3:4].assign(age=1)):
        with pytest.raises(DataError, match="1 images are in several rows, such as image003; each counts"):
            run(pd.concat([table, again], ignore_index=True))


@pytest.mark.parametrize("column", ["position", "view", "site", "patient", "file"])
def test_rows_that_a_column_tells_apart_are_kept(column):
    table = scores(20)
    parts = [table.assign(**{column: [f"{k}-{i}" for i in range(20)]}) for k in range(2)]
    assert run(pd.concat(parts, ignore_index=True)) == 40
    with pytest.raises(DataError, match="in several rows"):
        run(pd.concat([*parts, parts[0].iloc[:1]], ignore_index=True))


def test_names_of_patients_may_repeat_and_names_may_be_absent():
    table = pd.concat([scores(20), scores(20)], ignore_index=True)
    assert run(table, subject="id") == 40
    assert run(table.drop(columns="id")) == 40
    assert run(table.assign(id=None)) == 40
