"""The settings of the tests, for a host whose clients log in by tokens, as the how-to has it."""

from tests.project import fenced, read
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MADE_AT_ONCE, MIDDLEWARE, ORGREALTIME

_blocks = fenced(read("howto/token-logins.md"), "python")

INSTALLED_APPS = [*INSTALLED_APPS]
MIDDLEWARE = [*MIDDLEWARE]
ORGREALTIME = {**ORGREALTIME}
ROOT_URLCONF = "tests.tokens.urls"
# The thread in which the middleware asks keeps no connection.
DATABASES = {name: database | {"CONN_MAX_AGE": 0} for name, database in DATABASES.items()}
MIGRATION_MODULES = MADE_AT_ONCE
SECRET_KEY = "a key that is long enough for the signatures of tokens"
exec(_blocks[0])  # noqa: S102 - our own page
exec(_blocks[2])  # noqa: S102
