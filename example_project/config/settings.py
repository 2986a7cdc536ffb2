"""Runs as it is with SQLite and one process; environment variables switch to PostgreSQL and Redis.

DATABASE_URL, REDIS_URL, ALLOWED_HOSTS, DEBUG, SECRET_KEY, LIMITS, LOG_LEVEL, EXPORT_SECONDS, MEDIA_ROOT.
"""

import os
from pathlib import Path
from typing import Any

from config import environment

BASE_DIR = Path(__file__).resolve().parent.parent

# Fixed, because all worker processes have to agree on it, and accepted with DEBUG off, because the demo
# must start anywhere without preparation; tracker.apps warns then. Whoever knows this key can forge sessions.
DEMO_SECRET_KEY = "django-insecure-demo-key-known-to-everybody-do-not-use-outside-your-own-computer"
SECRET_KEY = os.environ.get("SECRET_KEY") or DEMO_SECRET_KEY

ALLOWED_HOSTS = environment.names("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# For this computer alone (config.loopback).
DEBUG = environment.flag("DEBUG", default=all(environment.is_loopback(host) for host in ALLOWED_HOSTS))

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "orgrealtime",
    "orgrealtime.chat",
    "tracker",
    "exports",
]

MIDDLEWARE = [
    "config.loopback.debug_on_loopback_only",
    "django.middleware.security.SecurityMiddleware",
    "config.headers.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASE_URL = os.environ.get("DATABASE_URL")
DATABASES = {
    "default": environment.database(DATABASE_URL)
    if DATABASE_URL
    else environment.sqlite_file(BASE_DIR / "db.sqlite3"),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL")
CHANNEL_LAYERS: dict[str, dict[str, Any]]
CACHES: dict[str, dict[str, Any]]
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            # redis-py 8 gives up after 5 idle seconds and allows 100 connections unless told otherwise.
            "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 15, "max_connections": 1000}]},
        },
    }
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            # Not pickles: whoever can write to Redis could run code here by them.
            "OPTIONS": {"serializer": "orgrealtime.serializers.JSONSerializer"},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

ORGREALTIME_ORGANIZATION_MODEL = "tracker.Organization"
ORGREALTIME: dict[str, Any] = {"MEMBERSHIP_MODEL": "tracker.Membership"}
if not environment.flag("LIMITS", default=True):
    # A load test is one user on a thousand sockets.
    ORGREALTIME |= {"SOCKET_RATE": None, "SOCKET_BYTE_RATE": None, "REQUEST_RATE": None}
    ORGREALTIME |= {"USER_RATE": None, "USER_BYTE_RATE": None}
    ORGREALTIME |= {"CONNECTIONS_PER_USER": None, "CONNECTIONS_PER_ORGANIZATION": None}
    ORGREALTIME |= {"CONNECTIONS_PER_ADDRESS": None, "MAX_HANDSHAKES": None, "MAX_CATCH_UP_PAGES": None}
    ORGREALTIME |= {"MAX_EVENT_STREAMS": None}
    ORGREALTIME_CHAT = {"MESSAGES_PER_MINUTE": 100_000, "ROOM_BURST": 100_000}

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "login"

# The browser's, if it is one of these.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

# No URL leads here: exports.views gives a file to those who may have it.
MEDIA_ROOT = os.environ.get("MEDIA_ROOT") or BASE_DIR / "media"

# Without a broker exports are made by a thread of the web process.
CELERY_BROKER_URL = REDIS_URL
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A request that starts an export doesn't wait for a broker that is down.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 5}
EXPORT_SECONDS = environment.seconds("EXPORT_SECONDS", default=3.0)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "extra": {
            "()": "config.logs.ExtraFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "extra"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "orgrealtime": {"level": os.environ.get("LOG_LEVEL", "INFO")},
        "tracker": {"level": "INFO"},
        "exports": {"level": "INFO"},
        # Django's own handler is silent with DEBUG off; this way its errors come out once, in either case.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
    },
}
