"""Deployments of a Kamiwaza platform: each has a URL of its own, and all of them speak the OpenAI protocol.

Where a model answers stands in its parameter `base_urls`, which the discovery keeps. Several deployments of one model take
turns, and one that cannot be reached is passed over for a while. A provider whose base URL is that of one deployment is an
OpenAI-compatible one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from inference.backends import http
from inference.backends.base import Reply, UpstreamCall
from inference.backends.openai_compatible import OpenAICompatible
from inference.errors import (
    ConfigurationError,
    GatewayError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefusedOurKey,
    UpstreamUnreachable,
)
from providers import kamiwaza, openai_api
from providers.connection import text
from providers.secrets import Secret
from routing.types import ProviderView, UpstreamKey

_REST_SECONDS = 15.0
"""How long a deployment that failed is asked last."""
_MOST_DEPLOYMENTS = 512
"""Known at a time. Platforms have dozens; whoever deploys anew every hour for a month goes through some hundreds."""
_RENEWED_BEFORE_SECONDS = 30.0
_MOST_SECRETS = 8
"""Tokens that are kept out of what is relayed; no call outlives so many."""

_DOWN = (UpstreamUnreachable, UpstreamFailed, UpstreamBroken)
_ANOTHER_MAY_SERVE = (*_DOWN, UpstreamRateLimited)
_OPEN = UpstreamKey(0, Secret(kamiwaza.OPEN_KEY))


class Kamiwaza:
    """See `base.Backend`. Connection: that of `OpenAICompatible`, and `username` with `password`."""

    speaks: frozenset[str] = frozenset()

    def __init__(self, provider: ProviderView) -> None:
        base_url = text(provider.connection, "base_url")
        if not base_url:
            raise ConfigurationError("The provider has no endpoint.", detail="base_url is missing", param="base_url")
        self._provider = provider
        self._platform = OpenAICompatible(provider)
        self._is_platform = kamiwaza.is_platform(base_url)
        self._sign_in = _SignIn(provider) if kamiwaza.signs_in(provider.connection) and not provider.keys else None
        self._deployments: dict[str, OpenAICompatible] = {}
        self._left: list[OpenAICompatible] = []
        """Of deployments that were forgotten; calls may be under way, so they are closed with the rest."""
        self._resting: dict[str, float] = {}
        self._turn = 0

    async def send(self, call: UpstreamCall) -> Reply:
        urls = call.model.parameters.get("base_urls")
        if isinstance(urls, list | tuple) and urls:
            return await self._send_to_one_of(urls, call)
        if self._is_platform:
            raise ConfigurationError(
                f"The model '{call.model.model_id}' has no deployment.",
                detail="no base_urls: read the list of deployments",
            )
        return await self._platform.send(call)

    async def list_models(self) -> list[dict[str, Any]]:
        """The deployments of a platform as it lists them."""
        return await self._platform.list_models()

    async def aclose(self) -> None:
        for backend in (self._platform, *self._deployments.values(), *self._left):
            await backend.aclose()
        if self._sign_in is not None:
            await self._sign_in.aclose()

    # One call

    async def _send_to_one_of(self, urls: Sequence[str], call: UpstreamCall) -> Reply:
        *others, last = self._in_turn(urls)
        for url in others:
            try:
                return await self._send_to(url, call)
            except _ANOTHER_MAY_SERVE as error:
                self._note(url, error)
        try:
            return await self._send_to(last, call)
        except _DOWN as error:
            self._note(last, error)
            raise

    async def _send_to(self, url: str, call: UpstreamCall) -> Reply:
        backend = self._deployment(url)
        if self._sign_in is None:
            return await backend.send(call if call.key is not None else replace(call, key=_OPEN))
        token = await self._sign_in.token()
        backend.keep_secret(self._sign_in.given)
        try:
            return await backend.send(replace(call, key=token))
        except UpstreamRefusedOurKey:
            self._sign_in.forget(token)
        token = await self._sign_in.token()
        backend.keep_secret(self._sign_in.given)
        return await backend.send(replace(call, key=token))

    def _in_turn(self, urls: Sequence[str]) -> list[str]:
        """Each one first once, those that failed lately last."""
        if len(urls) == 1:
            return list(urls)
        self._turn += 1
        first = self._turn % len(urls)
        turned = [*urls[first:], *urls[:first]]
        if not self._resting:
            return turned
        now = time.monotonic()
        self._resting = {url: until for url, until in self._resting.items() if until > now}
        return sorted(turned, key=lambda url: url in self._resting)

    def _note(self, url: str, error: GatewayError) -> None:
        if isinstance(error, _DOWN):
            self._resting[url] = time.monotonic() + _REST_SECONDS

    def _deployment(self, url: str) -> OpenAICompatible:
        backend = self._deployments.get(url)
        if backend is None:
            if len(self._deployments) >= _MOST_DEPLOYMENTS:
                self._forget_all()
            connection = {**self._provider.connection, "base_url": url}
            backend = self._deployments[url] = OpenAICompatible(replace(self._provider, connection=connection))
        return backend

    def _forget_all(self) -> None:
        """Those that are still there come back with their next call, over the same connections."""
        self._left += self._deployments.values()
        self._deployments.clear()
        self._resting.clear()


class _SignIn:
    """Tokens for a user name and a password, one at a time for all calls of a backend."""

    def __init__(self, provider: ProviderView) -> None:
        connection = provider.connection
        origin, parsed = http.origin_of(text(connection, "base_url"), connection)
        self._client = http.client_for(origin)
        self._limits = http.limits_of(provider.settings)
        headers = {**openai_api.headers(connection), "content-type": "application/x-www-form-urlencoded"}
        self._head = self._client.prepare(
            "POST",
            openai_api.root(parsed) + kamiwaza.SIGN_IN_PATH,
            [(name.encode("ascii"), value.encode()) for name, value in headers.items()],
        )
        self._body = kamiwaza.sign_in_body(connection)
        self._token: UpstreamKey | None = None
        self.given: deque[Secret] = deque(maxlen=_MOST_SECRETS)
        """The tokens of late: a call that began with one of them may be refused, and told it, after the next has come."""
        self._renewed_at = 0.0
        self._number = 0
        self._alone = asyncio.Lock()

    async def token(self) -> UpstreamKey:
        """Raises the `GatewayError` of a platform that gives none."""
        if self._token is None or time.monotonic() >= self._renewed_at:
            async with self._alone:
                if self._token is None or time.monotonic() >= self._renewed_at:
                    await self._fetch()
        assert self._token is not None
        return self._token

    def forget(self, token: UpstreamKey) -> None:
        """It was refused: the next call fetches another."""
        if self._token is token:
            self._token = None

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _fetch(self) -> None:
        self._token = None
        reply = await self._client.send(self._head, self._body, limits=self._limits)
        body = await http.whole_body(reply)
        if reply.status in (400, 401, 403):
            raise UpstreamRefusedOurKey(
                "The provider refused the gateway's user name or password.", detail=f"status {reply.status} at sign-in"
            )
        if not 200 <= reply.status < 300:
            raise UpstreamFailed("The provider's sign-in failed.", detail=f"status {reply.status} at sign-in")
        try:
            secret, seconds = kamiwaza.token_of(msgspec.json.decode(body))
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise UpstreamBroken("The provider's answer to the sign-in holds no token.") from None
        # A number of its own for each token: what was prepared with the last one is not used with the next.
        self._number -= 1
        self._token = UpstreamKey(self._number, Secret(secret))
        self.given.append(self._token.secret)
        self._renewed_at = time.monotonic() + max(seconds - _RENEWED_BEFORE_SECONDS, seconds / 2)
