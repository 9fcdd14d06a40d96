"""Anthropic's own client, at the gateway in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import httpx2

from gateway_project import asgi
from tests.inference import workers


@asynccontextmanager
async def anthropics_client(secret: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    transport = httpx2.ASGITransport(app=asgi.application)
    async with httpx2.AsyncClient(transport=transport) as http:
        yield anthropic.AsyncAnthropic(base_url="http://127.0.0.1", api_key=secret, http_client=http, max_retries=0)
    await workers.close_async_connection()
