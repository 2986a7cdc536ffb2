"""Signals of the host's models that end somebody's place in rooms."""

from __future__ import annotations


def connect_receivers() -> None:
    """Listen to members, memberships and users."""
