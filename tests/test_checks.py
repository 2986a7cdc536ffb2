"""The system checks: each shown when something is wrong, and silent when it is right."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.backends.db import SessionStore
from django.core.checks import run_checks
from django.db import connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.urls import include, path
from pytest_django.fixtures import Settings

from orgrealtime import checks, events, receivers
from orgrealtime.consumers import OrgConsumer
from orgrealtime.policy import Policy
from orgrealtime.routing import routes
from orgrealtime.sse import EventSourceView
from orgrealtime.views import CatchUpView
from tests.conftest import Configure

CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


def shown() -> set[str]:
    """The numbers of the messages that this app's checks show."""
    messages = run_checks(tags=["orgrealtime"], databases=["default"])
    return {str(message.id).removeprefix("orgrealtime.") for message in messages}


def layer(settings: Settings, backend: str, **config: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}


@pytest.fixture
def redis_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_redis_version", lambda: "8.0.1")


def test_checks_are_silent_where_all_is_well() -> None:
    assert shown() == set()


# ---------------------------------------------------------------------------------- E001 … E004, E007 … E009


@pytest.mark.parametrize("model", ["", "Organization", "host.Nothing", "nowhere.Organization", "a.b.c"])
def test_organisation_model_that_can_not_be_found_is_e001(settings: Settings, model: str) -> None:
    settings.ORGREALTIME_ORGANIZATION_MODEL = model
    assert "E001" in shown()


def test_missing_organisation_model_is_e001(settings: Settings) -> None:
    del settings.ORGREALTIME_ORGANIZATION_MODEL
    assert "E001" in shown()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLLSECONDS", 2),
        ("POLL_SECONDS", 0),
        ("POLL_SECONDS", "2"),
        ("SOCKET_RATE", "30/s"),
        ("MAX_MESSAGE_BYTES", 1.5),
        ("STRICT_TYPES", 1),
        ("ALLOWED_ORIGINS", "https://example.com"),
        ("MEMBERSHIP_MODEL", None),
    ],
)
def test_setting_that_does_not_exist_or_is_of_the_wrong_kind_is_e002(
    configure: Configure, name: str, value: Any
) -> None:
    configure(**{name: value})
    assert shown() == {"E002"}


def test_e002_names_the_setting(configure: Configure) -> None:
    configure(POLLSECONDS=2)
    (message,) = run_checks(tags=["orgrealtime"])
    assert "POLLSECONDS" in message.msg


@pytest.mark.parametrize("name", ["ADAPTER", "PUBLISHER"])
@pytest.mark.parametrize("value", ["nowhere.Adapter", "orgrealtime.adapters.Nothing", "Adapter", ""])
def test_class_that_can_not_be_imported_is_e003(configure: Configure, name: str, value: str) -> None:
    configure(**{name: value})
    assert shown() == {"E003"}


@pytest.mark.parametrize("model", ["", "Membership", "host.Nothing", "nowhere.Membership"])
def test_membership_model_that_can_not_be_found_is_e004(configure: Configure, model: str) -> None:
    configure(MEMBERSHIP_MODEL=model)
    assert shown() == {"E004"}


@pytest.mark.parametrize(
    "values",
    [
        {"MEMBERSHIP_MODEL": ""},
        {"MEMBERSHIP_MODEL": "Membership"},
        {"MEMBERSHIP_MODEL": "host.Nothing"},
        {"ADAPTER": "nowhere.Adapter"},
        {"ADAPTER": ""},
        {"POLLSECONDS": 2},
    ],
)
def test_what_a_check_says_does_not_keep_django_from_starting(
    configure: Configure, values: dict[str, Any]
) -> None:
    configure(**values)
    receivers.connect_receivers()


class NoAdapter:
    """A class that is no adapter."""


@pytest.mark.parametrize(
    "value", [f"{__name__}.NoAdapter", f"{__name__}.shown", "tests.host.models.Membership"]
)
def test_adapter_that_is_none_is_e003(configure: Configure, value: str) -> None:
    configure(ADAPTER=value)
    assert shown() == {"E003"}


