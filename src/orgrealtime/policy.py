"""The policy: which members may read an organisation's stream, and what each sees of it, for all ways to read it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar, Self

import msgspec

from orgrealtime.overrides import is_overridden, refuse_coroutines
from orgrealtime.protocol import wire
from orgrealtime.stream.access import Access

__all__ = ["Policy"]

logger = logging.getLogger("orgrealtime.policy")

Event = dict[str, Any]


class Policy:
    """Lets every member read everything that is for them. Subclass it, and give it to `orgrealtime.routing.routes`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, "allow", "render")

    def allow(self, user: Any, access: Access) -> bool:
        """Tell whether this member may connect and read, and stay; default: every member may.

        Runs in a database thread, before a client is let in and whenever access is checked again.
        """
        return True

    def render(self, event: Event, access: Access) -> Event | None:
        """Return an event as a reader with this access shall see it, or None to hide it; keep `type` and `cursor`.

        Must neither wait nor query. Overriding it costs: events are then encoded for each connection instead of once
        for all.
        """
        return event


class Governed:
    """A way to read a stream, which asks its `policy`: a base of the consumers and views of this package."""

    policy: ClassVar[Policy] = Policy()
    sync_hooks: ClassVar[tuple[str, ...]] = ("allow", "render")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, *cls.sync_hooks)
        cls.policy = as_policy(cls.policy)

    access: Access

    def allow(self, user: Any, access: Access) -> bool:
        """Tell whether this member may connect and read, and stay; default: as the policy has it."""
        return self.policy.allow(user, access)

    def render(self, event: Event) -> Event | None:
        """Return an event as this client shall see it, or None to hide it; default: as the policy has it."""
        return self.policy.render(event, self.access)

    @classmethod
    def under(cls, policy: Any) -> type[Self]:
        """Return this class, or a subclass of it, under a policy that is given as a class or an instance.

        Raises TypeError if this class has an `allow` or `render` of its own, by which the policy would never be asked.
        """
        shared = as_policy(policy)
        if cls.policy is shared:
            return cls
        if own := cls.own_rules():
            raise TypeError(f"{cls.__qualname__} has its own {' and '.join(own)}; put it into the policy")
        return type(cls.__name__, (cls,), {"policy": shared, "__module__": cls.__module__})

    @classmethod
    def own_rules(cls) -> list[str]:
        """Return which of `allow` and `render` are overridden here, instead of in the policy."""
        return [name for name in ("allow", "render") if cls.has_own(name)]

    @classmethod
    def has_own(cls, name: str) -> bool:
        """Tell whether `allow` or `render` is overridden here, instead of in the policy."""
        return is_overridden(cls, Governed, name)

    @classmethod
    def has_rule(cls, name: str) -> bool:
        """Tell whether `allow` or `render` is anything but the default: then it has to be called."""
        rule = getattr(cls.policy, name)  # of its class, or put on the instance
        return cls.has_own(name) or getattr(rule, "__func__", None) is not getattr(Policy, name)


def as_policy(given: Any) -> Policy:
    """Return the policy that is given as a class or as an instance; raise TypeError for anything else."""
    policy = given() if isinstance(given, type) and issubclass(given, Policy) else given
    if not isinstance(policy, Policy):
        raise TypeError(f"a policy is a subclass of orgrealtime.policy.Policy, not {given!r:.80}")
    refuse_coroutines(policy, "allow", "render")
    return policy


def render_text(
    text: str, render: Callable[[Event], Event | None], connection_id: str | None = None
) -> str | None:
    """Return the text of a rendered event, None if it is hidden or if rendering fails, which is logged.

    An event that can't be rendered is skipped, like a row that can't be encoded: raising would end the connection at
    every attempt.
    """
    try:
        rendered = render(msgspec.json.decode(text))
        return None if rendered is None else wire.encode(rendered)
    except Exception:
        logger.exception("render failed, the event is skipped", extra={"connection_id": connection_id})
        return None
