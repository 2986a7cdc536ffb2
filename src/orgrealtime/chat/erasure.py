"""Erasing a person from an organisation's rooms."""

from __future__ import annotations

from typing import Any


def erase(user: Any, organization: Any, *, anonymise: bool = False) -> None:
    """Erase what somebody has said in an organisation's rooms."""
    raise NotImplementedError
