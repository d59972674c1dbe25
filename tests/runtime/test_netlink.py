"""Requests to the kernel's network: done at once, or refused in words."""

from __future__ import annotations

import pytest

from jiffy.errors import JiffyError
from jiffy.runtime.namespaces import NetworkNamespace
from jiffy.runtime.netlink import Netlink

pytestmark = pytest.mark.root
LOOPBACK = 1


def test_what_the_kernel_refuses_is_said_with_its_reason() -> None:
    namespace = NetworkNamespace()
    try:
        netlink = namespace.inside(Netlink)
        netlink.set_up(LOOPBACK)
        netlink.add_address(LOOPBACK, "10.1.2.3", 24)
        with pytest.raises(JiffyError, match=r"does not give interface 1 the address 10\.1\.2\.3.*EEXIST"):
            netlink.add_address(LOOPBACK, "10.1.2.3", 24)
        with pytest.raises(JiffyError, match="ENODEV"):
            netlink.set_up(99)
        netlink.add_address(LOOPBACK, "10.1.2.4", 24)
        netlink.close()
    finally:
        namespace.close()
