"""A stream begins with its organisation."""

from __future__ import annotations

import contextlib

import pytest
from django.db import transaction

from orgrealtime import stream
from orgrealtime.models import Stream
from tests.conftest import MakeOrg
from tests.stream.contents import publish_many

pytestmark = pytest.mark.django_db(transaction=True)


def test_organisation_has_its_stream_once_it_is_committed(make_org: MakeOrg) -> None:
    with transaction.atomic():
        organization = make_org("fresh")
        assert not Stream.objects.filter(pk=organization.pk).exists()
    assert Stream.objects.filter(pk=organization.pk).exists()


@pytest.mark.parametrize("in_block", [False, True])
def test_organisation_whose_stream_cant_be_made_is_saved_all_the_same(
    make_org: MakeOrg, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_block: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Stream.objects, "using", lambda alias: 1 / 0)
        with transaction.atomic() if in_block else contextlib.nullcontext():
            organization = make_org("fresh")
    assert "division by zero" in caplog.text
    publish_many(organization, 1)
    assert stream.position(organization).head == 1
