"""What is fuzzed: each takes any bytes, and may refuse them only by an error of ours."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any, cast

import zstandard

from jiffy.errors import JiffyError
from jiffy.image.archive import import_archive, import_layer
from jiffy.image.assembly import Assembly
from jiffy.image.change import apply_change, encode_change, flatten, read_change
from jiffy.image.compression import decompress
from jiffy.image.estargz import FOOTER_BYTES, find_table, read_contents, read_gzip_table, read_zstd_table
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.manifest import Platform, choose_manifest, is_list, read_diff_ids, read_json, read_manifest
from jiffy.image.pieces import Checkpoint, unpack_from
from jiffy.image.reference import parse_reference
from jiffy.image.seek_index import read_seek_index
from jiffy.image.stages import plan_stages
from jiffy.image.tree import Tree
from jiffy.image.words import expand, expand_document, split_words
from jiffy.objects.local import ObjectBatch
from jiffy.server.oci_config import read_config

MOST_UNPACKED = 4 * 2**20


class _Writer:
    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)

    def publish(self) -> tuple[str, int]:
        return self._hash.hexdigest(), self._size


class _Nowhere:
    """Takes objects and forgets them: what is fuzzed is what comes before."""

    def writer(self) -> _Writer:
        return _Writer()


class _Bounded(io.RawIOBase):
    """As an import bounds what a decompression may give."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MOST_UNPACKED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def archive(data: bytes) -> None:
    entries = import_archive(_open(data), cast(ObjectBatch, _Nowhere()))
    encode_index(entries)


def layer(data: bytes) -> None:
    """Two layers, the second over the first, as an image has them."""
    middle = len(data) // 2
    assembly = Assembly()
    for part in (data[:middle], data[middle:]):
        change = import_layer(_open(part), cast(ObjectBatch, _Nowhere()))
        assembly.add(read_change(encode_change(change)))
    encode_index(list(assembly.entries()))


def change(data: bytes) -> None:
    root = [Entry(b"/", Kind.DIRECTORY, 0o755), Entry(b"/a", Kind.DIRECTORY, 0o755), Entry(b"/a/b", Kind.FILE, 0o644)]
    lower = Tree([Index.load(encode_index(root))])
    encode_index(list(flatten(lower, apply_change(lower, read_change(data), (b"/etc/hosts",)))))


def index(data: bytes) -> None:
    encode_index(list(Index.load(data)))


def manifest(data: bytes) -> None:
    value = read_json(data, "the manifest")
    if is_list(value):
        choose_manifest(value, Platform("amd64"))
    else:
        read_manifest(value)


def configuration(data: bytes) -> None:
    value = read_json(data, "the configuration")
    read_diff_ids(value, 1)
    read_config("0" * 64, value)


def reference(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert parse_reference(str(parse_reference(text))) == parse_reference(text)


def dockerfile(data: bytes) -> None:
    plan = plan_stages(data.decode("utf-8", "replace"), {"A": "b"})
    for stage in plan.stages:
        plan.needs(stage)


def words(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for escape in "\\`":
        split_words(text, escape)
        for run in (expand, expand_document):
            try:
                run(text, {"A": "1.2.3", "B": "*a*", "C": ""}, escape)
            except JiffyError:
                continue


def table(data: bytes) -> None:
    """A table of contents of a layer, and its end as a registry gives it."""
    find_table(data[-FOOTER_BYTES:])
    for read in (read_gzip_table, read_zstd_table):
        try:
            read(data)
        except JiffyError:
            continue
    assembly = Assembly()
    assembly.add(read_contents(data, 1000, "gzip").change)
    encode_index(list(assembly.entries()))


def seek_index(data: bytes) -> None:
    """A seek index without its compression, and one that is none."""
    for given in (zstandard.compress(data), data):
        try:
            contents = read_seek_index(given).contents()
        except JiffyError:
            continue
        assembly = Assembly()
        assembly.add(contents.change)
        encode_index(list(assembly.entries()))


def span(data: bytes) -> None:
    """What lies between two checkpoints, with a window."""
    if len(data) > 3:
        window, rest = data[2 : 2 + data[1]], data[2 + data[1] :]
        unpack_from(rest, Checkpoint(4096, data[0] & 7, 0, 0), window)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        archive,
        layer,
        change,
        index,
        manifest,
        configuration,
        reference,
        dockerfile,
        words,
        table,
        seek_index,
        span,
    )
}


def attempt(target: str, data: bytes) -> None:
    """Errors of ours are answers; any other is a finding."""
    try:
        TARGETS[target](data)
    except JiffyError as error:
        json.dumps(str(error))


def _open(data: bytes) -> Any:
    try:
        return _Bounded(decompress(io.BytesIO(data), data[:6]))
    except Exception as error:
        raise AssertionError("opening reads nothing yet") from error