@pytest.mark.parametrize(
    "field",
    [
        {"MEMBERSHIP_USER_FIELD": "person"},
        {"MEMBERSHIP_USER_FIELD": "role"},
        {"MEMBERSHIP_ORGANIZATION_FIELD": "company"},
        {"MEMBERSHIP_ORGANIZATION_FIELD": "user"},
        {"ORGANIZATION_SLUG_FIELD": "subdomain"},
    ],
)
def test_field_that_the_models_do_not_have_is_e004(configure: Configure, field: dict[str, str]) -> None:
    configure(**field)
    assert shown() == {"E004"}


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "app.example.com",
        "https://*.example.com",
        "https://app.example.com/",
        "ws://a.b",
        "file://",
        "file://localhost",
        "capacitor://*",
        "tauri://localhost/",
        "chrome-extension:abcdef",
        "https://a:b",
    ],
)
def test_listed_origin_that_matches_no_page_is_e008(configure: Configure, origin: str) -> None:
    configure(ALLOWED_ORIGINS=["https://good.example.com:8443", "capacitor://localhost", origin])
    assert shown() == {"E008"}


def test_listed_origins_that_are_good_are_fine(configure: Configure) -> None:
    configure(ALLOWED_ORIGINS=["https://app.example.com", "http://localhost:5173", "http://[::1]:8000"])
    assert shown() == set()


def test_layer_that_is_not_configured_is_e009(configure: Configure) -> None:
    configure(CHANNEL_LAYER="nowhere")
    assert "E009" in shown()


def test_layer_that_can_not_be_imported_is_e009(settings: Settings) -> None:
    layer(settings, "channels_nowhere.core.Layer")
    assert shown() == {"E009"}


def test_database_that_is_neither_postgresql_nor_sqlite_is_e007(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    assert shown() == {"E007"}


# ----------------------------------------------------------------------------------------------- E017, W010, W011


def test_database_without_autocommit_is_e017(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", value=False)
    assert shown() == {"E017"}


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"isolation_level": IsolationLevel.READ_COMMITTED}, set()),
        ({"isolation_level": IsolationLevel.REPEATABLE_READ}, {"W010"}),
        ({"isolation_level": IsolationLevel.SERIALIZABLE.value}, {"W010"}),
        ({"options": "-c statement_timeout=1000"}, set()),
        ({"options": "-c default_transaction_isolation=read\\ committed"}, set()),
        ({"options": "-c default_transaction_isolation=repeatable\\ read -c work_mem=1MB"}, {"W010"}),
        ({"options": "-c default_transaction_isolation=serializable"}, {"W010"}),
    ],
)
def test_isolation_level_at_which_numbering_is_retried_is_w010(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], numbers: set[str]
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    assert shown() == numbers


def test_pool_that_is_open_before_anything_is_served_is_w011(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        closed = False

    monkeypatch.setattr(connections["default"], "_connection_pools", {"default": Pool}, raising=False)
    assert shown() == {"W011"}
    monkeypatch.setattr(Pool, "closed", True)
    assert shown() == set()


# ------------------------------------------------------------------------------------------------------- E005


@pytest.fixture
def any_host(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["example.com", "*"]


@pytest.mark.usefixtures("any_host")
def test_any_host_in_production_is_e005() -> None:
    assert shown() == {"E005"}


@pytest.mark.usefixtures("any_host")
def test_any_host_with_listed_origins_is_fine(configure: Configure) -> None:
    configure(ALLOWED_ORIGINS=["https://example.com"])
    assert shown() == set()


# ------------------------------------------------------------------------------------------------------- E006


@pytest.mark.usefixtures("redis_8")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hosts": []},
        {"hosts": ["redis://localhost"]},
        {"hosts": [("localhost", 6379)]},
        {"hosts": [{"address": "redis://localhost"}]},
        {"hosts": [{"address": "redis://localhost", "socket_timeout": 5}]},
        {"hosts": [{"address": "redis://a", "socket_timeout": 15}, "redis://b"]},
    ],
)
def test_core_layer_whose_idle_consumers_die_is_e006(settings: Settings, config: dict[str, Any]) -> None:
    layer(settings, CORE, **config)
    assert shown() == {"E006"}


@pytest.mark.usefixtures("redis_8")
@pytest.mark.parametrize("timeout", [15, 5.1, None])
def test_core_layer_with_a_timeout_that_is_long_enough_is_fine(
    settings: Settings, timeout: float | None
) -> None:
    layer(settings, CORE, hosts=[{"address": "redis://localhost", "socket_timeout": timeout}])
    assert shown() == set()


