"""The address that a connection comes from, also behind proxies."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from orgrealtime.conf import UNIX_SOCKET, get_settings

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_ZONE = r"(?:%[^\s\]]*)?"
_HOP = re.compile(rf"([0-9.]+){_PORT}|\[([0-9A-Fa-f:.]+){_ZONE}\]{_PORT}|([0-9A-Fa-f:.]+){_ZONE}")
_PAIR_TEXT = r"""[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))[ \t]*)?"""
_PAIR = re.compile(_PAIR_TEXT + "([,;]|$)")
_FORWARDED = re.compile(f"{_PAIR_TEXT}(?:[,;]{_PAIR_TEXT})*")


def client_address(scope: Mapping[str, Any]) -> str | None:
    """Return the address of the client of an ASGI scope, None if the server doesn't know it.

    `X-Forwarded-For` and `Forwarded` (RFC 7239) count only from `TRUSTED_PROXIES`: of each the rightmost address that
    isn't a trusted proxy's. Where there are both, and they differ, one is the client's own. This and what can't be read
    leave the proxy's own address, so that garbage doesn't make a new address. A `Forwarded` that names no address, but
    the host, say, is as none.
    """
    trusted = _trusted(tuple(get_settings().TRUSTED_PROXIES))
    peer = (scope.get("client") or ("",))[0]
    if not peer:
        if not trusted.unix_sockets:
            return None
        own = UNIX_SOCKET
    else:
        address = _parse(peer)
        own = str(address or peer)
        if address is None or not trusted.has(address):
            return own
    claimed = {_client_before(trusted, hops) for hops in _forwarded(scope)}
    return own if len(claimed) != 1 else claimed.pop() or own


def group_of(address: str) -> str:
    """Return what is counted as one address: of IPv6 the network /64, which one customer has to himself."""
    parsed = _parse(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


class _Trusted(NamedTuple):
    """The proxies that are believed."""

    networks: tuple[Network, ...]
    unix_sockets: bool

    def has(self, hop: Address | str) -> bool:
        if isinstance(hop, str):
            return self.unix_sockets
        return any(hop in network for network in self.networks)


@functools.lru_cache(maxsize=8)
def _trusted(entries: tuple[str, ...]) -> _Trusted:
    networks = tuple(ipaddress.ip_network(entry) for entry in entries if entry != UNIX_SOCKET)
    return _Trusted(networks, UNIX_SOCKET in entries)


def _client_before(trusted: _Trusted, hops: Iterable[str]) -> str | None:
    """Return the last hop that is no trusted proxy; None where there is none, or something else before it."""
    for hop in hops:
        address = UNIX_SOCKET if hop == UNIX_SOCKET else _parse(hop)
        if address is None:
            return None
        if not trusted.has(address):
            return None if isinstance(address, str) else str(address)
    return None


def _forwarded(scope: Mapping[str, Any]) -> Iterator[Iterable[str]]:
    """Yield, for each header that there is, the hops that it names, the last first.

    Each proxy adds at the end the address that it was asked by.
    """
    headers: dict[bytes, list[bytes]] = {b"x-forwarded-for": [], b"forwarded": []}
    for name, value in scope.get("headers") or ():
        if value.strip() and (lines := headers.get(name.lower())) is not None:
            lines.append(value)
    if lines := headers[b"x-forwarded-for"]:
        yield (hop.strip() for hop in reversed(b",".join(lines).decode("latin-1").split(",")))
    if lines := headers[b"forwarded"]:
        hops = _hops_of_forwarded(b",".join(lines).decode("latin-1"))
        if hops is None or any(hops):
            yield hops or ()


def _hops_of_forwarded(text: str) -> list[str] | None:
    """Return what the elements of `Forwarded` have as `for`, the last first; an empty text where one has none.

    As a whole it follows the grammar (RFC 7239 section 4), but that an address needs no quotes and a value may be
    empty, or nothing is read of it (None): quotes that a client leaves open would hide what a proxy has added.
    """
    if not _FORWARDED.fullmatch(text):
        return None
    elements = [""]
    for name, quoted, plain, end in _PAIR.findall(text):
        if name.lower() == "for":
            elements[-1] = re.sub(r"\\(.)", r"\1", quoted) or plain
        if end == ",":
            elements.append("")
    return elements[::-1]


def _parse(text: str) -> Address | None:
    """Return the address in one of the ways in which proxies write it: with a port, in brackets, with a zone."""
    found = _HOP.fullmatch(text)
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(next(filter(None, found.groups())))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
