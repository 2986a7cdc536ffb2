import os
import uuid
from typing import Any

from django.db import models


def organization_key() -> "models.Field[Any, Any]":
    """Primary key of an organisation: an integer, or a UUID for a run with `HOST_ORG_PK=uuid`."""
    if os.environ.get("HOST_ORG_PK") == "uuid":
        return models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False, serialize=False)
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")
