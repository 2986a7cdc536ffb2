"""Whose address a connection comes from: a client can't choose it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgrealtime.admission.addresses import client_address, group_of
from orgrealtime.conf import get_settings
from tests.conftest import Configure

Scope = dict[str, Any]


def scope(peer: str | None, *lines: bytes, forwarded: Sequence[bytes] = ()) -> Scope:
    headers = [(b"x-forwarded-for", line) for line in lines]
    headers += [(b"Forwarded", line) for line in forwarded]
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


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("[::ffff:1.2.3.4]:1", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("1.2.3.4:", None),
        ("1.2.3.4:x", None),
        ("1.2.3.4:123456", None),
        ("1.2.3", None),
        ("01.2.3.4", None),
        ("1.2.3.4.", None),
        ("[1.2.3.4", None),
        ("2001:db8::7]", None),
        ("[2001:db8::7]443", None),
        ("2001:db8::7:::1", None),
        ("unknown", None),
        ("_hidden", None),
        ("unix:", None),
        ("client.example", None),
    ],
)
def test_hop_is_read_in_every_form_that_proxies_write(hop: str, address: str | None) -> None:
    assert client_address(scope("10.0.0.1", hop.encode())) == (address or "10.0.0.1")
    quoted = f'for="{hop}"'.encode()
    assert client_address(scope("10.0.0.1", forwarded=[quoted])) == (address or "10.0.0.1")
    assert client_address(scope("10.0.0.1", b"10.0.0.2, " + hop.encode() + b",10.0.0.3:80")) == (
        address or "10.0.0.1"
    )


def test_peer_with_a_port_or_zone_counts_without() -> None:
    """As a server that believes a proxy hands it on."""
    assert client_address(scope("1.2.3.4:5678")) == "1.2.3.4"
    assert client_address(scope("[fe80::1%eth0]:5678")) == "fe80::1"


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([b"for=1.2.3.4"], "1.2.3.4"),
        ([b"for=1.2.3.4;proto=http;by=203.0.113.43"], "1.2.3.4"),
        ([b"proto=http; FOR = 1.2.3.4"], None),
        ([b'proto=http ; FOR="1.2.3.4:80" , for=10.0.0.7'], "1.2.3.4"),
        ([b'For="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        ([b"for=[2001:db8::7]:80"], "2001:db8::7"),
        ([b"for=192.0.2.43, for=198.51.100.17;by=10.0.0.1;proto=http"], "198.51.100.17"),
        ([b"for=192.0.2.43", b"for=10.0.0.3"], "192.0.2.43"),
        ([b'for="1.2.3.\\4"'], "1.2.3.4"),
        ([b'for=1.2.3.4;x="a,b;for=6.6.6.6"'], "1.2.3.4"),
        ([b'for="1.2.3.4:_port"'], "1.2.3.4"),
        ([b"for=unknown"], None),
        ([b'for="_gazonk"'], None),
        ([b"proto=https"], None),
        ([b"for=1.2.3.4, proto=https"], None),
        ([b"for=1.2.3.4,"], None),
        ([b'for="1.2.3.4'], None),
        ([b'for="x', b"for=1.2.3.4"], None),
        ([b"1.2.3.4"], None),
        ([b"for=1.2.3.4;;"], "1.2.3.4"),
        ([b";for=1.2.3.4; ;proto=http"], "1.2.3.4"),
        ([b"for=1.2.3.4;host=a.example:8080;proto=http;proto-version="], "1.2.3.4"),
        ([b"for=1.2.3.4,for="], None),
        ([b"for=1.2.3.4,;"], None),
        ([b"for=1.2.3.4;=x"], None),
        ([b"\xff"], None),
        ([b" "], None),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(lines: list[bytes], address: str | None) -> None:
    assert client_address(scope("10.0.0.1", forwarded=lines)) == (address or "10.0.0.1")
    assert client_address(scope("9.9.9.9", forwarded=lines)) == "9.9.9.9"


@pytest.mark.usefixtures("proxies")
def test_headers_that_differ_are_believed_neither() -> None:
    """Proxies write one of them, and hand on the other as the client has sent it."""
    both = [b"for=1.2.3.4"]
    assert client_address(scope("10.0.0.1", b"1.2.3.4", forwarded=both)) == "1.2.3.4"
    assert client_address(scope("10.0.0.1", b"6.6.6.6", forwarded=both)) == "10.0.0.1"
    assert client_address(scope("10.0.0.1", b"x", forwarded=both)) == "10.0.0.1"
    assert client_address(scope("10.0.0.1", b"", forwarded=both)) == "1.2.3.4"


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize("line", [b"proto=https;host=a.example", b"by=10.0.0.2", b"proto=https,proto=http"])
def test_forwarded_that_names_no_address_says_nothing_against_the_other_header(line: bytes) -> None:
    assert client_address(scope("10.0.0.1", b"1.2.3.4", forwarded=[line])) == "1.2.3.4"
    assert client_address(scope("10.0.0.1", b"1.2.3.4", forwarded=[line, b"for=6.6.6.6"])) == "10.0.0.1"
    assert client_address(scope("10.0.0.1", b"1.2.3.4", forwarded=[b'x="'])) == "10.0.0.1"


addresses = st.ip_addresses().map(lambda each: getattr(each, "ipv4_mapped", None) or each)


def ways_to_write(address: Any) -> st.SearchStrategy[str]:
    """The forms of an address in which proxies write it."""
    bracketed = f"[{address}]" if address.version == 6 else str(address)
    with_port = st.integers(0, 65_535).map(lambda port: f"{bracketed}:{port}")
    return st.sampled_from([str(address), bracketed, address.exploded]) | with_port


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(addresses, st.data(), st.lists(st.sampled_from(["10.0.0.1", "[fd00::1]:80", "127.0.0.1:1"])))
def test_client_is_found_however_it_is_written_behind_any_proxies(
    proxies: None, address: Any, data: st.DataObject, behind: list[str]
) -> None:
    written = data.draw(ways_to_write(address))
    is_proxy = str(address).startswith(("10.", "fd")) or str(address) == "127.0.0.1"
    found = "10.9.9.9" if is_proxy else str(address)
    hops = [written, *behind]
    assert client_address(scope("10.9.9.9", ", ".join(hops).encode())) == found
    elements = ", ".join(f'for="{hop}";proto=https' for hop in hops)
    assert client_address(scope("10.9.9.9", forwarded=[elements.encode()])) == found


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.text(',;="\\\\ for1.[]:').map(str.encode),
            st.sampled_from([b"1.2.3.4", b"10.0.0.1, ::1", b"for=1.2.3.4", b'for="', b'for="a\\"', b'a="']),
        )
    )
)
def test_an_untrusted_client_cant_change_its_address_by_any_header(proxies: None, lines: list[bytes]) -> None:
    assert client_address(scope("9.9.9.9", *lines)) == "9.9.9.9"
    assert client_address(scope("9.9.9.9", forwarded=lines)) == "9.9.9.9"
    # nor behind a proxy that adds whom it was asked by
    assert client_address(scope("10.0.0.1", *lines, b"9.9.9.9")) == "9.9.9.9"
    # nor by the header that the proxy hands on, or by quotes that hide what the proxy adds
    assert client_address(scope("10.0.0.1", b"9.9.9.9", forwarded=lines)) in {"9.9.9.9", "10.0.0.1"}
    assert client_address(scope("10.0.0.1", *lines, forwarded=[b"for=9.9.9.9"])) in {"9.9.9.9", "10.0.0.1"}
    added = b'for="[2001:db8::9]:1";by="[fd00::1]"'
    for sent in ([*lines, added], [b",".join([*lines, added])]):
        assert client_address(scope("10.0.0.1", forwarded=sent)) in {"2001:db8::9", "10.0.0.1"}


@pytest.mark.usefixtures("proxies")
@pytest.mark.parametrize("client", [None, ""])
def test_unix_socket_has_no_address(client: str | None) -> None:
    assert client_address(scope(client, b"1.2.3.4")) is None


@pytest.mark.parametrize("client", [None, ""])
def test_unix_socket_is_a_proxy_where_it_is_trusted(configure: Configure, client: str | None) -> None:
    configure(TRUSTED_PROXIES=["unix:"])
    assert client_address(scope(client, b"6.6.6.6, 1.2.3.4")) == "1.2.3.4"
    assert client_address(scope(client, b"1.2.3.4, unix:")) == "1.2.3.4"
    assert client_address(scope(client, forwarded=[b"for=1.2.3.4"])) == "1.2.3.4"
    # One place in the quotas for all who hide theirs, not none.
    assert client_address(scope(client, b"1.2.3.4", forwarded=[b"for=6.6.6.6"])) == "unix:"
    assert client_address(scope(client)) == "unix:"
    assert client_address(scope("10.0.0.1", b"1.2.3.4")) == "10.0.0.1"


@pytest.mark.usefixtures("proxies")
def test_unix_socket_on_the_way_is_no_proxy_unless_it_is_trusted() -> None:
    assert client_address(scope("10.0.0.1", b"1.2.3.4, unix:")) == "10.0.0.1"


def test_ipv6_counts_by_its_network_of_64_bits() -> None:
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert group_of("2001:db8:0:1::1") == "2001:db8:0:1::/64"
    assert group_of("1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize("entry", ["proxy.example", "10.0.0.1/8", "10.0.0.0/99", "unix", ""])
def test_proxy_that_is_no_address_is_an_error(configure: Configure, entry: str) -> None:
    configure(TRUSTED_PROXIES=[entry])
    with pytest.raises(ImproperlyConfigured, match=r"'TRUSTED_PROXIES'\] has addresses and networks"):
        get_settings()
