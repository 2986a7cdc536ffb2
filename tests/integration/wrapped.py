"""The example inside middleware that wraps `send` and `receive`, as for tracing and for reporting errors."""

import os
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config.asgi import application as example

from orgrealtime import consumers

consumers.CLOSE_ANSWER_SECONDS = 1.0  # until a client that reads nothing is let go


async def plainly_wrapped(scope: Any, receive: Any, send: Any) -> None:
    async def wrapped_send(message: Any) -> None:
        await send(message)

    async def wrapped_receive() -> Any:
        return await receive()

    await example(scope, wrapped_receive, wrapped_send)


opentelemetry = OpenTelemetryMiddleware(example, tracer_provider=TracerProvider())
sentry = SentryAsgiMiddleware(example)
both = SentryAsgiMiddleware(OpenTelemetryMiddleware(plainly_wrapped, tracer_provider=TracerProvider()))
