"""What a user may see: the condition for live delivery and the one for catching up stand side by side here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orgrealtime.keys import StoredKey, user_keys
from orgrealtime.stream.types import StreamEvent

Topics = Mapping[str, int]

NO_TOPICS: Topics = {}
UNNUMBERED = 2**63 - 1  # from where a topic is seen whose granting event has no number yet


@dataclass(frozen=True, slots=True)
class Access:
    """What one user may see of one organisation.

    `event_types` are the only types shown to this user; None means all. `topics` are the topics this user has, with the
    number from which on their events are seen; they hold as of number `topics_at` of the stream. With an `only_topic`
    nothing else is seen. `user_key` is the user's primary key as its column holds it, which is what the audience of an
    event has.
    """

    organization_id: Any
    user_id: Any
    role: str = ""
    event_types: frozenset[str] | None = None
    topics: Topics = field(default_factory=lambda: NO_TOPICS, hash=False)
    topics_at: int = field(default=0, compare=False)
    only_topic: str | None = None
    user_key: StoredKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_key", user_keys().stored_or_text(self.user_id))

    def sees(self, event: StreamEvent) -> bool:
        """Tell whether this user may have the event; `type_condition` and the recipients say so to the database."""
        if self.event_types is not None and event.type not in self.event_types:
            return False
        if event.topic is None:
            if self.only_topic is not None:
                return False
        elif not self._has_topic(event):
            return False
        return event.audience is None or self.user_key in event.audience

    def _has_topic(self, event: StreamEvent) -> bool:
        topic = event.topic or ""
        if self.only_topic not in {None, topic}:
            return False
        if (event.grants or event.withdraws) and event.seq > self.topics_at:  # else `topics` say it
            if self.user_key in event.withdraws:
                return False
            if self.user_key in event.grants:
                return True
        return event.seq >= self.topics.get(topic, UNNUMBERED)

    def with_topics(self, topics: Topics, at: int) -> Access:
        """Return this access with other topics, which hold as of number `at`; if narrowed, with its one of them."""
        if self.only_topic is not None:
            topics = {name: seq for name, seq in topics.items() if name == self.only_topic}
        return replace(self, topics=topics, topics_at=at)

    def narrowed(self, topic: str) -> Access:
        """Return this access to one topic alone."""
        return replace(self, only_topic=topic).with_topics(self.topics, self.topics_at)

    @property
    def lacks_topic(self) -> bool:
        """Whether the access is narrowed to a topic that this user hasn't got."""
        return self.only_topic is not None and self.only_topic not in self.topics

    def after(self, event: StreamEvent) -> Access:
        """Return the access after an event that may grant or withdraw its topic; what `topics_at` covers is done."""
        topic = event.topic
        if topic is None or event.seq <= self.topics_at or self.only_topic not in {None, topic}:
            return self
        if self.user_key in event.grants:
            return replace(self, topics={**self.topics, topic: event.seq})
        if self.user_key in event.withdraws and self.topics.get(topic, UNNUMBERED) <= event.seq:
            return replace(self, topics={name: seq for name, seq in self.topics.items() if name != topic})
        return self

    def in_other_history(self, head: int) -> Access:
        """Return this access for a stream that ends at number `head` without what was granted after it."""
        topics = {name: seq if seq == UNNUMBERED else min(seq, head + 1) for name, seq in self.topics.items()}
        return replace(self, topics=topics, topics_at=min(self.topics_at, head))

    def type_condition(self, column: str) -> tuple[str, list[str]]:
        """Return the SQL condition on the column of the type, and its parameters, that agrees with `sees`."""
        if self.event_types is None:
            return "1 = 1", []
        if not self.event_types:
            return "1 = 0", []
        return f"{column} IN ({', '.join(['%s'] * len(self.event_types))})", sorted(self.event_types)

    def type_conditions(self, column: str, most: int) -> list[tuple[str, list[str]]]:
        """Return conditions of which one holds where `type_condition` does: one for each type, if there are at most
        `most`."""
        if self.event_types is None or len(self.event_types) > most:
            return [self.type_condition(column)]
        return [(f"{column} = %s", [each]) for each in sorted(self.event_types)]
