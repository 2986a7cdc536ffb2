"""What a stream is read as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One numbered event: `text` is its JSON as all see it, `audience` the user ids it is for (None: all members)."""

    seq: int
    type: str
    text: str
    audience: frozenset[Any] | None = None

    @property
    def weight(self) -> int:
        """About how many characters' worth of memory it takes."""
        return len(self.text) + 32 * len(self.audience or ())
