from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jiffy.core.placement import Need, Placement, Refusal, Room, Wish

GIBIBYTE = 2**30
SMALL = Need(cpu_millis=125, memory_bytes=GIBIBYTE)


def placement(**reserved: int) -> Placement:
    """Workers by name, each with so many GiB of 8 reserved."""
    made = Placement()
    for name, amount in reserved.items():
        made.put(Room(name, cpu_millis=4000, memory_bytes=8 * GIBIBYTE))
        made.reserve(name, f"ta-{name}", Need(0, amount * GIBIBYTE))
    return made


def refused(found: str | Refusal) -> Refusal:
    assert isinstance(found, Refusal)
    return found


def test_the_fullest_worker_that_fits_is_taken() -> None:
    assert placement(empty=0, half=4, full=8).place(SMALL) == "half"


def test_without_a_worker_the_reason_says_so() -> None:
    assert Placement().place(SMALL) == Refusal("no worker is connected", forever=False)


def test_full_workers_may_have_room_later() -> None:
    refusal = refused(placement(full=8).place(SMALL))
    assert not refusal.forever
    assert "1024 MiB" in refusal.reason


def test_what_no_worker_could_ever_hold_is_refused_for_good() -> None:
    refusal = refused(placement(empty=0).place(Need(cpu_millis=125, memory_bytes=9 * GIBIBYTE)))
    assert refusal.forever
    assert "the largest has" in refusal.reason


def test_cpu_counts_as_memory_does() -> None:
    assert refused(placement(empty=0).place(Need(cpu_millis=5000, memory_bytes=1))).forever


def test_a_worker_that_is_likely_to_be_overloaded_is_taken_last() -> None:
    made = placement(calm=0, busy=1)
    made.reserve("busy", "ta-hungry", Need(125, 0, cpu_expected=4000))
    assert made.place(SMALL) == "calm"


def test_a_host_that_holds_the_layers_is_preferred() -> None:
    made = placement(fuller=2, holder=0)
    made.put(Room("holder", cpu_millis=4000, memory_bytes=8 * GIBIBYTE, layers=frozenset({"base", "image"})))
    assert made.place(SMALL, Wish("fu-1", ("base", "image"))) == "holder"
    assert made.place(SMALL, Wish("fu-1", ("other",))) == "fuller"


def test_containers_of_one_function_are_spread() -> None:
    made = placement(first=0, second=0)
    places = []
    for number in range(4):
        place = made.place(SMALL, Wish("fu-1"))
        assert isinstance(place, str)
        made.reserve(place, f"ta-{number}", SMALL, "fu-1")
        places.append(place)
    assert sorted(places) == ["first", "first", "second", "second"]


def test_gpus_are_placed_by_count_and_type_the_most_wanted_first() -> None:
    made = Placement()
    for name, kind in (("a", "T4"), ("b", "H100"), ("c", "L4")):
        made.put(Room(name, 4000, 8 * GIBIBYTE, gpus=2, gpu_type=kind))
    wanted = Need(125, GIBIBYTE, gpus=1, gpu_types=("H100", "T4"))
    places = []
    for number in range(4):
        place = made.place(wanted)
        assert isinstance(place, str)
        made.reserve(place, f"ta-{number}", wanted)
        places.append(place)
    assert places == ["b", "b", "a", "a"]
    assert refused(made.place(wanted)).reason.startswith("every worker is full: it takes 1 free H100 or T4 GPU")
    never = refused(made.place(Need(125, GIBIBYTE, gpus=4, gpu_types=("T4",))))
    assert never == Refusal("no worker has 4 free T4 GPUs", forever=True)


def test_a_worker_needs_the_labels_that_are_asked_for() -> None:
    made = placement(plain=0)
    made.put(Room("labelled", 4000, 8 * GIBIBYTE, labels=frozenset({"zone=a"})))
    assert made.place(SMALL, Wish(labels=(frozenset({"zone=a", "zone=c"}),))) == "labelled"
    wish = Wish(labels=(frozenset({"zone=b", "zone=c"}),))
    assert refused(made.place(SMALL, wish)).reason == "no worker has zone=b or zone=c"
    both = Wish(labels=(frozenset({"zone=a"}), frozenset({"zone=b"})))
    assert refused(made.place(SMALL, both)).reason == "no worker has zone=a and zone=b"


def test_a_label_that_no_worker_has_of_any_value_is_asked_of_none() -> None:
    made = placement(plain=0)
    wish = Wish(labels=(frozenset({"region=eu"}),))
    assert made.place(SMALL, wish) == "plain"
    made.put(Room("labelled", 4000, 8 * GIBIBYTE, labels=frozenset({"region=us"})))
    assert refused(made.place(SMALL, wish)).reason == "no worker has region=eu"
    made.remove("labelled")
    assert made.place(SMALL, wish) == "plain"


