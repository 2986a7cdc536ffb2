"""The signals of this package."""

from __future__ import annotations

from django.dispatch import Signal

# Sent after the commit of a published event, by the process that published it. Arguments: `event`, `using`.
event_published = Signal()
