"""System checks for what people get wrong."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import NoReverseMatch, Resolver404, get_resolver, get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

from orgrealtime import conf, events, tables
from orgrealtime.adapters import OrganizationAdapter
from orgrealtime.admission import sessions
from orgrealtime.admission.origins import parse as parse_origin
from orgrealtime.concurrency.threads import has_open_pool
from orgrealtime.stream.database import alias

DEFAULT_CHANNEL_LAYER = "default"
CORE_LAYER = "channels_redis.core.RedisChannelLayer"
READ_COMMITTED = "READ COMMITTED"
COUNTED_TOGETHER = (
    "USER_RATE",
    "REQUEST_RATE",
    "CONNECTIONS_PER_USER",
    "CONNECTIONS_PER_ORGANIZATION",
    "CONNECTIONS_PER_ADDRESS",
)
BLOCKING_SECONDS = 5  # for so long channels_redis' core layer blocks in one read


def register_all() -> None:
    """Register the checks of this app."""
    checks.register(check_settings, "orgrealtime")
    checks.register(check_deployment, "orgrealtime")
    checks.register(check_rules, "orgrealtime", "urls")
    checks.register(check_logins, "orgrealtime", "urls")
    checks.register(check_routes, "orgrealtime", "urls")


def check_settings(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the settings can work at all."""
    return [*_check_organization(), *_check_names(), *_check_event_types()]


