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


def test_one_that_is_set_while_others_ring_is_for_the_next_time() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("one", 1.0)
    for key in alarms.due(5.0):
        alarms.set(key, 1.0)
    assert alarms.next() == 1.0
