"""How the control plane reaches an upstream: step by step, so that each step can be timed and blamed.

Used by probes and by the discovery of models, never on the request path. The address that passed the dial guard is the
one that is dialled; no redirects, no proxies from the environment, bounded time and bounded bodies.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
from django.conf import settings

from providers import kamiwaza, ollama, openai_api, tls
from providers.addresses import AddressRefused, ParsedURL, check_address, check_url
from providers.connection import flag, text
from providers.secrets import Secret
from providers.upstream import Upstream, UsableKey

TIMEOUT_SECONDS = 10.0
MOST_BYTES = 16 * 1024 * 1024
"""Of a list of models; the longest known is about 2 MB."""
LONGEST_QUOTE = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")


class DialFailed(Exception):
    """The upstream cannot be reached or did not answer in its protocol; a sentence for the operator."""


class UpstreamRefused(DialFailed):
    """The upstream answered with an error status; the text is its own, with our secrets masked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SignInFailed(DialFailed):
    """The upstream gave no token for the user name and the password."""


def address_of(upstream: Upstream) -> ParsedURL:
    """The checked base URL. Raises `DialFailed`."""
    base_url = text(upstream.connection, "base_url")
    if not base_url:
        raise DialFailed("There is no base URL: enter the address where the API answers.")
    try:
        return check_url(base_url, allow_private=may_dial_private(upstream))
    except AddressRefused as error:
        raise DialFailed(str(error)) from error


def may_dial_private(upstream: Upstream) -> bool:
    return flag(upstream.connection, "allow_private", default=settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS)


def proxy_of(upstream: Upstream) -> str:
    """The URL of the provider's proxy, password included; empty when it has none."""
    return text(upstream.connection, "proxy")


def resolve(url: ParsedURL, *, allow_private: bool) -> list[str]:
    """The addresses of the host that may be dialled. Raises `DialFailed`."""
    found: list[str] = []
    refusal = ""
    for address in _look_up(url.host, url.port):
        try:
            check_address(address, allow_private=allow_private)
        except AddressRefused as error:
            refusal = str(error)
            continue
        if address not in found:
            found.append(address)
    if not found:
        raise DialFailed(refusal or f"{url.host} has no address.")
    return found


def connect(url: ParsedURL, addresses: Iterable[str]) -> tuple[socket.socket, str]:
    """A connection to the first address that accepts one. Raises `DialFailed`."""
    reason = "there is no address to try"
    for address in addresses:
        try:
            return socket.create_connection((address, url.port), timeout=TIMEOUT_SECONDS), address
        except TimeoutError:
            reason = f"no answer within {TIMEOUT_SECONDS:.0f} seconds"
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
    raise DialFailed(f"Port {url.port} of {url.host} cannot be reached: {reason}.")


def handshake(connection: socket.socket, url: ParsedURL, context: ssl.SSLContext) -> str:
    """The negotiated TLS version. Raises `DialFailed`."""
    try:
        with context.wrap_socket(connection, server_hostname=url.host) as secured:
            return secured.version() or "TLS"
    except ssl.SSLCertVerificationError as error:
        raise DialFailed(f"The certificate is not trusted: {error.verify_message}.") from error
    except (ssl.SSLError, OSError) as error:
        raise DialFailed(f"The TLS handshake failed: {getattr(error, 'reason', None) or error}.") from error


def tls_context(upstream: Upstream) -> ssl.SSLContext:
    """As the provider asks for: the system's authorities, its own CA file, or none; and its client certificate. Raises `DialFailed`."""
    try:
        return tls.context(
            verify=flag(upstream.connection, "verify_tls", default=True),
            ca_file=text(upstream.connection, "ca_file") or None,
            client_certificate=text(upstream.connection, "client_certificate") or None,
        )
    except OSError as error:
        raise DialFailed(f"The CA file or the client certificate cannot be read: {error}.") from error


