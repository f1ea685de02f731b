import pytest

from anatozoo.annotate.plan import PLAN_NAME, Item, Plan, Settings, write_plan
from anatozoo.errors import ConfigError, DataError
from tests.support.annotating import settings

FACTS = {"model": ["a", "1"], "organs": ["heart"], "estimates": []}


def test_a_plan_is_read_shard_by_shard_in_the_order_of_the_ids(tmp_path):
    items = [Item(f"i{n}", f"f{n}", *((n, 5) if n % 2 else ())) for n in (6, 3, 0, 2, 5, 1, 4)]
    written = write_plan(tmp_path, settings("s"), FACTS, items, ["root"], ["a remark."])
    plan = Plan.read(tmp_path)
    assert plan == written
    assert list(plan.shards) == [0, 1, 2]
    assert [item for shard in plan.shards for item in plan.items(shard)] == sorted(items, key=lambda i: i.id)
    assert (plan.total, plan.roots, plan.remarks) == (7, ("root",), ("a remark.",))
    assert Plan.read(tmp_path / "nowhere") is None


def test_strange_names_survive(tmp_path):
    items = [Item("a\nb", "x\udcff"), Item('"', "ü", same_as="a\nb")]
    plan = write_plan(tmp_path, settings("s"), FACTS, items, [])
    assert plan.items(0) == [items[1], items[0]]


def test_two_images_with_one_id_are_refused_by_both_their_names(tmp_path):
    with pytest.raises(DataError, match=r"the id 'a': 'one' and 'two'.*--ids content"):
        write_plan(tmp_path, settings("s"), FACTS, [Item("a", "one"), Item("a", "two")], [])
    assert Plan.read(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_plan_is_refused(tmp_path):
    plan = write_plan(tmp_path, settings("s"), FACTS, [Item(str(n), "f") for n in range(7)], [])
    path = tmp_path / PLAN_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(DataError, match="restore it"):
        plan.items(2)
    for damaged in (
        b"",
        b"{}\n",
        b"[1]\n",
        b"\xff\xfe\n",
        whole.replace(b'"schema_version": 1', b'"schema_version": 9'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="plan of"):
            Plan.read(tmp_path)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"shard_size": 0}, {"ids": "name"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Settings(("s",), "m", **wrong)
