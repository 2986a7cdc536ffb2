"""What a host project's overrides must be."""

from __future__ import annotations

import inspect


def refuse_coroutines(cls: type, *names: str) -> None:
    """Raise TypeError if one of these methods is async: a coroutine counts as true, and would let everybody in."""
    for name in names:
        if inspect.iscoroutinefunction(getattr(cls, name)):
            raise TypeError(f"{cls.__qualname__}.{name} must not be async: it is called without await")
