"""The file that describes a fleet: read, or refused with the one thing that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.errors import InvalidError
from jiffy.fleet.settings import read_fleet

GIBIBYTE = 2**30
GOOD = """
provider = "ec2"
maximum = 3
hourly = 1.5

[spare]
cpus = 1
memory = "2GiB"

[ec2]
region = "eu-west-1"
image = "ami-1"

[[offer]]
name = "small"
instance = "t3.medium"
cpus = 2
memory = "4GiB"
price = 0.04
labels = ["region=eu"]

[[offer]]
name = "spot"
cpus = 0.5
memory = 1000000
price = 0.01
spot = true
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_a_fleet_is_read(tmp_path: Path) -> None:
    settings = read_fleet(write(tmp_path, GOOD))
    small, spot = settings.kinds().values()
    assert (small.instance, small.offer.cpu_millis, small.offer.memory_bytes) == ("t3.medium", 2000, 4 * GIBIBYTE)
    assert small.offer.labels == {"region=eu"} and not small.spot
    assert (spot.instance, spot.offer.cpu_millis, spot.offer.memory_bytes, spot.spot) == ("spot", 500, 1000000, True)
    bounds = settings.bounds()
    assert (bounds.maximum, bounds.hourly, bounds.spare.cpu_millis) == (3, 1.5, 1000)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('provider = "ec2"', 'provider = "moon"', "provider: Input should be 'local', 'ec2', 'gce' or 'kubernetes'"),
        ('provider = "ec2"', 'provider = "gce"', r"\[gce\] is missing"),
        ("cpus = 2", "cpus = 0", "offer.0.cpus: Input should be greater than 0"),
        ('memory = "4GiB"', 'memory = "much"', "'much' is no size"),
        ("maximum = 3", "maximum = 3\nminimum = 4", "minimum is more than maximum"),
        ("maximum = 3", "maximum = 3\nmaximal = 4", "maximal: Extra inputs are not permitted"),
        ('name = "spot"', 'name = "small"', "two offers have the same name"),
        ("maximum = 3", "maximum", "describes no fleet"),
        ('image = "ami-1"', "", "ec2.image: Field required"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        read_fleet(write(tmp_path, GOOD.replace(old, new, 1)))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="No such file"):
        read_fleet(tmp_path / "fleet.toml")


def test_without_an_offer_there_is_no_fleet(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="offer"):
        read_fleet(write(tmp_path, 'provider = "local"\noffer = []\n'))
