"""The settings: read live, and what doesn't exist is named."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from pytest_django.fixtures import Settings

from orgrealtime import conf
from orgrealtime.rates import Rate


def test_defaults_hold_without_any_setting(settings: Settings) -> None:
    del settings.ORGREALTIME
    assert conf.get_settings() == conf.Settings()


def test_given_keys_replace_defaults() -> None:
    with override_settings(ORGREALTIME={"MAX_PAYLOAD_BYTES": 7, "SOCKET_RATE": Rate(1, 2)}):
        assert conf.get_settings() == conf.Settings(MAX_PAYLOAD_BYTES=7, SOCKET_RATE=Rate(1, 2))


def test_change_is_seen_at_once_and_only_while_it_lasts() -> None:
    before = conf.get_settings()
    with override_settings(ORGREALTIME={"STRICT_TYPES": True}):
        assert conf.get_settings().STRICT_TYPES is True
    assert conf.get_settings() == before


def test_change_of_the_dict_itself_is_seen(settings: Settings) -> None:
    settings.ORGREALTIME = {}
    assert conf.get_settings().STRICT_TYPES is False
    settings.ORGREALTIME["STRICT_TYPES"] = True
    assert conf.get_settings().STRICT_TYPES is True


def test_settings_arent_read_again_for_every_question() -> None:
    assert conf.get_settings() is conf.get_settings()


def test_unknown_keys_are_named_with_those_that_exist() -> None:
    with (
        override_settings(ORGREALTIME={"PUBLISHERS": "x", "ADAPTR": "y", "STRICT_TYPES": True}),
        pytest.raises(ImproperlyConfigured, match=r"no setting ADAPTR, PUBLISHERS; allowed are .*PUBLISHER"),
    ):
        conf.get_settings()


def test_all_mistakes_are_named_at_once() -> None:
    wrong = {"ADAPTR": "y", "MAX_PAYLOAD_BYTES": "many", "TRUSTED_PROXIES": ["10.0.0.1/8", "host"]}
    with (
        override_settings(ORGREALTIME=wrong),
        pytest.raises(ImproperlyConfigured, match=r"ADAPTR.*MAX_PAYLOAD_BYTES.*10\.0\.0\.1/8.*'host'"),
    ):
        conf.get_settings()


def test_unknown_key_is_named_every_time() -> None:
    with override_settings(ORGREALTIME={"ADAPTR": "y"}):
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured):
                conf.get_settings()


@pytest.mark.parametrize("name", ["", "Organization", "a.b.c"])
def test_organisation_model_that_isnt_a_label_is_refused_with_an_example(name: str) -> None:
    with (
        override_settings(ORGREALTIME_ORGANIZATION_MODEL=name),
        pytest.raises(
            ImproperlyConfigured, match=r"ORGREALTIME_ORGANIZATION_MODEL .* 'app_label\.ModelName'"
        ),
    ):
        conf.organization_model()


def test_organisation_model_must_be_set(settings: Settings) -> None:
    del settings.ORGREALTIME_ORGANIZATION_MODEL
    with pytest.raises(ImproperlyConfigured, match="ORGREALTIME_ORGANIZATION_MODEL"):
        conf.organization_model()


def test_migration_depends_on_the_first_of_the_organisations_app_unless_named(settings: Settings) -> None:
    del settings.ORGREALTIME_ORGANIZATION_MIGRATION
    assert conf.organization_migration() == ("host", "__first__")
    settings.ORGREALTIME_ORGANIZATION_MIGRATION = "0002_organization"
    assert conf.organization_migration() == ("host", "0002_organization")


@pytest.mark.parametrize("value", [0, -1, True, "50", 1.5])
def test_cap_that_is_no_number_is_refused_with_what_is_allowed(value: object) -> None:
    with (
        override_settings(ORGREALTIME={"CONNECTIONS_PER_USER": value}),
        pytest.raises(ImproperlyConfigured, match=r"a whole number above 0, or None for no limit"),
    ):
        conf.get_settings()


@pytest.mark.parametrize("name", ["CONNECTIONS_PER_USER", "CONNECTIONS_PER_ADDRESS", "MAX_HANDSHAKES"])
@pytest.mark.parametrize("value", [None, 7])
def test_cap_is_a_number_or_none_whatever_its_default(name: str, value: object) -> None:
    with override_settings(ORGREALTIME={name: value}):
        assert getattr(conf.get_settings(), name) == value


def test_none_is_refused_where_there_is_always_a_limit() -> None:
    with (
        override_settings(ORGREALTIME={"MAX_QUEUED_COMMANDS": None}),
        pytest.raises(ImproperlyConfigured, match="a whole number above 0, not None"),
    ):
        conf.get_settings()
