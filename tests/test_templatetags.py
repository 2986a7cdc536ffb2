"""What the template tags put into a page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.staticfiles.finders import get_finder
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, StaticFilesStorage
from django.core.management import call_command
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import set_script_prefix
from pytest_django.fixtures import Settings

from orgrealtime import publish, stream
from orgrealtime.routing import websocket_urlpatterns
from orgrealtime.templatetags import orgrealtime as tags
from tests.host.models import Organization

pytestmark = pytest.mark.django_db

STATIC = Path(tags.__file__).parent.parent / "static"


def render(tag: str, organization: Organization, user: Any = None, **context: Any) -> str:
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    values = {"organization": organization, "request": request, **context}
    return Template("{% load orgrealtime %}{% " + tag + " %}").render(Context(values))


def config_of(html: str) -> Any:
    found = re.search(r'<script id="orgrealtime-config" type="application/json">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_position_is_the_newest_cursor(acme: Organization) -> None:
    publish(acme, "note", {})
    assert render("orgrealtime_position organization", acme) == stream.position(acme).cursor_at(1)


def test_client_gets_what_it_needs_to_connect(acme: Organization, alice: User) -> None:
    config = config_of(render("orgrealtime_client organization", acme, alice))
    assert config == {
        "org": "acme",
        "since": stream.position(acme).cursor,
        "url": "/ws/orgs/acme/notifications/",
        "catchUpUrl": "/orgs/acme/notifications/",
        "streamUrl": "/orgs/acme/notifications/stream/",
        "user": alice.pk,
        "shareKey": str(alice.pk),
    }


def test_socket_s_path_is_that_of_the_routing(acme: Organization) -> None:
    [route] = websocket_urlpatterns
    config = config_of(render("orgrealtime_client organization", acme))
    assert route.pattern.match(config["url"].removeprefix("/"))


@pytest.mark.parametrize("prefix", ["/app/", "/a b/"])
def test_all_urls_know_the_script_prefix(acme: Organization, prefix: str) -> None:
    set_script_prefix(prefix)
    try:
        config = config_of(render("orgrealtime_client organization", acme))
    finally:
        set_script_prefix("/")
    below = f"{quote(prefix)}orgs/acme/notifications/"
    assert (config["catchUpUrl"], config["streamUrl"]) == (below, f"{below}stream/")
    assert config["url"] == f"{quote(prefix)}ws/orgs/acme/notifications/"


def test_view_gives_the_position_that_it_took_and_its_path(acme: Organization) -> None:
    tag = 'orgrealtime_client organization since="0badc0de.1" url="/live/acme/"'
    config = config_of(render(tag, acme))
    assert (config["since"], config["url"]) == ("0badc0de.1", "/live/acme/")
    assert not {"user", "shareKey"} & config.keys()


def test_urls_that_the_host_doesnt_serve_are_left_to_the_client(
    acme: Organization, settings: Settings
) -> None:
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    config = config_of(render("orgrealtime_client organization", acme))
    assert "catchUpUrl" not in config
    assert "streamUrl" not in config


def test_modules_are_found_by_name_wherever_static_files_are(acme: Organization, settings: Settings) -> None:
    settings.STATIC_URL = "https://cdn.example/a&b/"
    html = render("orgrealtime_client organization", acme)
    found = re.search(r'<script type="importmap">(.*?)</script>', html)
    assert found
    assert "&" not in found[1]
    imports = json.loads(found[1])["imports"]
    assert imports["orgrealtime"] == "https://cdn.example/a&b/orgrealtime/client.js"
    assert set(imports) == {f"orgrealtime{name}" for name in ("", "/chat", "/notifications", "/room")}


def test_element_finds_what_it_imports_where_files_have_a_hash_in_their_names(
    acme: Organization, settings: Settings
) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    settings.STORAGES = {"staticfiles": {"BACKEND": f"{__name__}.Hashed"}}
    html = render("orgrealtime_client organization", acme)
    imports = json.loads(html.split(">")[1].split("</script")[0])["imports"]
    element = (STATIC / "orgrealtime/notifications.js").read_text()
    imported = re.findall(r'^import .* from "\./(\w+)\.js";$', element, re.MULTILINE)
    client = (STATIC / "orgrealtime/client.js").read_text()
    loaded_later = re.findall(r'import\("\./(\w+)\.js"\);', client + element)
    assert (imported, loaded_later) == (["client"], ["fallbacks", "diagnostics", "panel"])
    for name in [*imported, *loaded_later]:
        assert imports[f"/static/orgrealtime/{name}.js"] == f"/static/orgrealtime/{name}.0badc0de.js"


class Aggregating(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


def test_django_can_put_the_hashes_into_the_imports(settings: Settings, tmp_path: Path) -> None:
    settings.STATICFILES_DIRS = [STATIC]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {"staticfiles": {"BACKEND": f"{__name__}.Aggregating"}}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    get_finder.cache_clear()
    call_command("collectstatic", interactive=False, verbosity=0, skip_checks=True)
    for module, imported in [
        ("notifications", "client"),
        ("notifications", "panel"),
        ("client", "fallbacks"),
        ("client", "diagnostics"),
    ]:
        (importing,) = tmp_path.glob(f"orgrealtime/{module}.*.js")
        (hashed,) = tmp_path.glob(f"orgrealtime/{imported}.*.js")
        assert f'"./{hashed.name}"' in importing.read_text()


class Hashed(StaticFilesStorage):
    """As Django's, with the same hash for all files."""

    def url(self, name: str | None) -> str:
        return str(super().url(name)).replace(".js", ".0badc0de.js")


class LazyNonce:
    """As Django's, which is false until it is used."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return 'no"nce'


def test_nonce_of_the_content_security_policy_is_used(acme: Organization) -> None:
    expected = '<script type="importmap" nonce="no&quot;nce">'
    assert expected in render("orgrealtime_client organization", acme, csp_nonce=LazyNonce())
    request = SimpleNamespace(csp_nonce=LazyNonce(), user=AnonymousUser())
    assert expected in render("orgrealtime_client organization", acme, request=request)
    assert "nonce" not in render("orgrealtime_client organization", acme)


@pytest.mark.parametrize("tag", ["orgrealtime_position missing", 'orgrealtime_client "acme"'])
def test_tag_says_what_it_needs(acme: Organization, tag: str) -> None:
    with pytest.raises(
        TypeError, match=rf"{tag.split()[0]} %}} needs an instance of host.Organization, not '"
    ):
        render(tag, acme)