def test_a_held_worker_takes_others_only_as_far_as_they_leave_room() -> None:
    made = placement(only=4)
    large = Need(125, 6 * GIBIBYTE)
    made.hold("only", "fu-large", large)
    for number in range(2):
        assert made.place(SMALL, Wish("fu-small")) == "only"
        made.reserve("only", f"ta-{number}", SMALL, "fu-small")
    assert isinstance(made.place(SMALL, Wish("fu-small")), Refusal), "2 of 8 GiB are left beside the large one"
    made.free("ta-only")
    assert isinstance(made.place(SMALL, Wish("fu-small")), Refusal)
    assert made.place(large, Wish("fu-large")) == "only"
    assert made.release("fu-large")
    assert made.place(SMALL, Wish("fu-small")) == "only"


def test_what_a_worker_that_comes_back_had_reserved_stays_reserved() -> None:
    made = placement(only=8)
    made.remove("only")
    made.put(Room("only", cpu_millis=4000, memory_bytes=8 * GIBIBYTE))
    assert isinstance(made.place(SMALL), Refusal)
    made.free("ta-only")
    assert made.place(SMALL) == "only"


class Ledger(RuleBasedStateMachine):
    """However containers come and go, no worker has more reserved than it has, and the sums are right."""

    def __init__(self) -> None:
        super().__init__()
        self.placement = Placement()
        self.live: dict[str, tuple[str, Need]] = {}
        self.rooms: dict[str, Room] = {}
        self.number = 0

    @rule(name=st.sampled_from("abcd"), cpu=st.integers(1, 16), memory=st.integers(1, 32))
    def put(self, name: str, cpu: int, memory: int) -> None:
        if name not in self.rooms:
            self.rooms[name] = Room(name, cpu * 1000, memory * GIBIBYTE)
            self.placement.put(self.rooms[name])

    @rule(name=st.sampled_from("abcd"))
    def remove(self, name: str) -> None:
        self.rooms.pop(name, None)
        self.placement.remove(name)

    @rule(cpu=st.integers(0, 4000), memory=st.integers(0, 8))
    def place(self, cpu: int, memory: int) -> None:
        need = Need(cpu, memory * GIBIBYTE)
        found = self.placement.place(need)
        if isinstance(found, Refusal):
            assert not any(self._fits(room, need) for room in self.rooms.values())
        else:
            assert self._fits(self.rooms[found], need)
            self.number += 1
            self.placement.reserve(found, f"ta-{self.number}", need)
            self.live[f"ta-{self.number}"] = (found, need)

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        if self.live:
            task_id = data.draw(st.sampled_from(sorted(self.live)))
            del self.live[task_id]
            self.placement.free(task_id)

    @invariant()
    def what_is_reserved_is_what_lives(self) -> None:
        assert sorted(task_id for task_id, _, _ in self.placement.reserved()) == sorted(self.live)

    def _fits(self, room: Room, need: Need) -> bool:
        there = [held for name, held in self.live.values() if name == room.worker_id]
        return (
            sum(held.cpu_millis for held in there) + need.cpu_millis <= room.cpu_millis
            and sum(held.memory_bytes for held in there) + need.memory_bytes <= room.memory_bytes
        )


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_a_worker_that_may_be_had_could_take_is_not_refused_for_ever() -> None:
    made = placement(empty=0)
    made.expect([Room("offer", 32_000, 64 * GIBIBYTE, labels=frozenset({"zone=a"}))], "1 an hour may be spent")
    large = Need(16_000, GIBIBYTE)
    refusal = refused(made.place(large))
    assert refusal.reason.endswith("is there yet: 1 an hour may be spent")
    assert not refusal.forever
    assert refused(made.place(Need(64_000, GIBIBYTE))).forever
    wish = Wish(labels=(frozenset({"zone=a"}), frozenset({"region=eu"})))
    assert not refused(made.place(SMALL, wish)).forever, "a zone may be had, a region nobody has"
    assert made.binding_labels(wish) == (frozenset({"zone=a"}),)


def test_what_is_left_is_what_workers_have_less_what_is_reserved() -> None:
    made = placement(one=3, other=8)
    before = made.left()
    made.reserve("one", "ta-more", Need(500, GIBIBYTE))
    after = made.left()
    assert (before.cpu_millis - after.cpu_millis, before.memory_bytes - after.memory_bytes) == (500, GIBIBYTE)
    assert {room.worker_id: busy for room, busy in made.rooms()} == {"one": True, "other": True}
    made.free("ta-one")
    made.free("ta-more")
    assert {room.worker_id: busy for room, busy in made.rooms()} == {"one": False, "other": True}
