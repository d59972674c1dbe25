"""What instructions mean."""

from __future__ import annotations

import pytest

from jiffy.image.dockerfile import DockerfileError, Heredoc, parse_dockerfile
from jiffy.image.instructions import Argument, Command, Copy, From, HealthCheck, Meaning, Pairs, Words, read_instruction


def read(text: str) -> Meaning | None:
    (instruction,) = parse_dockerfile(text)
    return read_instruction(instruction)


def test_from_may_name_its_stage_and_platform() -> None:
    meaning = read("FROM --platform=linux/amd64 a:b as Build")
    assert isinstance(meaning, From)
    assert (meaning.reference, meaning.name, meaning.platform) == ("a:b", "build", "linux/amd64")


def test_env_takes_pairs_or_one_name_with_the_rest_of_the_line() -> None:
    assert isinstance(pairs := read("ENV A=1 B='2 3' C=$D"), Pairs)
    assert pairs.pairs == (("A", "1"), ("B", "'2 3'"), ("C", "$D"))
    assert isinstance(old := read("ENV A b  c=d"), Pairs)
    assert old.pairs == (("A", "b  c=d"),)


def test_arg_may_have_defaults() -> None:
    assert isinstance(argument := read("ARG A B=1 C="), Argument)
    assert argument.pairs == (("A", None), ("B", "1"), ("C", ""))


def test_commands_are_words_or_a_line_for_the_shell() -> None:
    assert isinstance(words := read('RUN ["a", "b"]'), Command)
    assert words.words == ("a", "b")
    assert isinstance(line := read("RUN a && b"), Command)
    assert (line.words, line.line) == (None, "a && b")


def test_mounts_of_a_step_are_read_with_their_short_names() -> None:
    meaning = read("RUN --mount=type=cache,dst=/c,sharing=locked --mount=src=x,target=/y --network=none a")
    assert isinstance(meaning, Command)
    assert [dict(mount) for mount in meaning.mounts] == [
        {"type": "cache", "target": "/c", "sharing": "locked"},
        {"type": "bind", "source": "x", "target": "/y"},
    ]
    assert meaning.network == "none"


def test_copy_knows_its_flags() -> None:
    meaning = read("COPY --from=b --chown=1:2 --chmod=u=rw --link --exclude=*.a --exclude=*.b a b/ c/")
    assert isinstance(meaning, Copy)
    assert (meaning.sources, meaning.target, meaning.stage, meaning.owner) == (("a", "b/"), "c/", "b", "1:2")
    assert meaning.link and not meaning.parents and meaning.excluded == ("*.a", "*.b")


def test_copy_in_json_form_may_have_blanks_in_names() -> None:
    assert isinstance(meaning := read('COPY ["a b", "c d"]'), Copy)
    assert (meaning.sources, meaning.target) == (("a b",), "c d")


def test_expose_and_volume_take_many() -> None:
    assert isinstance(ports := read("EXPOSE 80 443/udp"), Words) and ports.words == ("80", "443/udp")
    assert isinstance(volumes := read('VOLUME ["/a", "/b"]'), Words) and volumes.words == ("/a", "/b")


def test_a_health_check_has_a_command_or_none() -> None:
    assert isinstance(check := read("HEALTHCHECK --interval=1m3.5s --retries=4 CMD a b"), HealthCheck)
    assert check.test == ("CMD-SHELL", "a b")
    assert check.options == {"Interval": 63_500_000_000, "Retries": 4}
    assert isinstance(none := read("HEALTHCHECK NONE"), HealthCheck) and none.test == ("NONE",)


def test_a_here_document_is_a_source_however_its_name_is_written() -> None:
    for marker in ("<<EOF", "<< EOF", "<<'EOF'", '<<"E"OF'):
        copy = read(f"COPY {marker} b /c\nx\nEOF")
        assert isinstance(copy, Copy)
        document, plain = copy.sources
        assert isinstance(document, Heredoc) and document.text == "x\n" and plain == "b"


def test_a_maintainer_means_nothing_any_more() -> None:
    assert read("MAINTAINER somebody") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUNN a", "unknown instruction RUNN .did you mean RUN"),
        ("RUN", "RUN needs something"),
        ("FROM a b", "makes no sense"),
        ("FROM a AS 1x", "cannot be called"),
        ("COPY a", "needs a source and a target"),
        ("COPY --from a b", "--from needs a value"),
        ("COPY --form=a b c", "has no flag --form"),
        ("COPY --link=maybe a b", "true or false"),
        ("COPY --chown=a --chown=b c d", "twice"),
        ("ENV A", "has no value"),
        ("ENV A=1 B", "cannot read `B`"),
        ("ARG =x", "has no name"),
        ("SHELL bash", "JSON form"),
        ("RUN --mount=type=cash,target=/x a", "the kinds are"),
        ("RUN --mount=type=cache a", "needs target="),
        ("RUN --mount=type=tmpfs,target=/x,mode=1 a", "has no field mode"),
        ("RUN --network=some a", "default, none or host"),
        ("RUN --security=insecure a", "not to be had"),
        ("HEALTHCHECK a", "makes no sense"),
        ("HEALTHCHECK --interval=soon CMD a", "is no time"),
        ("HEALTHCHECK --timeout=50ns CMD a", "too short"),
        ("HEALTHCHECK --retries=often CMD a", "is a number"),
        ("ONBUILD FROM a", "cannot be followed by FROM"),
        ("ONBUILD NOSUCH a", "unknown instruction"),
        ("RUN []", "has no words"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        read(f"\n{text}")
    assert caught.value.line == 2
