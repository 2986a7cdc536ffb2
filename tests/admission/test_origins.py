"""Which pages may open a connection."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django.fixtures import Settings

from orgrealtime.admission.origins import check_origin
from orgrealtime.errors import CloseCode, Refused
from tests.conftest import Configure


@pytest.fixture(autouse=True)
def _hosts(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["example.com", "[::1]"]


def handshake(
    origin: str | None = None, host: str = "example.com", scheme: str = "ws", **headers: str
) -> dict[str, Any]:
    """The scope of a handshake; a header's name is written with underscores."""
    given = {"host": host, **headers} if origin is None else {"host": host, "origin": origin, **headers}
    return {
        "type": "websocket",
        "scheme": scheme,
        "server": ("10.0.0.1", 8000),
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()
        ],
    }


def is_let_in(scope: dict[str, Any]) -> bool:
    try:
        check_origin(scope)
    except Refused as refused:
        return refused.code is not CloseCode.FORBIDDEN
    return True


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://example.com", "example.com", "ws"),
        ("http://example.com:80", "example.com", "ws"),
        ("http://example.com", "example.com:80", "ws"),
        ("https://example.com", "example.com", "wss"),
        ("https://example.com:443", "example.com", "wss"),
        ("https://example.com", "example.com:443", "wss"),
        ("http://example.com:8000", "example.com:8000", "ws"),
        ("HTTP://EXAMPLE.com", "example.COM", "ws"),
        ("http://[::1]:8000", "[::1]:8000", "ws"),
        ("http://[::1]", "[::1]", "ws"),
    ],
)
def test_page_of_this_site_is_let_in(origin: str, host: str, scheme: str) -> None:
    assert is_let_in(handshake(origin, host, scheme))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        " ",
        "https://example.com",
        "ws://example.com",
        "file://",
        "file://example.com",
        "chrome-extension://example.com",
        "javascript://example.com",
        "http://example.com:8000",
        "http://example.com:443",
        "http://example.com:0",
        "http://example.com:99999",
        "http://example.com:http",
        "http://other.example",
        "http://sub.example.com",
        "http://example.com.evil.example",
        "http://evilexample.com",
        "http://evil.example/example.com",
        "http://evil.example#example.com",
        "http://evil.example?example.com",
        "http://example.com@evil.example",
        "http://evil.example@example.com",
        "http://user:password@example.com",
        "http://evil.example\\@example.com",
        "http://example.com\\.evil.example",
        "http://example.com/",
        "http://example.com/path",
        "http://example.com?query",
        "http://example.com#fragment",
        "http://example.com\t",
        " http://example.com",
        "http://exam\tple.com",
        "http://example.com\x00",
        "http://example.com http://evil.example",
        "http://example.com, http://example.com",
        "http://ex\xe4mple.com",
        "http://",
        "http://:80",
        "http://[::1",
        "http:example.com",
        "//example.com",
        "example.com",
    ],
)
def test_any_other_page_is_refused(origin: str) -> None:
    assert not is_let_in(handshake(origin))


def test_page_without_tls_is_refused_at_a_site_with_tls() -> None:
    assert not is_let_in(handshake("http://example.com", scheme="wss"))


def test_page_of_another_port_is_refused_at_a_site_with_a_port() -> None:
    assert not is_let_in(handshake("http://example.com", host="example.com:8000"))


def test_handshake_with_two_origins_is_refused_though_both_are_good() -> None:
    scope = handshake("http://example.com")
    scope["headers"].append((b"Origin", b"http://example.com"))
    assert not is_let_in(scope)


@pytest.mark.parametrize(
    "origin", ["https://app.example.org", "https://APP.example.org:443", "http://localhost:5173"]
)
def test_listed_page_is_let_in(configure: Configure, origin: str) -> None:
    configure(ALLOWED_ORIGINS=["https://app.example.org", "http://localhost:5173"])
    assert is_let_in(handshake(origin))


APPS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "app://bundle:8080",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://6c2a1b1c-7c46-4d33-9d0a-3c3c5a4a2e11",
    "safari-web-extension://E5A71BCD-0000-4000-8000-000000000000",
]


@pytest.mark.parametrize("origin", APPS)
def test_listed_page_of_an_app_or_extension_is_let_in(configure: Configure, origin: str) -> None:
    configure(ALLOWED_ORIGINS=APPS)
    assert is_let_in(handshake(origin, cookie="sessionid=abc"))
    assert is_let_in(handshake(origin.upper()))


@pytest.mark.parametrize(
    "origin",
    [
        "capacitor://evil",
        "capacitor://localhost:80",
        "http://localhost",
        "https://localhost",
        "tauri://localhost/",
        "tauri:localhost",
        "app://bundle",
        "chrome-extension://bcdefghijklmnopabcdefghijklmnopa",
        "moz-extension://abcdefghijklmnopabcdefghijklmnop",
    ],
)
def test_page_of_an_app_that_is_nearly_listed_is_refused(configure: Configure, origin: str) -> None:
    configure(ALLOWED_ORIGINS=APPS)
    assert not is_let_in(handshake(origin))


