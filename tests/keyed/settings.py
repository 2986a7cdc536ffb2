"""The settings of the tests, for a host whose keys are of the kind that `HOST_KEYS` names."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MADE_AT_ONCE

INSTALLED_APPS = [*INSTALLED_APPS, "tests.keyed"]
AUTH_USER_MODEL = "keyed.User"
ORGREALTIME_ORGANIZATION_MODEL = "keyed.Organization"
ORGREALTIME_ORGANIZATION_MIGRATION = "__first__"
ORGREALTIME = {"MEMBERSHIP_MODEL": "keyed.Membership"}
MIGRATION_MODULES = MADE_AT_ONCE