def check_deployment(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check what works on a developer's machine and not in production."""
    if _settings_are_broken():
        return []
    messages = [*_check_database(), *_check_layer(), *_check_layer_timeouts()]
    return messages if settings.DEBUG else [*messages, *_check_production()]


def _settings_are_broken() -> bool:
    try:
        conf.get_settings()
    except ImproperlyConfigured:
        return True
    return False


def _check_organization() -> Iterator[checks.CheckMessage]:
    try:
        apps.get_model(conf.organization_model())
    except (ImproperlyConfigured, LookupError, ValueError) as error:
        yield checks.Error(
            f"The organisation model can't be found: {error}",
            hint="Set ORGREALTIME_ORGANIZATION_MODEL = 'app_label.ModelName'.",
            id="orgrealtime.E001",
        )


def _check_names() -> Iterator[checks.CheckMessage]:
    try:
        given = conf.get_settings()
    except ImproperlyConfigured as error:
        yield checks.Error(str(error), id="orgrealtime.E002")
        return
    for origin in given.ALLOWED_ORIGINS:
        if parse_origin(origin) is None:
            yield checks.Error(
                f"{origin!r} in ORGREALTIME['ALLOWED_ORIGINS'] matches no page.",
                hint="An origin is 'https://app.example.com' or 'capacitor://localhost': scheme, host, perhaps a port, "
                "no slash, no wildcard.",
                id="orgrealtime.E008",
            )
    for key in ("ADAPTER", "PUBLISHER"):
        try:
            import_string(getattr(given, key))
        except ImportError as error:
            yield checks.Error(f"ORGREALTIME['{key}'] can't be imported: {error}", id="orgrealtime.E003")
            return
    yield from _check_members(import_string(given.ADAPTER), given)


def _check_members(adapter: Any, given: conf.Settings) -> Iterator[checks.CheckMessage]:
    if not (isinstance(adapter, type) and issubclass(adapter, OrganizationAdapter)):
        yield checks.Error(
            f"ORGREALTIME['ADAPTER'] is a subclass of OrganizationAdapter, not {given.ADAPTER}",
            id="orgrealtime.E003",
        )
        return
    try:
        adapter().check()
    except (ImproperlyConfigured, LookupError, ValueError) as error:
        yield checks.Error(f"The adapter doesn't know who is a member: {error}", id="orgrealtime.E004")
        return
    if labels := tables.of_tenants(adapter().membership_models()):
        yield checks.Error(
            f"Each tenant's schema has tables of its own for {', '.join(labels)}: the keys of one mean others in the "
            "next, and a user would be shown what is for another of the same number.",
            hint="Keep the apps of events, organisations, memberships, users and sessions in SHARED_APPS alone.",
            id="orgrealtime.E014",
        )


def _check_event_types() -> Iterator[checks.CheckMessage]:
    for mistake in events.unusable():
        yield checks.Warning(
            f"Nothing of a registered event type can be published: {mistake}.",
            hint="Import the class that its annotations name in the module of the schema.",
            id="orgrealtime.W009",
        )


def _check_database() -> Iterator[checks.CheckMessage]:
    vendor = connections[alias()].vendor
    if vendor not in {"postgresql", "sqlite"}:
        yield checks.Error(
            f"Events can't be stored in {vendor}: numbering is written for PostgreSQL and SQLite.",
            hint="Route the models of orgrealtime to a PostgreSQL database.",
            id="orgrealtime.E007",
        )
    yield from _check_transactions(connections[alias()])


def _check_transactions(connection: BaseDatabaseWrapper) -> Iterator[checks.CheckMessage]:
    name = f"DATABASES[{connection.alias!r}]"
    if not connection.settings_dict["AUTOCOMMIT"]:
        yield checks.Error(
            f"{name} has AUTOCOMMIT = False: a transaction is always open, in which no event gets a number.",
            hint="Leave it at True, and use transaction.atomic().",
            id="orgrealtime.E017",
        )
    if connection.vendor != "postgresql":
        return
    level = _isolation_level(connection.settings_dict["OPTIONS"])
    if level != READ_COMMITTED:
        yield checks.Warning(
            f"{name} asks for {level}: of two processes that number events at once one fails and has to try again, "
            "and publish() with a dedupe_key may fail (40001).",
            hint="Leave it at READ COMMITTED, PostgreSQL's default; or try transactions that fail so again.",
            id="orgrealtime.W010",
        )
    if has_open_pool(connection):
        yield checks.Warning(
            f"The pool of {name} is open before anything is served: if processes are forked from this one, as by "
            "gunicorn --preload, they begin with connections that aren't theirs.",
            hint="Ask the database for nothing while modules are imported and apps get ready; or don't preload.",
            id="orgrealtime.W011",
        )


def _isolation_level(options: Mapping[str, Any]) -> str:
    """The isolation level that a database's OPTIONS ask for, as "REPEATABLE READ"."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    if "isolation_level" in options:
        return IsolationLevel(options["isolation_level"]).name.replace("_", " ")
    given = re.search(
        r"default_transaction_isolation\W+(serializable|repeatable\W+read)", str(options.get("options")), re.I
    )
    return READ_COMMITTED if given is None else re.sub(r"\W+", " ", given[1]).upper()


def _check_layer() -> Iterator[checks.CheckMessage]:
    alias = conf.get_settings().CHANNEL_LAYER
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    if alias not in layers and alias != DEFAULT_CHANNEL_LAYER:
        yield checks.Error(
            f"ORGREALTIME['CHANNEL_LAYER'] is {alias!r}, but CHANNEL_LAYERS has only {sorted(layers)}.",
            id="orgrealtime.E009",
        )
    elif backend := layers.get(alias, {}).get("BACKEND"):
        try:
            import_string(backend)
        except ImportError as error:
            yield checks.Error(
                f"The channel layer {alias!r} can't be imported: {error}",
                hint='For a layer of channels_redis: pip install "orgrealtime[redis]".',
                id="orgrealtime.E009",
            )


def _check_layer_timeouts() -> Iterator[checks.CheckMessage]:
    config = getattr(settings, "CHANNEL_LAYERS", {}).get(conf.get_settings().CHANNEL_LAYER, {})
    version = _redis_version()
    if config.get("BACKEND") != CORE_LAYER or int(version.split(".")[0]) < 8:
        return
    for host in config.get("CONFIG", {}).get("hosts") or [{}]:
        timeout = host.get("socket_timeout", BLOCKING_SECONDS) if isinstance(host, dict) else BLOCKING_SECONDS
        if timeout is not None and timeout <= BLOCKING_SECONDS:
            yield checks.Error(
                f"redis-py {version} ends reads after {timeout} s, but the channel layer blocks in reads "
                f"of {BLOCKING_SECONDS} s: idle consumers will die.",
                hint='Use "hosts": [{"address": URL, "socket_timeout": 15, "max_connections": 1000}].',
                id="orgrealtime.E006",
            )
            return


def _redis_version() -> str:
    try:
        return importlib.metadata.version("redis")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _check_production() -> Iterator[checks.CheckMessage]:
    given = conf.get_settings()
    if "*" in settings.ALLOWED_HOSTS and not given.ALLOWED_ORIGINS:
        yield checks.Error(
            "ALLOWED_HOSTS = ['*'] lets any page name itself as this site's own, so no browser will be let in.",
            hint="List your hosts in ALLOWED_HOSTS, or your pages' origins in ORGREALTIME['ALLOWED_ORIGINS'].",
            id="orgrealtime.E005",
        )
    backend = getattr(settings, "CHANNEL_LAYERS", {}).get(given.CHANNEL_LAYER, {}).get("BACKEND", "")
    if not backend or backend.endswith("InMemoryChannelLayer"):
        yield checks.Warning(
            f"The channel layer {given.CHANNEL_LAYER!r} doesn't reach other processes: "
            f"events from there arrive by polling, up to {given.POLL_SECONDS:g} s later.",
            hint="Configure a layer of channels_redis.",
            id="orgrealtime.W001",
        )
    if connections[alias()].vendor == "sqlite":
        yield checks.Warning(
            "Events are stored in SQLite, which lets one transaction write at a time.",
            hint="Use PostgreSQL.",
            id="orgrealtime.W002",
        )
    if apps.is_installed("daphne"):
        yield checks.Warning(
            "Daphne takes whatever it is given to send: a client that doesn't read fills its memory.",
            hint="Serve production with uvicorn.",
            id="orgrealtime.W003",
        )
    cache = settings.CACHES.get("default", {}).get("BACKEND", "")
    counted = [name for name in COUNTED_TOGETHER if getattr(given, name) is not None]
    if counted and cache.endswith(("LocMemCache", "DummyCache")):
        yield checks.Warning(
            f"The default cache isn't shared, so of ORGREALTIME {', '.join(counted)} are counted per process.",
            hint="Configure a cache that all processes share, such as Redis.",
            id="orgrealtime.W004",
        )
    if _serves_event_streams() and not getattr(settings, "ASGI_APPLICATION", None):
        yield checks.Warning(
            "ASGI_APPLICATION isn't set: if this project is served through WSGI, there are no WebSockets, and the "
            "Server-Sent Events of orgrealtime.urls are answered with 501.",
            hint="Serve it through ASGI, and say so: ASGI_APPLICATION = 'config.asgi.application'.",
            id="orgrealtime.W005",
        )


def _serves_event_streams() -> bool:
    try:
        reverse("orgrealtime:stream", args=["any"])
    except (ImproperlyConfigured, NoReverseMatch):
        return False
    return True


def check_logins(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that users can be told from strangers by what Django has for it."""
    return [*_check_sessions(), *_check_middleware()]


def _check_sessions() -> Iterator[checks.CheckMessage]:
    reason = sessions.why_there_are_none()
    if reason is not None:
        yield checks.Warning(
            f"Nobody can be logged in by a session: {reason}. All are refused as anonymous whom no middleware names.",
            hint='Install what is missing. Where middleware of yours names the user, in scope["user"] of WebSockets '
            "and request.user, silence this.",
            id="orgrealtime.W006",
        )


def _check_middleware() -> Iterator[checks.CheckMessage]:
    from orgrealtime.views import CatchUpView

    if not getattr(settings, "ROOT_URLCONF", None):
        return
    is_asked = any(issubclass(way, CatchUpView) for _, way in _ways_to_read(get_resolver().url_patterns))
    if is_asked and not any(map(_names_users, getattr(settings, "MIDDLEWARE", ()))):
        yield checks.Warning(
            "MIDDLEWARE has no AuthenticationMiddleware, so without middleware of yours the HTTP views of orgrealtime "
            "know users by the session cookie alone, and refuse all others.",
            hint="Add Django's SessionMiddleware and AuthenticationMiddleware. Where middleware of yours sets "
            "request.user, silence this.",
            id="orgrealtime.W007",
        )


def _names_users(path: str) -> bool:
    """Tell whether a middleware is Django's for logins, or a subclass of it."""
    try:
        middleware = import_string(path)
    except Exception:  # Django says so when it starts
        return False
    names = {f"{each.__module__}.{each.__qualname__}" for each in getattr(middleware, "__mro__", ())}
    return "django.contrib.auth.middleware.AuthenticationMiddleware" in names


def check_rules(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that no way to read a stream is left open that another one closes by an `allow` or `render` of its own."""
    from orgrealtime.consumers import OrgConsumer
    from orgrealtime.policy import Governed

    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    routed = list(_ways_to_read(get_resolver().url_patterns))
    consumers = [cls for cls in _subclasses(OrgConsumer) if _is_of_the_project(cls.__module__)]
    ways = [*(way for _, way in routed), *consumers]
    return [
        checks.Error(
            f"{closed.__qualname__} has a rule, {name}(), but {route!r} shows the same stream without it, by "
            f"{opened.__qualname__}.",
            hint="Put the rule into an orgrealtime.policy.Policy, and use the routes of orgrealtime.routing.routes() "
            "alone; where a route shall be open, give it a policy that says so.",
            id="orgrealtime.E010",
        )
        for name in ("allow", "render")
        for closed in dict.fromkeys(way for way in ways if way.has_rule(name))
        for route, opened in routed
        if opened.policy is Governed.policy and not opened.has_rule(name)
    ]


def check_routes(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that no other route answers in place of this app's, as one that catches all."""
    from orgrealtime.policy import Governed
    from orgrealtime.sse import EventSourceView

    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    messages: list[checks.CheckMessage] = []
    for name in ("catch-up", "stream", "ticket"):
        try:
            path = "/" + reverse(f"orgrealtime:{name}", args=["any"]).removeprefix(get_script_prefix())
            view = resolve(path).func
        except (ImproperlyConfigured, NoReverseMatch, Resolver404):
            continue
        if not issubclass(getattr(view, "view_class", type), Governed | EventSourceView):
            messages.append(
                checks.Warning(
                    f"{path!r} is answered by {view.__module__}.{view.__qualname__}, and not by orgrealtime:{name}.",
                    hint='Put path("", include("orgrealtime.urls")) before routes that match everything.',
                    id="orgrealtime.W008",
                )
            )
    return messages


def _is_of_the_project(module: str) -> bool:
    """Whether a module is of an installed app, or lies beside the project's URLs or its ASGI application."""
    named = (settings.ROOT_URLCONF, (getattr(settings, "ASGI_APPLICATION", None) or "").rpartition(".")[0])
    beside = {name.rpartition(".")[0] for name in named if isinstance(name, str) and "." in name}
    return apps.get_containing_app_config(module) is not None or any(
        module.startswith(f"{package}.") for package in beside
    )


def _ways_to_read(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The routes of this app's views that show events, each with the class whose rules hold there."""
    from orgrealtime.sse import EventSourceView
    from orgrealtime.views import CatchUpView

    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if hasattr(pattern, "url_patterns"):
            yield from _ways_to_read(pattern.url_patterns, route)
            continue
        view: Any = getattr(pattern.callback, "view_class", type)
        if issubclass(view, CatchUpView):
            yield route, view
        elif issubclass(view, EventSourceView):
            yield route, pattern.callback.view_initkwargs.get("consumer", view.consumer)


def _subclasses(cls: Any) -> Iterator[Any]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
