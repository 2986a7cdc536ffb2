"""What a host's class overrides, asked where the default needn't be called or can be done for many at once."""

from __future__ import annotations

import inspect


def is_overridden(cls: type, base: type, name: str) -> bool:
    """Tell whether a class has another method of this name than `base` has."""
    return getattr(cls, name) is not getattr(base, name)


def refuse_coroutines(owner: object, *names: str) -> None:
    """Raise TypeError if one of these methods of a class or an instance is async.

    A coroutine counts as true, and would let everybody in.
    """
    cls = owner if isinstance(owner, type) else type(owner)
    for name in names:
        if inspect.iscoroutinefunction(getattr(owner, name)):
            raise TypeError(f"{cls.__qualname__}.{name} must not be async: it is called without await")
