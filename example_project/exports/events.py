"""The shapes of what this app publishes; publish() refuses a payload that doesn't fit."""

from typing import Literal, TypedDict


class ExportProgress(TypedDict):
    job_id: str
    progress: int  # percent


class ExportDone(TypedDict):
    job_id: str
    status: Literal["done", "failed"]
    download_url: str  # a path on this site; empty if it failed