def signed_in(upstream: Upstream, address: str | None) -> Upstream:
    """The upstream with a token as its key, where a user name and a password stand for one. `address` as for `model_list`.

    Raises `SignInFailed` or `DialFailed`.
    """
    if upstream.keys or not kamiwaza.signs_in(upstream.connection):
        return upstream
    with _asked(
        upstream,
        address,
        "POST",
        openai_api.root(address_of(upstream)) + kamiwaza.SIGN_IN_PATH,
        {"content-type": "application/x-www-form-urlencoded"},
        kamiwaza.sign_in_body(upstream.connection),
    ) as response:
        body = _read(response)
    if not response.is_success:
        raise SignInFailed(f"The sign-in was refused: {said(response.status_code, body, upstream)}")
    try:
        token, _ = kamiwaza.token_of(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise SignInFailed("The answer to the sign-in holds no access token.") from error
    return replace(upstream, keys=(UsableKey(0, Secret(token)),))


@contextmanager
def model_list(upstream: Upstream, address: str | None) -> Iterator[httpx.Response]:
    """Ask for the list of models; the body is not read yet. `address` is None behind a proxy. Raises `DialFailed`."""
    path = openai_api.target(address_of(upstream), upstream.connection)("models", "")
    with _asked(upstream, address, "GET", path) as response:
        yield response


@contextmanager
def _asked(
    upstream: Upstream,
    address: str | None,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Iterator[httpx.Response]:
    url = address_of(upstream)
    proxy = _judged_proxy(upstream)
    host = url.host if proxy or address is None else address
    target = f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{url.port}{path}"
    context = tls_context(upstream) if url.scheme == "https" else False
    try:
        with (
            httpx.Client(
                verify=context, proxy=proxy, trust_env=False, follow_redirects=False, timeout=TIMEOUT_SECONDS
            ) as client,
            client.stream(
                method,
                target,
                headers=_headers(upstream) | {"Host": url.authority} | dict(headers or {}),
                content=body,
                extensions={"sni_hostname": url.host},
            ) as response,
        ):
            yield response
    except httpx.TimeoutException as error:
        raise DialFailed(f"No answer within {TIMEOUT_SECONDS:.0f} seconds.") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        finding = quoted(str(error) or type(error).__name__, upstream.secrets())
        raise DialFailed(f"The upstream did not answer in HTTP: {finding}") from error


def read_models(response: httpx.Response, upstream: Upstream) -> list[dict[str, Any]]:
    """The `{"id": …}` objects of a list of models. Raises `UpstreamRefused` or `DialFailed`."""
    body = _read(response)
    if response.is_redirect:
        raise DialFailed(f"The upstream redirects (HTTP {response.status_code}); redirects are not followed.")
    if response.status_code >= 400:
        raise UpstreamRefused(response.status_code, said(response.status_code, body, upstream))
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DialFailed(f"The list of models is not JSON: {quoted(_text(body), upstream.secrets(), 120)}") from error
    found = listed.get("data", listed.get("models")) if isinstance(listed, dict) else listed
    if not isinstance(found, list):
        raise DialFailed("The answer to the list of models holds no list.")
    models = [model if isinstance(model, dict) else {"id": model} for model in found]
    return [model for model in models if isinstance(model.get("id") or model.get("name"), str)]


def list_models(upstream: Upstream) -> list[dict[str, Any]]:
    """Reach the upstream and return what it lists. Raises `UpstreamRefused` or `DialFailed`."""
    url = address_of(upstream)
    address = None
    if not proxy_of(upstream):
        connection, address = connect(url, resolve(url, allow_private=may_dial_private(upstream)))
        connection.close()
    upstream = signed_in(upstream, address)
    with model_list(upstream, address) as response:
        models = read_models(response, upstream)
    return _shown(upstream, address, models) if ollama.is_spoken(upstream.connection) else models


def _shown(upstream: Upstream, address: str | None, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with what an Ollama server shows of it alone; one that it does not show stays as it is listed."""
    path = openai_api.target(address_of(upstream), upstream.connection)("model", "")
    described = []
    for place, listed in enumerate(models):
        told: dict[str, Any] = {}
        if not ollama.is_told(listed) and place < ollama.MOST_SHOWN:
            body = json.dumps({"model": listed.get("name") or listed.get("id")}).encode()
            try:
                with _asked(upstream, address, "POST", path, {"content-type": "application/json"}, body) as response:
                    read = json.loads(_read(response)) if response.is_success else {}
            except (DialFailed, ValueError):
                read = {}
            told = read if isinstance(read, dict) else {}
        described.append(ollama.described(listed, told))
    return described


def said(status: int, body: bytes, upstream: Upstream) -> str:
    """An upstream's error in its own words, safe to show: `HTTP 401: Incorrect API key provided`."""
    text = _text(body)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        error = parsed.get("error", parsed)
        message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        text = str(message or parsed.get("detail") or parsed.get("message") or text)
    return f"HTTP {status}: {quoted(text, upstream.secrets()) or 'no text'}"


def quoted(text: str, secrets: Iterable[Secret], longest: int = LONGEST_QUOTE) -> str:
    """Foreign text on one line, our secrets masked, cut to `longest` characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), "••••")
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _look_up(host: str, port: int) -> list[str]:
    """`getaddrinfo` knows no timeout: it runs in a thread that is left behind when it takes too long."""
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=ask, name="probe-dns", daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    if not answer:
        raise DialFailed(f"The name {host} was not resolved within {TIMEOUT_SECONDS:.0f} seconds.")
    if isinstance(answer[0], OSError):
        raise DialFailed(f"The name {host} cannot be resolved: {answer[0].strerror or answer[0]}.")
    return [str(found[4][0]) for found in answer[0]]


def _judged_proxy(upstream: Upstream) -> str | None:
    """The proxy, unless it is an address that nobody may dial; one on a private network is as good as any."""
    proxy = proxy_of(upstream)
    if not proxy:
        return None
    scheme, _, rest = proxy.partition("://")
    try:
        resolve(check_url(f"{scheme}://{rest.rpartition('@')[2]}"), allow_private=True)
    except (AddressRefused, DialFailed) as error:
        raise DialFailed(f"The proxy cannot be used: {error}") from error
    return proxy


def _headers(upstream: Upstream) -> dict[str, str]:
    headers = openai_api.headers(upstream.connection)
    if upstream.keys:
        name, value = openai_api.credential(upstream.connection, upstream.keys[0].secret)
        headers[name] = value
    return headers


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            raise DialFailed(f"The answer is longer than {MOST_BYTES // (1024 * 1024)} MiB.")
    return bytes(body)


def _text(body: bytes) -> str:
    return body[:4096].decode("utf-8", "replace")
