from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.alarms import Alarms


def test_alarms_come_in_the_order_of_their_times_and_once() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("late", 3.0)
    alarms.set("early", 1.0)
    assert alarms.next() == 1.0
    assert list(alarms.due(5.0)) == ["early", "late"]
    assert list(alarms.due(5.0)) == []
    assert alarms.next() is None


def test_setting_one_again_replaces_it() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("one", 1.0)
    alarms.set("one", 9.0)
    assert list(alarms.due(5.0)) == []
    alarms.cancel("one")
    assert alarms.next() is None


def test_one_that_is_put_off_again_and_again_takes_no_room() -> None:
    alarms: Alarms[str] = Alarms()
    for moment in range(1000):
        alarms.set("lease", moment + 8.0)
        alarms.set("other", moment + 300.0)
    assert len(alarms) == 2
    assert alarms.next() == 1007.0
    assert list(alarms.due(1299.0)) == ["lease", "other"]


def test_one_that_was_cancelled_and_set_again_comes_at_its_last_time() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("one", 2.0)
    alarms.cancel("one")
    alarms.set("one", 5.0)
    assert list(alarms.due(3.0)) == []
    alarms.set("one", 4.0)
    assert list(alarms.due(4.0)) == ["one"]
    assert alarms.next() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9)), st.booleans())))
def test_they_come_as_from_a_plain_table(steps: list[tuple[str, int | None, bool]]) -> None:
    alarms: Alarms[str] = Alarms()
    table: dict[str, float] = {}
    for now, (key, delay, rings) in enumerate(steps):
        if delay is None:
            alarms.cancel(key)
            table.pop(key, None)
        else:
            alarms.set(key, float(now + delay))
            table[key] = float(now + delay)
        assert alarms.next() == min(table.values(), default=None)
        if rings:
            due = {name for name, at in table.items() if at <= now}
            assert set(alarms.due(now)) == due
            table = {name: at for name, at in table.items() if name not in due}


def test_one_that_is_set_while_others_ring_is_for_the_next_time() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("one", 1.0)
    for key in alarms.due(5.0):
        alarms.set(key, 1.0)
    assert alarms.next() == 1.0
