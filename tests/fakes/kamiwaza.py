"""A Kamiwaza platform on real sockets: it lists deployments, gives tokens, and its deployments answer as OpenAI's API does.

    with FakeKamiwaza() as platform:
        platform.deploy("llama3")                          # active, at a port of its own
        platform.deploy("qwen", status="INITIALIZING")
        provider = make_provider(connection_params={"endpoint": platform.endpoint})

With `token` or `user` every call must show one; `user=("ada", "password")` gives tokens at `/auth/token`. `platform.calls`
are the requests to the API, `deployment.upstream.requests` those to a deployment. A deployment whose `listed` has an `access_path`
answers below the platform's own host, too.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.upstream import Answer, FakeUpstream


@dataclass
class FakeDeployment:
    listed: dict[str, Any]
    """As the platform lists it; tests change it."""
    upstream: FakeUpstream | None = None
    """None for one that does not answer."""

    @property
    def path(self) -> str:
        return str(self.listed.get("access_path") or "")

    @property
    def port(self) -> int:
        assert self.upstream is not None
        return urlsplit(self.upstream.base_url).port or 0


class FakeKamiwaza:
    def __init__(self, *, token: str | None = None, user: tuple[str, str] | None = None, paths: bool = False) -> None:
        self._token, self._user, self._paths = token, user, paths
        self._numbers = itertools.count(1)
        self._open = contextlib.ExitStack()
        self._tokens = itertools.count(1)
        self.deployments: list[FakeDeployment] = []
        self.down = False
        self.token_seconds = 3600

    def __enter__(self) -> FakeKamiwaza:
        self._api = self._open.enter_context(FakeUpstream())
        self._api.answers = self._answer
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def endpoint(self) -> str:
        """As KAMIWAZA_ENDPOINT is written."""
        return self._api.base_url.removesuffix("/v1") + "/api/"

    @property
    def calls(self) -> list[Any]:
        return self._api.requests

    def deploy(self, name: str | None, *, status: str = "DEPLOYED", instance: str | None = None) -> FakeDeployment:
        number = next(self._numbers)
        answers = status == "DEPLOYED"
        upstream = self._open.enter_context(FakeUpstream(api_key=self._token)) if answers else None
        listed: dict[str, Any] = {
            "id": f"00000000-0000-4000-8000-{number:012d}",
            "m_id": f"10000000-0000-4000-8000-{number:012d}",
            "m_name": name,
            "status": status,
            "instances": [{"id": f"i{number}", "status": instance or status}],
            "lb_port": urlsplit(upstream.base_url).port if upstream else 0,
        }
        if self._paths:
            listed["access_path"] = None
        deployment = FakeDeployment(listed, upstream)
        self.deployments.append(deployment)
        return deployment

    def _answer(self, request: Any) -> Answer:
        if self.down:
            return Answer(status=503, json={"detail": "the platform is down"})
        if request.path == "/api/auth/token" and self._user is not None:
            return self._signed_in(parse_qs(request.body.decode()))
        if any(one.path and request.path.startswith(f"{one.path}/v1/") for one in self.deployments):
            return Answer() if self._knows(request) else Answer(status=401, json={"detail": "Not authenticated"})
        if request.path != "/api/serving/deployments":
            return Answer(status=404, json={"detail": "Not Found"})
        if not self._knows(request):
            return Answer(status=401, json={"detail": "Not authenticated"})
        return Answer(json=[deployment.listed for deployment in self.deployments])

    def _knows(self, request: Any) -> bool:
        return self._token is None or request.headers.get("authorization") == f"Bearer {self._token}"

    def _signed_in(self, form: dict[str, list[str]]) -> Answer:
        given = (form.get("username", [""])[0], form.get("password", [""])[0])
        if given != self._user:
            return Answer(status=401, json={"detail": "Invalid credentials"})
        self.renew_token(f"token-{next(self._tokens)}-canary")
        return Answer(json={"access_token": self._token, "token_type": "Bearer", "expires_in": self.token_seconds})

    def renew_token(self, token: str) -> None:
        """From now on only this one is good."""
        self._token = token
        for deployment in self.deployments:
            if deployment.upstream is not None:
                deployment.upstream.api_key = token
