"""What a connection may see: as it was checked last, with the changes that it has passed since, or held back."""

from __future__ import annotations

from orgrealtime.errors import CloseCode
from orgrealtime.stream.access import Access, Topics
from orgrealtime.stream.types import StreamEvent

MAX_OVERTAKEN = 3


class Hold:
    """The numbers of the first and of the last hint for which a connection is held back.

    `overtaken` counts the checks that began after the first and before the last.
    """

    __slots__ = ("first", "last", "overtaken")

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.overtaken = 0


class Authorized:
    """The half of a connection that knows what it may see; the other half sends it."""

    __slots__ = ("_passed", "access", "checked", "held")

    def __init__(self, access: Access) -> None:
        self.access = access
        self.checked = 0  # the number of the access check that was applied last
        self.held: Hold | None = None  # the access may have ended, and no event is sent
        self._passed: list[StreamEvent] | None = None  # changes of this access since it was checked

    def pump(self) -> None:
        """Send what lies after the cursor."""
        raise NotImplementedError

    def close(self, code: int, reason: str) -> None:
        """Deliver nothing more from now on, and close the socket."""
        raise NotImplementedError

    def topics_changed(self, before: Topics) -> None:
        """Take note that the access has other topics than before."""
        raise NotImplementedError

    def change_access(self, access: Access) -> None:
        """See from now on what an access sees; close the connection if that is to one topic, and it hasn't got that."""
        before, self.access = self.access, access
        if before.topics != access.topics:
            self.topics_changed(before.topics)
        if access.lacks_topic:
            self.close(CloseCode.FORBIDDEN, "access to the topic ended")

    def hold(self, number: int) -> None:
        """Send no event until a check of access with a higher number has been applied: this one's may have ended."""
        if self.held is None:
            self.held = Hold(number)
        self.held.last = number

    def admit(self, access: Access, number: int) -> None:
        """Apply what the check of this number has found, and send what has been held back until it."""
        if number > self.checked:  # a check that began earlier may end later
            self.checked = number
            self._take_access(access)
        held = self.held
        if held is None or number < held.first:
            return
        held.overtaken += number < held.last
        if number > held.last or held.overtaken >= MAX_OVERTAKEN:
            self.held = None
            self.pump()
            # Hints that come faster than they can be asked about must not silence a client: a program that may write to
            # Redis can send them. What comes next is held back again.
            self.held = held if number < held.last else None

    def _take_access(self, access: Access) -> None:
        """Take an access that has been checked, with the changes that it doesn't know yet."""
        if access.topics_at < self.access.topics_at:  # topics have come with a page meanwhile
            access = access.with_topics(self.access.topics, self.access.topics_at)
        passed = [event for event in self._passed or () if event.seq > access.topics_at]
        for event in passed:
            access = access.after(event)
        self._passed = passed or None
        self.change_access(access)

    def pass_change(self, change: StreamEvent) -> None:
        """Change the access with an event that grants or withdraws a topic, if it does so for this user."""
        if self.access.user_key in change.grants or self.access.user_key in change.withdraws:
            self._passed = [*(self._passed or ()), change]
            self.change_access(self.access.after(change))

    def enter_other_history(self, head: int) -> None:
        """Keep what was granted up to number `head`, where the stream ends now."""
        self._passed = None
        self.change_access(self.access.in_other_history(head))
