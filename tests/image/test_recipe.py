import pytest

from jiffy.errors import InvalidError, UnsupportedError
from jiffy.image.recipe import read_recipe

DEBIAN_SLIM = [
    "FROM python:3.11-slim-trixie",
    "RUN apt-get update",
    "RUN apt-get install -y gcc gfortran build-essential",
    "RUN pip install --upgrade pip wheel uv",
    "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
    'CMD ["sleep", "172800"]',
]


def test_the_recipe_of_debian_slim_is_known() -> None:
    recipe = read_recipe(DEBIAN_SLIM)
    assert recipe.base == "python:3.11-slim-trixie"
    assert recipe.command == ("sleep", "172800")


def test_environment_variables_are_unquoted_as_a_shell_does() -> None:
    assert read_recipe(["FROM base", "ENV A='b c' D=e"]).environment == {"A": "b c", "D": "e"}


def test_a_relative_working_directory_is_below_the_one_before() -> None:
    assert read_recipe(["FROM base", "WORKDIR /srv", "WORKDIR app"]).working_directory == "/srv/app"


def test_a_command_without_brackets_runs_in_a_shell() -> None:
    assert read_recipe(["FROM base", "ENTRYPOINT run me"]).entrypoint == ("/bin/sh", "-c", "run me")


@pytest.mark.parametrize("step", ["RUN pip install torch", "COPY . /", "USER nobody"])
def test_a_step_that_needs_a_build_is_refused_by_name(step: str) -> None:
    with pytest.raises(UnsupportedError, match="builds no images yet") as caught:
        read_recipe(["FROM base", step])
    assert step in str(caught.value)


@pytest.mark.parametrize("lines", [[], ["RUN x"], ["FROM base", "ENV A"], ["FROM base", 'CMD ["unclosed']])
def test_nonsense_is_invalid(lines: list[str]) -> None:
    with pytest.raises(InvalidError):
        read_recipe(lines)