@pytest.mark.usefixtures("redis_8")
def test_pubsub_layer_needs_no_timeout(settings: Settings) -> None:
    layer(settings, PUBSUB, hosts=["redis://localhost"])
    assert shown() == set()


@pytest.mark.parametrize("version", ["7.4.0", "0"])
def test_core_layer_with_an_older_redis_py_is_fine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(checks, "_redis_version", lambda: version)
    layer(settings, CORE, hosts=["redis://localhost"])
    assert shown() == set()


@pytest.mark.usefixtures("redis_8")
def test_e006_is_shown_while_developing_too(settings: Settings) -> None:
    settings.DEBUG = True
    layer(settings, CORE)
    assert shown() == {"E006"}


# ------------------------------------------------------------------------------------------------ W001 … W007


@pytest.fixture
def in_memory_layer(settings: Settings) -> None:
    layer(settings, "channels.layers.InMemoryChannelLayer")


@pytest.fixture
def no_layer(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {}


@pytest.fixture
def sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")


@pytest.fixture
def daphne(monkeypatch: pytest.MonkeyPatch) -> None:
    is_installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "daphne" or is_installed(name))


@pytest.fixture
def local_cache(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@pytest.fixture
def dummy_cache(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


@pytest.fixture
def no_asgi(settings: Settings) -> None:
    settings.ASGI_APPLICATION = None


WRONG = [
    ("in_memory_layer", "W001"),
    ("no_layer", "W001"),
    ("sqlite", "W002"),
    ("daphne", "W003"),
    ("local_cache", "W004"),
    ("dummy_cache", "W004"),
    ("no_asgi", "W005"),
]


LOGINS = "django.contrib.auth.middleware.AuthenticationMiddleware"


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("django.contrib.sessions", "django.contrib.sessions isn't in INSTALLED_APPS"),
        ("django.contrib.auth", "django.contrib.auth isn't in INSTALLED_APPS"),
    ],
)
def test_app_without_which_nobody_is_logged_in_is_w006(
    monkeypatch: pytest.MonkeyPatch, app: str, reason: str
) -> None:
    def model() -> Any:
        raise RuntimeError("isn't in an application in INSTALLED_APPS")

    if app == "django.contrib.sessions":
        monkeypatch.setattr(SessionStore, "get_model_class", model)
    is_installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name != app and is_installed(name))
    [message] = run_checks(tags=["orgrealtime"])
    assert message.id == "orgrealtime.W006"
    assert reason in message.msg


def test_session_engine_that_can_not_be_imported_is_w006(settings: Settings) -> None:
    settings.SESSION_ENGINE = "nowhere.sessions"
    [message] = run_checks(tags=["orgrealtime"])
    assert (message.id, "nowhere" in message.msg) == ("orgrealtime.W006", True)


def test_sessions_that_need_no_table_need_no_app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name != "django.contrib.sessions" and is_installed(name)
    )
    assert shown() == set()


class OwnLogins(AuthenticationMiddleware):
    """A host's own way to log users in."""


@pytest.mark.parametrize(
    ("middleware", "warnings"),
    [
        ([], {"W007"}),
        (["django.middleware.common.CommonMiddleware"], {"W007"}),
        (["nowhere.Middleware"], {"W007"}),
        ([LOGINS], set()),
        (["tests.test_checks.OwnLogins"], set()),
    ],
)
def test_missing_authentication_middleware_is_w007(
    settings: Settings, middleware: list[str], warnings: set[str]
) -> None:
    settings.MIDDLEWARE = middleware
    assert {number for number in shown() if number.startswith("W")} == warnings


def test_authentication_middleware_is_not_missed_where_no_view_is_routed(settings: Settings) -> None:
    settings.MIDDLEWARE = []
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    assert shown() == set()


@pytest.mark.parametrize(("fixture", "number"), WRONG)
def test_what_does_not_fit_production_is_a_warning(
    request: pytest.FixtureRequest, fixture: str, number: str
) -> None:
    request.getfixturevalue(fixture)
    assert shown() == {number}


@pytest.mark.parametrize("fixture", [*(fixture for fixture, _ in WRONG), "any_host"])
def test_what_does_not_fit_production_is_fine_while_developing(
    request: pytest.FixtureRequest, settings: Settings, fixture: str
) -> None:
    settings.DEBUG = True
    request.getfixturevalue(fixture)
    assert shown() == set()


