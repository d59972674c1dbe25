import pytest
from modal._utils.jwt_utils import DecodedJwt

from jiffy.errors import InvalidError
from jiffy.server.input_tokens import make_input_token, read_input_token


def test_the_client_reads_the_inputs_number_from_its_token() -> None:
    assert DecodedJwt.decode_without_verification(make_input_token("in-1", 7)).payload["idx"] == 7


def test_the_server_reads_the_inputs_id() -> None:
    assert read_input_token(make_input_token("in-1", 7)) == "in-1"
    assert read_input_token("in-1") == "in-1"


@pytest.mark.parametrize("token", ["..", "a.b.c", "e30.e30.", "e30.bnVsbA."])
def test_a_broken_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidError):
        read_input_token(token)
