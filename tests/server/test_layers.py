"""Layers grow by what steps change, and become one where something is taken away."""

from __future__ import annotations

import pytest

from jiffy.image.change import Change, encode_change
from jiffy.image.index import Entry, Kind
from jiffy.objects.local import LocalObjects
from jiffy.server.layers import MOST_LAYERS, Layers, without_repeats


@pytest.fixture
def layers(objects: LocalObjects) -> Layers:
    return Layers(objects)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), Kind.DIRECTORY, mode)


def file(path: str, mode: int = 0o644) -> Entry:
    return Entry(path.encode(), Kind.FILE, mode)


def paths(layers: Layers, stack: tuple[str, ...]) -> list[str]:
    return [entry.path.decode() for entry in layers.tree(stack)]


@pytest.fixture
def base(layers: Layers) -> tuple[str, ...]:
    return (layers.put([folder("/"), folder("/etc"), file("/etc/a"), folder("/usr"), file("/usr/x")]),)


def change(objects: LocalObjects, *entries: Entry, removed: tuple[str, ...] = ()) -> str:
    made = Change(entries=[folder("/"), *entries], removed={path.encode() for path in removed})
    return objects.put(encode_change(made))


def test_what_is_new_is_one_more_layer(layers: Layers, objects: LocalObjects, base: tuple[str, ...]) -> None:
    stack = layers.add_change(base, change(objects, folder("/etc"), file("/etc/b")), (), ())
    assert stack[:1] == base and len(stack) == 2
    assert "/etc/a" in paths(layers, stack) and "/etc/b" in paths(layers, stack)


def test_a_step_that_changed_nothing_adds_nothing(layers: Layers, objects: LocalObjects, base: tuple[str, ...]) -> None:
    touched = Entry(b"/etc", Kind.DIRECTORY, 0o755, mtime_ns=5)
    assert layers.add_change(base, change(objects, touched), (), ()) == base


def test_what_is_taken_away_merges_the_layers_from_the_lowest_that_had_it(
    layers: Layers, objects: LocalObjects, base: tuple[str, ...]
) -> None:
    two = layers.add_change(base, change(objects, folder("/tmp"), file("/tmp/t")), (), ())
    three = layers.add_change(two, change(objects, folder("/var"), file("/var/v")), (), ())
    less = layers.add_change(three, change(objects, folder("/tmp"), removed=("/tmp/t",)), (), ())
    assert less[:1] == base and len(less) == 2
    assert "/tmp/t" not in paths(layers, less) and "/var/v" in paths(layers, less)
    least = layers.add_change(less, change(objects, folder("/etc"), removed=("/etc/a",)), (), ())
    assert len(least) == 1 and "/etc/a" not in paths(layers, least)


def test_what_lay_in_a_dropped_place_is_not_the_steps_own(
    layers: Layers, objects: LocalObjects, base: tuple[str, ...]
) -> None:
    made = change(objects, folder("/pkg"), file("/pkg/x"), file("/kept"))
    stack = layers.add_change(base, made, (), (b"/pkg",))
    assert "/kept" in paths(layers, stack) and "/pkg" not in paths(layers, stack)


def test_copies_of_what_is_there_add_nothing(layers: Layers, base: tuple[str, ...]) -> None:
    assert layers.add_entries(base, [file("/etc/a")]) == base
    assert len(layers.add_entries(base, [file("/etc/a", 0o600)])) == 2


def test_there_are_never_too_many(layers: Layers, objects: LocalObjects, base: tuple[str, ...]) -> None:
    stack = base
    for number in range(2 * MOST_LAYERS):
        stack = layers.add_change(stack, change(objects, file(f"/{number}")), (), ())
    assert len(stack) <= MOST_LAYERS
    assert {f"/{number}" for number in range(2 * MOST_LAYERS)} < set(paths(layers, stack))


def test_of_a_layer_that_is_there_twice_the_upper_counts() -> None:
    assert without_repeats(("a", "b", "a", "c")) == ("b", "a", "c")


def test_a_small_file_of_a_tree_is_read(layers: Layers, objects: LocalObjects) -> None:
    digest = objects.put(b"text")
    entry = Entry(b"/etc/x", Kind.FILE, 0o644, size=4, digest=digest)
    stack = (layers.put([folder("/"), folder("/etc"), entry]),)
    assert layers.read(layers.tree(stack), "/etc/x") == "text"
    assert layers.read(layers.tree(stack), "/etc/y") == ""


def test_a_layer_for_the_top_leaves_the_others_as_they_are(layers: Layers, base: tuple[str, ...]) -> None:
    top = layers.graft(base, [file("/etc/bound")])
    assert paths(layers, (*base, top)).count("/etc/bound") == 1
    assert "/usr" not in paths(layers, (top,))
