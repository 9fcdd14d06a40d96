import pytest

from routing.client_addresses import BadNetwork, address_of, networks, of_scope, within

PROXIES = networks(["10.0.0.0/8", "2001:db8::/64"])


@pytest.mark.parametrize(
    ("address", "ranges", "inside"),
    [
        ("192.0.2.7", ["192.0.2.7"], True),
        ("192.0.2.8", ["192.0.2.7"], False),
        ("192.0.2.8", ["198.51.100.0/24", "192.0.2.0/24"], True),
        ("::ffff:192.0.2.8", ["192.0.2.0/24"], True),
        ("192.0.2.8", ["::ffff:192.0.2.0/120"], True),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("192.0.2.8", ["2001:db8::/32", "::/0"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("unknown", ["0.0.0.0/0"], False),
        ("192.0.2.8", [], False),
    ],
)
def test_an_address_is_in_a_range_or_not(address, ranges, inside):
    assert within(address, networks(ranges)) is inside


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0", "example.org", "10.0.0.0/33", None, 7])
def test_what_names_no_addresses_is_refused(text):
    with pytest.raises(BadNetwork):
        networks([text])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # no proxy of ours: what it says is nothing
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first was the client's own word
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db9::9]:4711", "2001:db9::9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "unknown", ""),
        ("10.0.0.1", "203.0.113.9, ", ""),
    ],
)
def test_behind_trusted_proxies_the_client_is_the_nearest_that_is_none(peer, forwarded_for, client):
    assert address_of(peer, forwarded_for, PROXIES) == client


def test_without_trusted_proxies_the_peer_is_the_client():
    assert of_scope({"client": ("10.0.0.1", 4711)}, b"203.0.113.9", ()) == "10.0.0.1"
    assert of_scope({"client": None}, b"203.0.113.9", PROXIES) == ""
