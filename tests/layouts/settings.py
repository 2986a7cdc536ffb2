"""The settings of the tests, for a host with members of every kind."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MADE_AT_ONCE

INSTALLED_APPS = [*INSTALLED_APPS, "tests.layouts"]
AUTH_USER_MODEL = "layouts.User"
ORGREALTIME_ORGANIZATION_MODEL = "layouts.Company"
ORGREALTIME_ORGANIZATION_MIGRATION = "__first__"
ORGREALTIME = {"MEMBERSHIP": "members"}
MIGRATION_MODULES = MADE_AT_ONCE