@pytest.mark.parametrize(
    "origin",
    ["http://app.example.org", "https://example.org", "http://localhost", "https://x.app.example.org"],
)
def test_page_that_is_nearly_listed_is_refused(configure: Configure, origin: str) -> None:
    configure(ALLOWED_ORIGINS=["https://app.example.org", "http://localhost:5173"])
    assert not is_let_in(handshake(origin))


@pytest.mark.parametrize("listed", ["*", "null", "https://*.example.org", "app.example.org"])
def test_entry_that_is_no_origin_lets_nobody_in(configure: Configure, listed: str) -> None:
    configure(ALLOWED_ORIGINS=[listed])
    assert not is_let_in(handshake("https://app.example.org"))
    assert not is_let_in(handshake("null"))


# ---------------------------------------------------------------------------------------------- no Origin at all


def test_program_without_origin_and_cookie_is_let_in() -> None:
    assert is_let_in(handshake())


def test_program_with_another_cookie_is_let_in() -> None:
    assert is_let_in(handshake(cookie="theme=dark; xsessionid=1"))


@pytest.mark.parametrize("cookie", ["sessionid=abc", "theme=dark; sessionid=abc", "sessionid="])
def test_session_cookie_without_origin_is_refused(cookie: str) -> None:
    assert not is_let_in(handshake(cookie=cookie))


def test_session_cookie_in_a_second_header_is_seen() -> None:
    scope = handshake(cookie="theme=dark")
    scope["headers"].append((b"cookie", b"sessionid=abc"))
    assert not is_let_in(scope)


def test_session_cookie_of_another_name_is_seen(settings: Settings) -> None:
    settings.SESSION_COOKIE_NAME = "sid"
    assert not is_let_in(handshake(cookie="sid=abc"))


# --------------------------------------------------------------------------------------------- which host is ours


def test_page_of_a_host_that_is_not_allowed_is_refused() -> None:
    assert not is_let_in(handshake("http://evil.example", host="evil.example"))


@pytest.mark.parametrize("host", ["", "exam ple.com", "example.com:port", "evil.example, example.com"])
def test_page_of_a_malformed_host_is_refused(host: str) -> None:
    assert not is_let_in(handshake(f"http://{host}", host=host))


def test_handshake_with_two_hosts_is_refused() -> None:
    scope = handshake("http://example.com", host="evil.example")
    scope["headers"].append((b"host", b"example.com"))
    assert not is_let_in(scope)


def test_handshake_without_a_host_is_refused() -> None:
    assert not is_let_in({"type": "websocket", "headers": [(b"origin", b"http://example.com")]})


def test_any_host_in_production_lets_no_page_in(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert not is_let_in(handshake("http://example.com"))


def test_any_host_in_production_lets_listed_pages_in(settings: Settings, configure: Configure) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    configure(ALLOWED_ORIGINS=["http://example.com"])
    assert is_let_in(handshake("http://example.com"))


def test_any_host_while_developing_lets_the_site_s_own_page_in(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.DEBUG = True
    assert is_let_in(handshake("http://example.com"))
    assert not is_let_in(handshake("http://evil.example"))


def test_no_hosts_while_developing_let_localhost_in(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = []
    settings.DEBUG = True
    assert is_let_in(handshake("http://localhost:8000", host="localhost:8000"))
    assert not is_let_in(handshake("http://evil.example:8000", host="evil.example:8000"))


# ------------------------------------------------------------------------------------------------ behind a proxy


@pytest.fixture
def tls_proxy(settings: Settings) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.usefixtures("tls_proxy")
@pytest.mark.parametrize("forwarded", ["https", "https, http"])
def test_page_with_tls_is_let_in_through_a_proxy_that_ends_tls(forwarded: str) -> None:
    assert is_let_in(handshake("https://example.com", x_forwarded_proto=forwarded))
    assert not is_let_in(handshake("http://example.com", x_forwarded_proto=forwarded))


@pytest.mark.usefixtures("tls_proxy")
def test_proxy_s_header_counts_as_django_reads_it_when_it_comes_twice() -> None:
    scope = handshake("https://example.com", x_forwarded_proto="https")
    scope["headers"].append((b"x-forwarded-proto", b"http"))
    assert is_let_in(scope)


@pytest.mark.usefixtures("tls_proxy")
def test_proxy_s_header_with_underscores_does_not_count() -> None:
    scope = handshake("https://example.com")
    scope["headers"].append((b"x_forwarded_proto", b"https"))
    assert not is_let_in(scope)


def test_proxy_s_header_does_not_count_unless_django_is_told_so() -> None:
    assert not is_let_in(handshake("https://example.com", x_forwarded_proto="https"))


def test_forwarded_host_counts_if_django_uses_it(settings: Settings) -> None:
    settings.USE_X_FORWARDED_HOST = True
    scope = handshake("http://example.com", host="backend:8000", x_forwarded_host="example.com")
    assert is_let_in(scope)


def test_forwarded_host_does_not_count_unless_django_uses_it() -> None:
    scope = handshake("http://evil.example", x_forwarded_host="evil.example")
    assert not is_let_in(scope)


def test_forwarded_host_must_be_allowed_too(settings: Settings) -> None:
    settings.USE_X_FORWARDED_HOST = True
    assert not is_let_in(handshake("http://evil.example", x_forwarded_host="evil.example"))
