"""The shape of what this app publishes; publish() refuses a payload that doesn't fit.

No field is required, so that `orgrealtime_publish acme task_event …` can be tried by hand; the page copes.
"""

from typing import TypedDict


class TaskEvent(TypedDict, total=False):
    task_id: int
    action: str
    details: dict[str, str]
