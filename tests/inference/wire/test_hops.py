"""Headers and paths, one hop further on."""

from __future__ import annotations

import pytest

from inference.wire import hops


def onward(*headers, **more):
    return hops.onward(headers, **({"client": "198.51.100.7", "scheme": "https", "request_id": "req_1"} | more))


def test_a_header_that_the_connection_names_stays_behind():
    assert hops.value_of(onward((b"connection", b"close, X-Private"), (b"x-private", b"1")), b"x-private") == b""
    assert hops.back([(b"Connection", b"X-Private"), (b"X-Private", b"1"), (b"X-Kept", b"2")]) == [(b"X-Kept", b"2")]


def test_what_a_proxy_before_us_said_is_kept():
    sent = onward((b"x-forwarded-proto", b"http"), (b"x-forwarded-for", b"a"), (b"x-forwarded-for", b"b"))
    assert [value for name, value in sent if name.startswith(b"x-forwarded")] == [b"http", b"a, b, 198.51.100.7"]


def test_without_an_address_nobody_is_named():
    assert hops.value_of(onward(client=None), b"x-forwarded-for") == b""


def test_a_replaced_header_is_there_once():
    sent = onward((b"x-key", b"old"), (b"x-key", b"older"), replaced=[(b"x-key", b"new")])
    assert [value for name, value in sent if name == b"x-key"] == [b"new"]


@pytest.mark.parametrize(
    ("path", "climbs"),
    [
        (b"/v1/models/a.b", False),
        (b"/v1/models/...", False),
        (b"/v1/models/..x", False),
        (b"/v1/.", True),
        (b"/v1/%2E%2e/x", True),
        (b"/v1/..%5cx", True),
        (b"/v1/./x", True),
    ],
)
def test_a_path_that_may_mean_another_is_noticed(path, climbs):
    assert hops.climbs(path) is climbs


def test_a_target_keeps_its_bytes():
    assert hops.target("/old/", b"/v1/%C3%A9", b"a=%2B") == b"/old/v1/%C3%A9?a=%2B"
