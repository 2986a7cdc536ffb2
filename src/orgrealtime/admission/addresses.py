"""The address that a connection comes from, also behind proxies."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from orgrealtime.conf import get_settings

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(scope: Mapping[str, Any]) -> str | None:
    """Return the address of the client of an ASGI scope, None if the server doesn't know it.

    `X-Forwarded-For` counts only from `TRUSTED_PROXIES`: its rightmost address that isn't a trusted proxy's. What
    can't be read there leaves the proxy's own address, so that garbage doesn't make a new address.
    """
    peer = (scope.get("client") or (None,))[0]
    if not peer:
        return None
    address = _parse(peer)
    if address is None:
        return str(peer)
    networks = _networks(tuple(get_settings().TRUSTED_PROXIES))
    if _is_in(address, networks):
        for entry in _forwarded(scope):
            forwarded = _parse(entry)
            if forwarded is None:
                break
            if not _is_in(forwarded, networks):
                return str(forwarded)
    return str(address)


def group_of(address: str) -> str:
    """Return what is counted as one address: of IPv6 the network /64, which one customer has to himself."""
    parsed = _parse(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _forwarded(scope: Mapping[str, Any]) -> Iterator[str]:
    # The last first: each proxy adds at the end the address that it was asked by.
    lines = [value for name, value in scope.get("headers") or () if name.lower() == b"x-forwarded-for"]
    for entry in reversed(b",".join(lines).decode("latin-1").split(",")):
        yield entry.strip()


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@functools.lru_cache(maxsize=8)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(entry) for entry in entries)
