"""System checks for what hosts of rooms get wrong."""

from __future__ import annotations


def register_all() -> None:
    """Register the checks of this app."""
