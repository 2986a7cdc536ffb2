"""Whose address a connection comes from: a client can't choose it."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime.admission.addresses import client_address, group_of
from orgrealtime.conf import get_settings
from tests.conftest import Configure

Scope = dict[str, Any]


def scope(peer: str | None, *lines: bytes) -> Scope:
    headers = [(b"x-forwarded-for", line) for line in lines]
    return {"client": peer and (peer, 1234), "headers": headers}


@pytest.fixture
def proxies(configure: Configure) -> None:
    configure(TRUSTED_PROXIES=["10.0.0.0/8", "127.0.0.1", "fd00::/8"])


def test_without_proxies_the_peer_is_the_client() -> None:
    assert client_address(scope("10.0.0.1", b"1.2.3.4")) == "10.0.0.1"


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("10.0.0.1", [b"1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", [b"1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"6.6.6.6", b"1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [b"1.2.3.4", b"10.0.0.7"], "1.2.3.4"),
        ("fd00::1", [b"2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", [b"::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("10.0.0.1", [b"10.0.0.9"], "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"1.2.3.4, \xff\x00"], "10.0.0.1"),
        ("9.9.9.9", [b"1.2.3.4"], "9.9.9.9"),
    ],
)
def test_rightmost_address_that_is_no_proxy_is_the_client(
    peer: str, lines: list[bytes], address: str
) -> None:
    assert client_address(scope(peer, *lines)) == address


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"1.2.3.4", b"10.0.0.1, ::1"]))))
def test_an_untrusted_client_cant_change_its_address_by_any_header(proxies: None, lines: list[bytes]) -> None:
    assert client_address(scope("9.9.9.9", *lines)) == "9.9.9.9"
    # nor behind a proxy that adds whom it was asked by
    assert client_address(scope("10.0.0.1", *lines, b"9.9.9.9")) == "9.9.9.9"


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize("client", [None, ""])
def test_unix_socket_has_no_address(client: str | None) -> None:
    assert client_address(scope(client, b"1.2.3.4")) is None


def test_ipv6_counts_by_its_network_of_64_bits() -> None:
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert group_of("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert group_of("1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize("entry", ["proxy.example", "10.0.0.1/8", "10.0.0.0/99", "unix", ""])
def test_proxy_that_is_no_address_is_an_error(configure: Configure, entry: str) -> None:
    configure(TRUSTED_PROXIES=[entry])
    with pytest.raises(ImproperlyConfigured, match=r"'TRUSTED_PROXIES'\] has addresses and networks"):
        get_settings()
