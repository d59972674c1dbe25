"""Manifests are checked before anything is fetched."""

from __future__ import annotations

from typing import Any

import pytest

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.image.manifest import (
    MANIFEST_TYPES,
    Platform,
    choose_manifest,
    is_list,
    parse_platform,
    read_diff_ids,
    read_json,
    read_manifest,
)

DIGEST = "sha256:" + "a" * 64
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}


def layer(**changes: Any) -> dict[str, Any]:
    return {"mediaType": LAYER, "digest": DIGEST, "size": 7, **changes}


def listed(*platforms: dict[str, str]) -> dict[str, Any]:
    entries = [
        {"mediaType": MANIFEST_TYPES[0], "digest": f"sha256:{number:064x}", "size": 1, "platform": platform}
        for number, platform in enumerate(platforms)
    ]
    return {"schemaVersion": 2, "manifests": entries}


def test_a_manifest_lists_its_layers_in_order() -> None:
    manifest = read_manifest({"config": CONFIG, "layers": [layer(size=1), layer(size=2)]})
    assert [each.size for each in manifest.layers] == [1, 2]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ],
)
def test_all_kinds_of_layers_are_known(media_type: str) -> None:
    assert read_manifest({"config": CONFIG, "layers": [layer(mediaType=media_type)]}).layers


@pytest.mark.parametrize(
    "changes",
    [
        {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
        {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"},
        {"urls": ["https://elsewhere.example.com/layer"]},
        {"mediaType": "application/vnd.in-toto+json"},
    ],
)
def test_layers_that_lie_elsewhere_or_hold_no_files_are_refused_with_a_reason(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"a foreign layer: |it is no tar"):
        read_manifest({"config": CONFIG, "layers": [layer(**changes)]})


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"config": CONFIG},
        {"config": None, "layers": []},
        {"config": CONFIG, "layers": [None]},
        {"config": CONFIG, "layers": [layer(digest="sha256:../../etc/passwd")]},
        {"config": CONFIG, "layers": [layer(digest="md5:abc")]},
        {"config": CONFIG, "layers": [layer(size=-1)]},
        {"config": CONFIG, "layers": [layer(size="7")]},
        {"config": CONFIG, "layers": [layer(size=True)]},
        {"config": CONFIG, "layers": [layer(annotations=[1])]},
        {"config": CONFIG, "layers": [layer()] * 1000},
    ],
)
def test_what_makes_no_sense_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        read_manifest(value)


def test_an_old_manifest_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnsupportedError, match="schema 1"):
        read_manifest({"schemaVersion": 1, "fsLayers": []})


def test_of_several_the_one_for_the_platform_is_chosen() -> None:
    value = listed({"os": "linux", "architecture": "arm64"}, {"os": "linux", "architecture": "amd64"})
    assert is_list(value)
    assert choose_manifest(value, Platform("amd64")).digest.endswith("1")


def test_a_variant_is_chosen_where_it_is_wanted() -> None:
    arm = {"os": "linux", "architecture": "arm"}
    value = listed({**arm, "variant": "v6"}, {**arm, "variant": "v7"})
    assert choose_manifest(value, parse_platform("linux/arm/v7")).digest.endswith("1")
    assert choose_manifest(value, parse_platform("linux/arm")).digest.endswith("0")


def test_a_platform_that_is_not_there_is_told_with_those_that_are() -> None:
    value = listed({"os": "linux", "architecture": "arm64"}, {"os": "unknown", "architecture": "unknown"})
    with pytest.raises(NotFoundError, match=r"not made for linux/amd64: there is linux/arm64$"):
        choose_manifest(value, Platform("amd64"))


@pytest.mark.parametrize("config", [{}, {"rootfs": []}, {"rootfs": {"diff_ids": [1]}}, {"rootfs": {"diff_ids": []}}])
def test_a_configuration_tells_the_digest_of_each_layer(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        read_diff_ids(config, 1)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"a":1}' + b" " * (5 * 2**20)])
def test_what_is_no_small_object_of_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        read_json(data, "the manifest")
