"""Dockerfiles are read as their reference says; what makes no sense is told with its line."""

from __future__ import annotations

import pytest

from jiffy.image.dockerfile import DockerfileError, Instruction, parse_dockerfile, read_json_words


def parse(text: str) -> list[Instruction]:
    return parse_dockerfile(text)


def texts(text: str) -> list[str]:
    return [instruction.source for instruction in parse(text)]


def test_keywords_may_be_in_any_case_and_lines_indented() -> None:
    assert texts("from a\n  Run b") == ["FROM a", "RUN b"]


def test_comments_and_empty_lines_are_left_out() -> None:
    assert texts("# one\n\nFROM a\n   # two\nRUN b # not a comment") == ["FROM a", "RUN b # not a comment"]


def test_a_line_that_ends_with_an_escape_goes_on() -> None:
    assert texts("RUN a \\\n  b \\ \t\n  c\nRUN d") == ["RUN a   b   c", "RUN d"]


def test_comments_and_empty_lines_within_a_continued_line_are_left_out() -> None:
    assert texts("RUN a \\\n# note\n\n   # another\n  b") == ["RUN a   b"]


def test_two_escapes_at_the_end_of_a_line_are_text() -> None:
    assert texts("RUN a \\\\\nRUN b") == ["RUN a \\\\", "RUN b"]


def test_the_escape_character_may_be_chosen_at_the_top() -> None:
    assert texts("# escape=`\nFROM a\nCOPY a `\n C:\\") == ["FROM a", "COPY a  C:\\"]


def test_a_directive_after_anything_else_is_a_comment() -> None:
    assert texts("# a comment\n# escape=`\nRUN a \\\n b") == ["RUN a  b"]


@pytest.mark.parametrize("text", ["# escape=x\nFROM a", "# escape=\\\n# escape=`\nFROM a"])
def test_a_directive_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse(text)


def test_lines_of_windows_and_a_byte_order_mark_are_read() -> None:
    assert texts("\ufeffFROM a\r\nRUN b \\\r\n c\r\n") == ["FROM a", "RUN b  c"]


def test_instructions_know_the_line_that_they_begin_at() -> None:
    assert [each.line for each in parse("# x\n\nFROM a\nRUN b \\\n\n  c\n\nRUN d")] == [3, 4, 8]


def test_flags_come_before_the_text_and_end_at_the_first_other_word() -> None:
    (copy,) = parse('COPY --from=base --chown="a:b" --link /x --y /z')
    assert copy.flags == (("from", "base"), ("chown", "a:b"), ("link", ""))
    assert copy.text == "/x --y /z"


def test_two_dashes_alone_end_the_flags() -> None:
    (copy,) = parse("COPY -- --from=x /z")
    assert copy.flags == () and copy.text == "--from=x /z"


def test_a_here_document_is_what_follows_up_to_its_name() -> None:
    run, copy = parse("RUN <<EOF\necho $A\n\n# kept\nEOF\nCOPY a b")
    assert [document.text for document in run.heredocs] == ["echo $A\n\n# kept\n"]
    assert run.heredocs[0].expands
    assert copy.line == 6


def test_a_here_document_with_a_dash_loses_its_tabs() -> None:
    (run,) = parse("RUN <<-EOF\n\tone\n\t\ttwo\n  three\n\tEOF")
    assert run.heredocs[0].text == "one\ntwo\n  three\n"


@pytest.mark.parametrize("marker", ['<<"EOF"', "<<'EOF'"])
def test_a_quoted_here_document_is_not_expanded(marker: str) -> None:
    (copy,) = parse(f"COPY {marker} /x\n$A\nEOF")
    assert not copy.heredocs[0].expands


def test_several_here_documents_follow_in_order() -> None:
    (copy,) = parse("COPY <<one <<two /dir/\n1\none\n2\ntwo")
    assert [(document.name, document.text) for document in copy.heredocs] == [("one", "1\n"), ("two", "2\n")]


def test_a_here_document_may_feed_a_descriptor() -> None:
    (run,) = parse("RUN cat 3<<EOF\nx\nEOF")
    assert run.heredocs[0].text == "x\n"


@pytest.mark.parametrize(
    ("marker", "name", "expands"),
    [
        ("<< EOF", "EOF", True),
        ("<<-  EOF", "EOF", True),
        ("<< -EOF", "-EOF", True),
        ("<<'two words'", "two words", False),
        ("<<half'way'", "halfway", False),
        ("<<it\\'s", "it's", True),
        ("<<$NAME", "$NAME", True),
        ("<<a.b-c", "a.b-c", True),
        ('<<"<"', "<", False),
    ],
)
def test_its_name_is_a_word_of_the_shell(marker: str, name: str, expands: bool) -> None:
    (run,) = parse(f"RUN cat {marker} > /x\ntext\n{name}\n")
    (document,) = run.heredocs
    assert (document.name, document.expands, document.text) == (name, expands, "text\n")
    assert run.text == f"cat {marker} > /x"


@pytest.mark.parametrize(
    "text",
    [
        *("RUN cat <<<word", 'RUN echo "<<EOF"', "RUN echo $((1<<2))", "ENV A=<<EOF", "RUN a <<\\"),
        *(
            "RUN echo $(( a << b ))",
            "RUN a <<'EOF",
            'RUN a <<EOF"',
            "RUN a <<",
            "RUN a <<-",
            "RUN a << 2",
            "RUN a<<EOF",
        ),
    ],
)
def test_what_only_looks_like_a_here_document_is_none(text: str) -> None:
    assert [each.heredocs for each in parse(text)] == [()]


def test_a_here_document_that_does_not_end_is_told_with_its_line() -> None:
    with pytest.raises(DockerfileError, match="line 2: the here-document <<EOF does not end"):
        parse("FROM a\nRUN <<EOF\nx")


def test_on_build_may_have_a_here_document() -> None:
    (on_build,) = parse("ONBUILD RUN <<EOF\nx\nEOF")
    assert on_build.heredocs[0].text == "x\n"


@pytest.mark.parametrize("text", ["[", '["a"', '["a", 1]', "[a]", "{}", '"a"', '["a"] b'])
def test_what_is_no_list_of_words_is_for_the_shell(text: str) -> None:
    assert read_json_words(text) is None


def test_words_in_json_form_are_read() -> None:
    assert read_json_words(' ["a b", "\\u0063"] ') == ("a b", "c")
