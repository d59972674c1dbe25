"""Words of a Dockerfile: split, expanded, unquoted."""

from __future__ import annotations

import time

import pytest

from jiffy.errors import InvalidError
from jiffy.image.words import expand, expand_document, split_pair, split_words

VARIABLES = {"STARS": "xx**", "BRACES": "{a}x", "A": "1.2.3", "EMPTY": "", "PATH": "/usr/bin:/bin", "NAME": "jiffy"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "1.2.3"),
        ("${A}x", "1.2.3x"),
        ("$Ax", ""),
        ("$UNKNOWN-", "-"),
        ("\\$A", "$A"),
        ("\\${A}", "${A}"),
        ("'$A'", "$A"),
        ('"$A"', "1.2.3"),
        ('"\\$A \\" \\x"', '$A " \\x'),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("a$", "a$"),
        ("$$A", "A"),
        ("${UNKNOWN:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${A:-x}", "1.2.3"),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNKNOWN+x}", ""),
        ("${UNKNOWN:-$NAME}", "jiffy"),
        ("${UNKNOWN:-${EMPTY:-y}}", "y"),
        ("${UNKNOWN:-'a b'}", "a b"),
        ("${A#*.}", "2.3"),
        ("${A##*.}", "3"),
        ("${A%.*}", "1.2"),
        ("${A%%.*}", "1"),
        ("${A#x}", "1.2.3"),
        ("${A#1?2}", ".3"),
        ("${A/./-}", "1-2.3"),
        ("${A//./-}", "1-2-3"),
        ("${A//.}", "123"),
        ("${A//./\\/}", "1\\/2\\/3"),
        ("${STARS%%\\**}", "xx"),
        ("${STARS%\\*}", "xx*"),
        ("${STARS//\\*/-}", "xx--"),
        ("${BRACES#\\{*\\}}", "x"),
        ("${A/$EMPTY/-}", "-1.2.3"),
        ("${NAME/f*/s}", "jis"),
        ("$PATH:/x", "/usr/bin:/bin:/x"),
    ],
)
def test_variables_are_expanded(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


@pytest.mark.parametrize("text", ["${A", "${", "${A!x}", "${}", "'a", '"a', "${A:-x", "${A/x"])
def test_what_stays_open_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        expand(text, VARIABLES)


def test_a_variable_may_be_required() -> None:
    assert expand("${A:?needed}", VARIABLES) == "1.2.3"
    with pytest.raises(InvalidError, match="EMPTY is not set: it is needed"):
        expand("${EMPTY:?it is needed}", VARIABLES)


def test_with_another_escape_a_backslash_is_text() -> None:
    assert expand("C:\\dir `$A", VARIABLES, "`") == "C:\\dir $A"


def test_quotes_of_a_here_document_are_text() -> None:
    assert expand_document("'$A' \"$NAME\" \\$A \\n\n", VARIABLES) == "'1.2.3' \"jiffy\" $A \\n\n"


def test_words_are_split_at_blanks_outside_of_quotes() -> None:
    assert split_words("a 'b c'  d\\ e \"f g\"h") == ["a", "'b c'", "d\\ e", '"f g"h']


def test_pairs_are_split_at_the_first_equals_sign_outside_of_quotes() -> None:
    assert split_pair("a=b=c") == ("a", "b=c")
    assert split_pair("'a=b'=c") == ("'a=b'", "c")
    assert split_pair("a") is None


def test_no_pattern_takes_long() -> None:
    started = time.process_time()
    expand("${X%%*a*a*a*a*a*a*a*b}", {"X": "a" * 4000})
    expand("${X//*a*a*a*a*b/}", {"X": "a" * 4000})
    assert time.process_time() - started < 20


def test_an_expansion_cannot_grow_without_end() -> None:
    with pytest.raises(InvalidError, match="too long"):
        expand("$X" * 2000, {"X": "x" * 1000})
