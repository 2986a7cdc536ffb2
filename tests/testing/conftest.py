from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections

from orgrealtime.concurrency import threads as pools
from orgrealtime.delivery.hub import close_hub
from orgrealtime.testing.communicator import OrgCommunicator
from tests.host.models import Organization
from tests.sockets import APPLICATION


@pytest.fixture
async def socket(alice: User, acme: Organization) -> AsyncIterator[OrgCommunicator]:
    socket = await OrgCommunicator.connect_as(alice, acme, application=APPLICATION)
    yield socket
    if not socket.future.done():
        await socket.disconnect()
    await close_hub()
    await sync_to_async(connections.close_all)()
    pools.close_all()
