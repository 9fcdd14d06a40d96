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
        (b"/v1/..;/admin", True),
    ],
)
def test_a_path_that_may_mean_another_is_noticed(path, climbs):
    assert hops.climbs(path) is climbs


def test_a_target_keeps_its_bytes():
    assert hops.target("/old/", b"/v1/%C3%A9", b"a=%2B") == b"/old/v1/%C3%A9?a=%2B"


@pytest.mark.parametrize("headers", [(), ((b"connection", b"close, Content-Length"),)])
def test_the_length_is_left_to_whoever_writes_the_body(headers):
    assert hops.value_of(onward((b"content-length", b"5"), *headers), b"content-length") == b""


@pytest.mark.parametrize("name", [b"x_key", b"content_length", b"x_forwarded_for", b"x_request_id"])
def test_a_name_that_cgi_takes_for_one_of_ours_stays_behind(name):
    assert hops.value_of(onward((name, b"forged"), replaced=[(b"x-key", b"ours")]), name) == b""


def test_other_names_with_underscores_are_kept():
    assert hops.value_of(onward((b"x_tenant_id", b"1")), b"x_tenant_id") == b"1"


def test_who_asked_is_said_even_when_the_client_would_have_it_left_out():
    sent = onward((b"connection", b"x-forwarded-proto, x-request-id"), (b"x-forwarded-proto", b"http"))
    assert (hops.value_of(sent, b"x-forwarded-proto"), hops.value_of(sent, b"x-request-id")) == (b"https", b"req_1")


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (b"a=1; gw=secret;b=2", [b"a=1; b=2"]),
        (b"gw=secret", []),
        (b"agw=1; b=gw", [b"agw=1; b=gw"]),
        (b"a=1;  b=2", [b"a=1;  b=2"]),
    ],
)
def test_our_own_cookies_stay_here_and_others_are_kept(sent, arrives):
    passed = onward((b"cookie", sent), own_cookies={b"gw"})
    assert [value for name, value in passed if name == b"cookie"] == arrives


def test_our_own_cookies_are_not_the_next_hop_s_to_set():
    told = [(b"Set-Cookie", b"gw=forged; Path=/"), (b"set-cookie", b"theirs=1")]
    assert hops.back(told, own_cookies={b"gw"}) == [(b"set-cookie", b"theirs=1")]


@pytest.mark.parametrize("status", [204, 304])
def test_a_reply_that_has_no_body_says_nothing_of_a_length(status):
    assert hops.back([(b"Content-Length", b"12"), (b"Etag", b"x")], status=status) == [(b"Etag", b"x")]


@pytest.mark.parametrize(
    ("location", "here"),
    [
        (b"http://legacy.test:8000/old/v1/x/?a=b", b"/v1/x/?a=b"),
        (b"https://legacy.test:8000/old/v1/x/", b"/v1/x/"),
        (b"/old/v1/x/", b"/v1/x/"),
        (b"/elsewhere", b"/elsewhere"),
        (b"http://legacy.test:8000/older/x", b"http://legacy.test:8000/older/x"),
        (b"http://legacy.test:80001/old/v1/x/", b"http://legacy.test:80001/old/v1/x/"),
        (b"http://legacy.test:8000/old//evil.test/", b"http://legacy.test:8000/old//evil.test/"),
        (b"//evil.test/old/", b"//evil.test/old/"),
        (b"http://elsewhere.test/old/x", b"http://elsewhere.test/old/x"),
        (b"next", b"next"),
    ],
)
def test_a_redirect_to_the_next_hop_itself_comes_back_here(location, here):
    local = hops.Local(b"legacy.test:8000", "/old/")
    assert hops.back([(b"Location", location)], local=local) == [(b"Location", here)]


def test_without_a_base_path_only_the_address_goes():
    local = hops.Local(b"legacy.test", "")
    assert local.to(b"http://legacy.test/v1/x/") == b"/v1/x/"
    assert local.to(b"http://legacy.test") == b"/"
    assert local.to(b"http://legacy.test//evil.test/") == b"http://legacy.test//evil.test/"
