"""What is kept in the cache comes back, and what somebody else has put there runs nothing."""

from __future__ import annotations

import datetime
import pickle
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import redis
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from pytest_django.fixtures import Settings

from tests import servers
from tests.conftest import shown


@pytest.fixture
def cache(settings: Settings) -> BaseCache:
    backend = "django.core.cache.backends.redis.RedisCache"
    options = {"serializer": "orgrealtime.serializers.JSONSerializer"}
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": servers.redis_url(), "OPTIONS": options}}
    return caches["default"]


@pytest.mark.parametrize("value", [0, -7, 1.5, True, None, "a\n'ä", [1, "x"], {"a": {"b": []}}])
def test_value_comes_back_as_it_was(cache: BaseCache, value: Any) -> None:
    cache.set_many({"one": value, "two": value})
    found = cache.get_many(["one", "two"])
    assert found == {"one": value, "two": value}
    assert type(found["one"]) is type(value)


def test_number_can_be_counted_on(cache: BaseCache) -> None:
    cache.set("n", 5)
    assert cache.incr("n", 3) == 8
    assert cache.get("n") == 8


class Loaded:
    def __reduce__(self) -> Any:
        return eval, ("1 / 0",)


def test_pickle_isnt_loaded(cache: BaseCache) -> None:
    with redis.Redis.from_url(servers.redis_url()) as client:
        client.set(":1:forged", pickle.dumps(Loaded()))
    with pytest.raises(msgspec.DecodeError):
        cache.get("forged")


NOT_JSON = [
    object(), (1,), {1}, b"x", {1: 2}, [{"a": (1,)}], float("nan"), float("inf"), datetime.date(2026, 1, 1), Decimal(1),
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_JSON, ids=shown)
def test_what_json_cant_keep_as_it_is_is_refused(cache: BaseCache, value: Any) -> None:
    with pytest.raises(TypeError):
        cache.set("x", value)
