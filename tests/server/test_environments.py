import pytest

from jiffy.server.environments import builder_version


@pytest.mark.parametrize(
    ("client", "builder"),
    [("1.0.5", "2024.10"), ("1.1.4", "2025.06"), ("1.6.0", "2025.06"), ("1.6.4", "2026.10"), ("1.7.0", "2026.10")],
)
def test_a_client_hears_of_no_builder_that_it_does_not_know(client: str, builder: str) -> None:
    assert builder_version(client) == builder


def test_a_client_that_does_not_say_its_version_gets_the_newest() -> None:
    assert builder_version("") == "2026.10"
