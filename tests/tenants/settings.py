"""The settings of the tests, for a host whose tenants have schemas, as the how-to has it.

With TENANTS_USERS each tenant has users of its own, and the check that refuses it is silenced.
"""

import os
from typing import Any

from tests.project import fenced, read
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

_page: dict[str, Any] = {}
exec(fenced(read("howto/tenants-by-schema.md"), "python")[0], _page)  # noqa: S102 - our own page
TENANT_MODEL, TENANT_DOMAIN_MODEL = _page["TENANT_MODEL"], _page["TENANT_DOMAIN_MODEL"]
DATABASE_ROUTERS = _page["DATABASE_ROUTERS"]
ORGREALTIME_ORGANIZATION_MODEL, ORGREALTIME = _page["ORGREALTIME_ORGANIZATION_MODEL"], _page["ORGREALTIME"]

NAMES = {"customers": "tests.tenants.customers", "projects": "django.contrib.sites"}
SHARED_APPS = [*(NAMES.get(app, app) for app in _page["SHARED_APPS"]), "tests.host"]
TENANT_APPS = [NAMES.get(app, app) for app in _page["TENANT_APPS"]]
if os.environ.get("TENANTS_USERS"):
    TENANT_APPS += ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
    SILENCED_SYSTEM_CHECKS = ["orgrealtime.E014"]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
DATABASES = {"default": DATABASES["default"] | {"ENGINE": "django_tenants.postgresql_backend"}}
MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ALLOWED_HOSTS = [".localhost", "testserver"]
ROOT_URLCONF = "orgrealtime.urls"
ORGREALTIME_ORGANIZATION_MIGRATION = "__first__"
