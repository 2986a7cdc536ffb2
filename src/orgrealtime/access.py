"""What a user may see of an organisation, and telling that it may have ended."""

from __future__ import annotations

from functools import partial

from django.db import models, router, transaction

from orgrealtime.delivery import bell
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.stream.access import Access

__all__ = ["Access", "revoke"]


def revoke(user: models.Model, organization: models.Model | None = None) -> None:
    """Have this user's connections to this organisation, or to all, checked again after the open transaction commits.

    Call it where access ends without a signal, as with `QuerySet.update`; deleting or saving a membership or a
    user does it by itself.
    """
    about = user if organization is None else organization
    using = router.db_for_write(type(about), instance=about)
    keys = user_keys().of(user), None if organization is None else organization_keys().of(organization)
    transaction.on_commit(partial(bell.check_user, *keys), using=using, robust=True)