@pytest.mark.usefixtures("local_cache")
def test_local_cache_is_fine_where_nothing_is_counted(configure: Configure) -> None:
    configure(USER_RATE=None, REQUEST_RATE=None, CONNECTIONS_PER_USER=None)
    assert shown() == {"W004"}  # organisations are counted still
    configure(CONNECTIONS_PER_ORGANIZATION=None)
    assert shown() == set()


@pytest.mark.usefixtures("no_asgi")
def test_asgi_need_not_be_named_where_no_event_stream_is_served(settings: Settings) -> None:
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    assert shown() == set()


@pytest.mark.parametrize("name", ["nosuch.Company", "host.Compani", "nonsense"])
def test_mistaken_model_gets_as_far_as_the_checks(settings: Settings, name: str) -> None:
    settings.ORGREALTIME_ORGANIZATION_MODEL = name
    receivers.connect_receivers()
    assert "E001" in shown()


def test_class_that_is_no_adapter_gets_as_far_as_the_checks(configure: Configure) -> None:
    configure(ADAPTER="tests.host.models.Organization")
    receivers.connect_receivers()
    assert "E003" in shown()


# ------------------------------------------------------------------------------------------------------ W009


def test_schema_that_names_a_class_which_isnt_there_is_w009() -> None:
    events.register("odd", dataclasses.make_dataclass("Odd", [("part", "NowhereDefined")]))
    try:
        assert shown() == {"W009"}
    finally:
        events.unregister("odd")
    assert shown() == set()


# ------------------------------------------------------------------------------------------------------ E010


def refuse(self: Any, *arguments: Any) -> bool:
    return False


@pytest.fixture
def host_class() -> Iterator[Any]:
    """`host_class(base, **members)`: a class as if the host had it."""
    yield lambda base, **members: type("Own", (base,), {"__module__": "tests.host.live", **members})
    gc.collect()


@pytest.mark.parametrize("name", ["allow", "render"])
def test_consumer_with_a_rule_that_the_views_lack_is_e010(host_class: Any, name: str) -> None:
    own = host_class(OrgConsumer, **{name: refuse})
    messages = [message for message in run_checks(tags=["orgrealtime"]) if message.id == "orgrealtime.E010"]
    assert len(messages) == 2, own
    assert f"Own has a rule, {name}(), but 'orgs/<slug:org_slug>/notifications/'" in messages[0].msg


def test_view_with_a_rule_that_the_event_stream_lacks_is_e010(host_class: Any, settings: Settings) -> None:
    own = host_class(CatchUpView, allow=refuse)
    pages, stream = path("pages/", own.as_view()), path("stream/", EventSourceView.as_view())
    settings.ROOT_URLCONF = (path("live/", include([pages, stream])),)
    assert shown() == {"E010"}
    settings.ROOT_URLCONF = (pages,)
    assert shown() == set()


def test_rule_that_every_way_to_read_has_is_fine(host_class: Any, settings: Settings) -> None:
    socket, page = host_class(OrgConsumer, allow=refuse), host_class(CatchUpView, allow=refuse)
    stream = path("stream/", EventSourceView.as_view(consumer=socket))
    settings.ROOT_URLCONF = (path("pages/", page.as_view()), stream)
    assert shown() == set()


def test_policy_leaves_nothing_open(host_class: Any, settings: Settings) -> None:
    closed = host_class(Policy, allow=refuse, render=refuse)
    board = routes(host_class(OrgConsumer, policy=closed))
    settings.ROOT_URLCONF = (path("", include(board.http)),)
    assert shown() == set()
    settings.ROOT_URLCONF = (path("", include(board.http)), path("other/", include(routes().http)))
    assert shown() == {"E010"}
    opened = routes(policy=host_class(Policy))
    settings.ROOT_URLCONF = (path("", include(board.http)), path("other/", include(opened.http)))
    assert shown() == set()


@pytest.mark.parametrize("module", ["tests.host.live", "config.live"])
def test_consumer_with_a_policy_beside_the_routes_without_is_e010(settings: Settings, module: str) -> None:
    settings.ASGI_APPLICATION = "config.asgi.application"
    closed = type("Closed", (Policy,), {"allow": refuse})
    own = type("Own", (OrgConsumer,), {"policy": closed, "__module__": module})
    assert shown() == {"E010"}, own
    del own
    gc.collect()
