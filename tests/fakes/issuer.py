"""A small OpenID Connect issuer on a real socket: discovery, the authorization code with PKCE, signed tokens, userinfo.

It lets in whoever `claims` says, at once. What it is asked is checked as a real one checks it; `spoil` makes it misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, CLIENT_SECRET = "the-gateway", "the-gateways-secret"


class Issuer:
    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims: dict[str, Any] = {}
        self.spoil: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self, {})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                issuer.answer(self, _flat(self.rfile.read(length).decode()))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Issuer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        parts = urlsplit(handler.path)
        doors = {
            "/.well-known/openid-configuration": self._configuration,
            "/authorize": self._authorize,
            "/token": self._token,
            "/jwks": self._jwks,
            "/userinfo": self._userinfo,
        }
        status, headers, body = doors[parts.path](_flat(parts.query), form, handler.headers)
        text = b"" if body is None else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text)

    def _configuration(self, *_: Any) -> tuple[int, dict, Any]:
        return (
            200,
            {},
            {
                "issuer": self.spoil.get("issuer", self.url),
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            },
        )

    def _authorize(self, query: dict[str, str], *_: Any) -> tuple[int, dict, Any]:
        wanted = {"response_type": "code", "client_id": CLIENT_ID, "code_challenge_method": "S256"}
        assert wanted.items() <= query.items(), query
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe()
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"]})
        return 302, {"Location": f"{query['redirect_uri']}?{back}"}, None

    def _token(self, _: Any, form: dict[str, str], headers: Any) -> tuple[int, dict, Any]:
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET)
            or asked["redirect_uri"] != form.get("redirect_uri")
            or asked["code_challenge"] != challenge.decode().rstrip("=")
        ):
            return 400, {}, {"error": "invalid_grant"}
        access = secrets.token_urlsafe()
        self.tokens[access] = dict(self.claims)
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60, **self.claims, **self.spoil}
        key = self.spoil.get("signed_by", self.key)
        claims.pop("signed_by", None)
        return 200, {}, {"access_token": access, "token_type": "Bearer", "id_token": _signed(claims, key)}

    def _jwks(self, *_: Any) -> tuple[int, dict, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return 200, {}, {"keys": [public | {"kid": "one", "alg": "RS256", "use": "sig"}]}

    def _userinfo(self, _: Any, __: Any, headers: Any) -> tuple[int, dict, Any]:
        known = self.tokens.get(headers.get("Authorization", "").removeprefix("Bearer "))
        return (401, {}, {}) if known is None else (200, {}, known | self.spoil.get("userinfo", {}))


def _signed(claims: dict[str, Any], key: Any) -> str:
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "one"})


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
