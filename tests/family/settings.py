"""The settings of the tests, for a host whose models have parents, children and proxies."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MADE_AT_ONCE

INSTALLED_APPS = [*INSTALLED_APPS, "tests.family"]
AUTH_USER_MODEL = "family.User"
ORGREALTIME_ORGANIZATION_MODEL = "family.Team"
ORGREALTIME_ORGANIZATION_MIGRATION = "__first__"
ORGREALTIME = {"MEMBERSHIP_MODEL": "family.Guest", "ADAPTER": "tests.family.realtime.Adapter"}
MIGRATION_MODULES = MADE_AT_ONCE
