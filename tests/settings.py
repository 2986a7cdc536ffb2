"""Settings of the project that the library's tests run in. Importing them starts PostgreSQL and Redis."""

import atexit
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests import servers

_database = servers.django_database(servers.database_url()) | {
    "CONN_MAX_AGE": 600
}  # a connection takes long to open
_redis_url = servers.redis_url()
_folder = Path(tempfile.mkdtemp(prefix="orgrealtime-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.host.urls"
STATIC_URL = "/static/"
ASGI_APPLICATION = "tests.host.asgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SESSION_ENGINE = "django.contrib.sessions.backends.db"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "channels",
    "orgrealtime",
    "orgrealtime.chat",
    "tests.host",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": _database,
    "other": _database | {"NAME": f"{_database['NAME']}_other"},
    "lite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _folder / "lite.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "timeout": 20,
        },
        "TEST": {"NAME": _folder / "test_lite.sqlite3"},  # a file: threads share it as in production
    },
}

# A cache may be cleared, which must not empty the channel layer.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": urlsplit(_redis_url)._replace(path="/1").geturl(),
    }
}

# redis-py's own defaults (5 s, 100 connections) are too low for consumers that wait.
_channel_layer = {"hosts": [{"address": _redis_url, "socket_timeout": 15, "max_connections": 1000}]}
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": _channel_layer},
    "core": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": _channel_layer},
}

ORGREALTIME_ORGANIZATION_MODEL = "host.Organization"
ORGREALTIME_ORGANIZATION_MIGRATION = "0002_organization"
ORGREALTIME = {"MEMBERSHIP_MODEL": "host.Membership"}

# MIGRATION_MODULES of the projects that have a run of their own: it is short, and Django has two dozen migrations.
MADE_AT_ONCE = dict.fromkeys(("admin", "auth", "contenttypes", "sessions"))
