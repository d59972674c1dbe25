"""The client's own recipe is known as a whole; another file with the same lines is carried out."""

from __future__ import annotations

from jiffy.image.debian_slim import shorten

RECIPE = [
    "FROM python:3.11-slim-trixie",
    "RUN apt-get update",
    "RUN apt-get install -y gcc gfortran build-essential",
    "RUN pip install --upgrade pip wheel uv",
    "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
    'CMD ["sleep", "172800"]',
]


def test_what_the_base_stands_for_is_passed_over() -> None:
    assert shorten(RECIPE) == [RECIPE[0], RECIPE[-1]]


def test_tools_are_kept_where_the_clients_packages_are_installed_with_them() -> None:
    older = [*RECIPE[:1], "COPY /modal_requirements.txt /modal_requirements.txt", *RECIPE[1:5]]
    older += ["RUN uv pip install --system --no-deps -r /modal_requirements.txt", "RUN rm /modal_requirements.txt"]
    assert "RUN pip install --upgrade pip wheel uv" in shorten(older)
    assert "RUN apt-get update" not in shorten(older)


def test_a_file_of_ones_own_is_left_as_it_is() -> None:
    own = [*RECIPE, "RUN apt-get install -y tree"]
    assert shorten(own) == own
    assert shorten(RECIPE[:2]) == RECIPE[:2]
