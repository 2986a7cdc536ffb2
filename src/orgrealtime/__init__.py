"""One ordered, durable, authorised stream of events per organisation, live in every open page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "apublish", "publish"]

if TYPE_CHECKING:
    from orgrealtime.publishers import apublish, publish


def __getattr__(name: str) -> Any:
    # Models can't be imported before Django's apps are ready, and settings import this package.
    if name in {"publish", "apublish"}:
        from orgrealtime import publishers

        return getattr(publishers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
