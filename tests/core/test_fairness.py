from jiffy.core.fairness import Shares
from jiffy.core.placement import Need

TOTAL = Need(cpu_millis=8000, memory_bytes=1000, gpus=4)


def test_an_apps_share_is_that_of_the_resource_that_it_has_most_of() -> None:
    shares = Shares()
    shares.take("ap-1", Need(800, 500), 1)
    shares.take("ap-2", Need(800, 100, gpus=3), 1)
    assert shares.dominant("ap-1", TOTAL) == 0.5
    assert shares.dominant("ap-2", TOTAL) == 0.75
    assert shares.dominant("ap-3", TOTAL) == 0


def test_what_is_given_back_does_not_count() -> None:
    shares = Shares()
    shares.take("ap-1", Need(800, 500), 1)
    shares.take("ap-1", Need(800, 500), -1)
    assert shares.dominant("ap-1", TOTAL) == 0
