"""Code of the host that hangs or fails for one user, as long as `$FAULTS_FOLDER/trouble` says so.

The file has three words: where, `hangs` or `fails`, and the primary key of the user.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from django.db import OperationalError

FILE = "trouble"


def meet(where: str, user_ids: Collection[Any]) -> None:
    """Hang, or raise OperationalError, if this place is in trouble with one of these users."""
    file = Path(os.environ["FAULTS_FOLDER"]) / FILE
    if not file.exists():
        return
    place, how, user_id = file.read_text().split()
    if place != where or int(user_id) not in user_ids:
        return
    if how == "fails":
        raise OperationalError("the host's own server is away")
    while file.exists():
        time.sleep(0.1)
