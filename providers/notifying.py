"""One POST to an address that a person entered, under the same guard as upstreams: the address that was judged is the one dialled.

No redirects, no proxies from the environment, bounded time, and of the answer only its status.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from providers import tls
from providers.addresses import ParsedURL
from providers.dialling import DialFailed, resolve

TIMEOUT_SECONDS = 10.0


def post(url: ParsedURL, body: bytes, headers: Mapping[str, str], *, allow_private: bool) -> int:
    """The status of the answer. Raises `DialFailed`, whose text holds no part of the URL but its host."""
    address = resolve(url, allow_private=allow_private)[0]
    host = f"[{address}]" if ":" in address else address
    target = f"{url.scheme}://{host}:{url.port}{url.path or '/'}" + (f"?{url.query}" if url.query else "")
    verify = tls.context(verify=True, ca_file=None, client_certificate=None) if url.scheme == "https" else False
    try:
        with (
            httpx.Client(verify=verify, trust_env=False, follow_redirects=False, timeout=TIMEOUT_SECONDS) as client,
            client.stream(
                "POST",
                target,
                headers={**headers, "Host": url.authority},
                content=body,
                extensions={"sni_hostname": url.host},
            ) as response,
        ):
            return response.status_code
    except httpx.TimeoutException as error:
        raise DialFailed(f"No answer from {url.host} within {TIMEOUT_SECONDS:.0f} seconds.") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DialFailed(f"{url.host} cannot be reached: {type(error).__name__}.") from error
