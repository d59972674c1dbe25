from jiffy.core.placement import Need, Refusal, Room, place

GIBIBYTE = 2**30
SMALL = Need(cpu_millis=125, memory_bytes=GIBIBYTE)


def room(name: str, reserved: int = 0) -> Room:
    return Room(name, cpu_millis=4000, memory_bytes=8 * GIBIBYTE, memory_bytes_reserved=reserved * GIBIBYTE)


def test_the_fullest_worker_that_fits_is_taken() -> None:
    assert place(SMALL, [room("empty"), room("half", reserved=4), room("full", reserved=8)]) == "half"


def test_without_a_worker_the_reason_says_so() -> None:
    assert place(SMALL, []) == Refusal("no worker is connected", forever=False)


def test_full_workers_may_have_room_later() -> None:
    refusal = place(SMALL, [room("full", reserved=8)])
    assert isinstance(refusal, Refusal)
    assert not refusal.forever
    assert "1024 MiB" in refusal.reason


def test_what_no_worker_could_ever_hold_is_refused_for_good() -> None:
    refusal = place(Need(cpu_millis=125, memory_bytes=9 * GIBIBYTE), [room("empty")])
    assert isinstance(refusal, Refusal)
    assert refusal.forever
    assert "the largest has" in refusal.reason


def test_cpu_counts_as_memory_does() -> None:
    refusal = place(Need(cpu_millis=5000, memory_bytes=1), [room("empty")])
    assert isinstance(refusal, Refusal)
    assert refusal.forever
