"""The rooms as topics of the stream: who is in a room has its topic."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField, QuerySet, Value
from django.db.models.functions import Cast, Concat

from orgrealtime.chat.models import Member, topic_of
from orgrealtime.stream.topics import TopicProvider, number_of

PREFIX = topic_of(0).removesuffix("0")


class RoomTopics(TopicProvider):
    """Gives every member of a room its topic, from the event of joining on."""

    def queryset(self) -> QuerySet[Any]:
        """Return the members, with their topics and where these begin."""
        topic = Concat(Value(PREFIX), Cast("room_id", CharField()), output_field=CharField())
        return Member.objects.annotate(topic=topic, from_seq=number_of("joined_event"))
