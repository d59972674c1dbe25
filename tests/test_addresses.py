import hashlib

import pytest

from jiffy.addresses import pinned, read_address
from jiffy.errors import InvalidError, UnauthenticatedError

CERTIFICATE = b"a certificate"
PIN = hashlib.sha256(CERTIFICATE).hexdigest()


def test_an_address_has_a_host_and_a_port() -> None:
    address = read_address("https://host:9902/prefix/")
    assert (address.url, address.host, address.port, address.is_secure) == (
        "https://host:9902/prefix",
        "host",
        9902,
        True,
    )
    assert read_address("http://host").port == 80
    assert read_address("https://[::1]").port == 443


def test_without_encryption_nothing_is_checked() -> None:
    address = read_address("http://host:1")
    assert address.context() is None
    address.check(None)


def test_with_a_pin_only_that_certificate_is_believed() -> None:
    address = read_address(pinned("https://host:9902", PIN))
    assert address.url == "https://host:9902"
    address.check(CERTIFICATE)
    for other in (b"another certificate", None):
        with pytest.raises(UnauthenticatedError, match="not the server that issued the token"):
            address.check(other)


def test_without_a_pin_an_authority_must_have_signed() -> None:
    context = read_address("https://host").context()
    assert context is not None and context.check_hostname


@pytest.mark.parametrize(
    "text", ["host:9902", "ftp://host", "https://", "https://host:port", "https://host#sha256=12", "https://host#other"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no address of a server"):
        read_address(text)
