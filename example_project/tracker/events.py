"""The shape of what this app publishes; publish() refuses a payload that doesn't fit."""

from typing import Literal, TypedDict

StatusValue = Literal["todo", "doing", "done"]

# `from` is a keyword, so this one can't be written as a class.
StatusChange = TypedDict("StatusChange", {"from": StatusValue, "to": StatusValue})


class TaskEvent(TypedDict):
    task_id: int
    action: Literal["status_changed"]
    details: StatusChange
