"""The tokens by which clients name inputs. The client reads the number of the input from a JWT, so they are JWTs; nothing is
signed, since an input's id cannot be guessed and nothing else is taken from the token."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from jiffy.errors import InvalidError

_HEADER: Final = {"alg": "none", "typ": "JWT"}


def make_input_token(input_id: str, number: int) -> str:
    return f"{_encode(_HEADER)}.{_encode({'idx': number, 'input_id': input_id})}."


def read_input_token(token: str) -> str:
    """The input's id. Earlier servers gave that itself."""
    if "." not in token:
        return token
    try:
        payload = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["input_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError("a broken token of an input") from error


def _encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
