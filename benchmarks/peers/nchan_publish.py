"""Publishes to nchan by HTTP: `python -m benchmarks.peers.nchan_publish PORT`, told by `benchmarks.pace`."""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any

from benchmarks import pace

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))


def publish_all(events: list[dict[str, Any]]) -> None:
    for event in events:
        connection.request("POST", "/publish", json.dumps(event))
        connection.getresponse().read()


pace.serve(publish_all)
