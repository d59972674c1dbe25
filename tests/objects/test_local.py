"""An object is a complete, verified file or it is not there."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.errors import CorruptError, ExhaustedError, InvalidError, NotFoundError
from jiffy.objects.base import check_digest, object_path
from jiffy.objects.local import LocalObjects
from tests.objects.conftest import make_objects


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_was_put_is_read_back_under_its_sha256(objects: LocalObjects) -> None:
    digest = objects.put(b"hello")
    assert digest == digest_of(b"hello")
    assert objects.read(digest) == b"hello"
    assert objects.size(digest) == 5
    assert objects.path(digest) == objects.root / digest[:2] / digest[2:]


def test_an_object_is_read_only(objects: LocalObjects) -> None:
    assert objects.path(objects.put(b"x")).stat().st_mode & 0o777 == 0o444


def test_an_object_that_is_not_there_has_no_size_and_cannot_be_read(objects: LocalObjects) -> None:
    digest = digest_of(b"absent")
    assert objects.size(digest) is None
    assert not objects.has(digest)
    assert objects.missing([digest, objects.put(b"here")]) == [digest]
    with pytest.raises(NotFoundError):
        objects.read(digest)


def test_wrong_bytes_are_refused_and_nothing_stays(objects: LocalObjects) -> None:
    expected = digest_of(b"right")
    with pytest.raises(CorruptError):
        objects.put(b"wrong", expected)
    assert not objects.has(expected)
    assert not objects.has(digest_of(b"wrong"))
    assert names_in(objects.incoming) == []


def test_a_writer_that_is_left_without_publishing_leaves_nothing(objects: LocalObjects) -> None:
    with objects.writer() as writer:
        writer.write(b"half")
    assert names_in(objects.incoming) == []
    assert list(objects) == []


def test_objects_of_a_batch_appear_together_at_its_end(objects: LocalObjects) -> None:
    with objects.batch() as batch:
        digests = [batch.put(bytes([number])) for number in range(20)]
        assert not any(objects.has(digest) for digest in digests)
    assert all(objects.read(digest) == bytes([number]) for number, digest in enumerate(digests))
    assert names_in(objects.incoming) == []


def test_a_batch_that_fails_leaves_nothing(objects: LocalObjects) -> None:
    with pytest.raises(ValueError), objects.batch() as batch:
        batch.put(b"one")
        raise ValueError
    assert list(objects) == []
    assert names_in(objects.incoming) == []


def test_equal_contents_in_a_batch_are_one_object(objects: LocalObjects) -> None:
    with objects.batch() as batch:
        assert batch.put(b"same") == batch.put(b"same")
    assert len(list(objects)) == 1


def test_deleting_what_is_not_there_is_no_error(objects: LocalObjects) -> None:
    digest = objects.put(b"x")
    objects.delete(digest)
    objects.delete(digest)
    assert not objects.has(digest)


@given(contents=st.lists(st.binary(max_size=200), max_size=12))
@settings(max_examples=30, deadline=None)
def test_the_store_holds_exactly_what_was_put(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    objects = make_objects(tmp_path_factory.mktemp("objects"))
    for data in contents:
        objects.put(data)
    assert sorted(objects) == sorted({digest_of(data) for data in contents})
    assert all(digest_of(objects.read(digest)) == digest for digest in objects)


def test_a_sweep_removes_what_the_dead_left_and_nothing_else(objects: LocalObjects) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (objects.incoming / f"{ended.pid}-0").write_bytes(b"half")
    (objects.incoming / f"{ended.pid}-folder" / "in").mkdir(parents=True)
    mine = objects.incoming / f"{os.getpid()}-0"
    mine.write_bytes(b"being written")
    objects.sweep()
    assert names_in(objects.incoming) == [mine.name]


def test_a_killed_writer_leaves_the_store_as_it_was(objects: LocalObjects) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from jiffy.objects.local import LocalObjects
        objects = LocalObjects(Path({str(objects.root)!r}), Path({str(objects.incoming)!r}))
        writer = objects.writer()
        writer.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())], check=False)
    assert len(names_in(objects.incoming)) == 1
    objects.sweep()
    assert names_in(objects.incoming) == []
    assert list(objects) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more fails, as on a full disk, though with another error number."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_half_way_publishes_nothing(objects: LocalObjects) -> None:
    with files_of_at_most(10), pytest.raises((OSError, ExhaustedError)):
        objects.put(b"more than ten bytes")
    assert names_in(objects.incoming) == []
    assert list(objects) == []


@pytest.mark.parametrize("text", ["", "ab", "G" * 64, "a" * 63, "../../etc/passwd", "A" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        check_digest(text)


def test_an_object_lies_in_a_folder_of_its_first_two_digits() -> None:
    assert object_path("ab" + "c" * 62) == "ab/" + "c" * 62
