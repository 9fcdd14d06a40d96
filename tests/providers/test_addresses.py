import pytest

from providers.addresses import AddressRefused, ParsedURL, check_address, check_url

METADATA_IN_DISGUISE = [
    "http://169.254.169.254/",
    "http://169.254.169.254./",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:5601:5601::5601:5601]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/",
    "http://169。254。169。254/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://metadata/",
]

PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://10.0.0.8/",
    "http://172.16.3.4/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://[::1]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[2002:0a00:0001::]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://localhost:8080/",
    "http://LOCALHOST./",
    "http://vllm.internal/",
]


@pytest.mark.parametrize("url", METADATA_IN_DISGUISE)
def test_link_local_and_metadata_are_refused_in_every_spelling(url):
    with pytest.raises(AddressRefused):
        check_url(url, allow_private=True)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_allowed_unless_the_provider_may_not(url):
    check_url(url)
    with pytest.raises(AddressRefused):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://0.0.0.0/",
        "http://0/",
        "http://0.1.2.3/",
        "http://[::]/",
        "http://224.0.0.1/",
        "http://[ff02::1]/",
        "http://255.255.255.255/",
        "http://240.0.0.1/",
        "http://[::ffff:0.0.0.0]/",
    ],
)
def test_addresses_where_nothing_is_served_are_refused(url):
    with pytest.raises(AddressRefused):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "unix:///run/x.sock",
        "example.com/v1",
        "//example.com/",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com@169.254.169.254/",
        "http://@example.com/",
        "http:///v1",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://exa mple.com/",
        "http://example.com\\@evil.test/",
        "http://example.com/\r\nhost: evil",
        "http://1.2.3.4.5/",
        "http://1.2.3.256/",
        "http://[::1%25eth0]/",
        "http://[::1/",
        "http://-x.example/",
        "http://a..b/",
        "http://exam%70le.com/",
        "http://example.com/v1#fragment",
        "",
    ],
)
def test_malformed_and_foreign_urls_are_refused(url):
    with pytest.raises(AddressRefused):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("https://api.openai.com/v1", ParsedURL("https", "api.openai.com", 443, "/v1")),
        ("https://API.OpenAI.com./v1/", ParsedURL("https", "api.openai.com", 443, "/v1/")),
        ("http://127.1:11434/v1", ParsedURL("http", "127.0.0.1", 11434, "/v1")),
        ("http://[2606:4700::1111]:8000", ParsedURL("http", "2606:4700::1111", 8000, "")),
        ("https://bücher.example/v1", ParsedURL("https", "xn--bcher-kva.example", 443, "/v1")),
        ("https://r.example/x?api-version=1", ParsedURL("https", "r.example", 443, "/x", "api-version=1")),
        ("http://my_box:8000/v1", ParsedURL("http", "my_box", 8000, "/v1")),
    ],
)
def test_an_allowed_url_has_one_spelling(url, parsed):
    assert check_url(url) == parsed


def test_the_authority_names_the_port_only_when_it_must():
    assert check_url("https://api.example/v1").authority == "api.example"
    assert check_url("http://api.example:443/v1").authority == "api.example:443"
    assert check_url("http://[::1]:8000/").authority == "[::1]:8000"


@pytest.mark.parametrize(
    "ip", ["169.254.169.254", "fe80::1%eth0", "::ffff:169.254.1.1", "0.0.0.0", "not an address", ""]
)
def test_a_resolved_address_is_judged_again(ip):
    with pytest.raises(AddressRefused):
        check_address(ip)


def test_a_public_address_is_always_allowed():
    for ip in ("1.1.1.1", "2606:4700:4700::1111", "64:ff9b::1.1.1.1"):
        check_address(ip, allow_private=False)


def test_the_reason_does_not_repeat_the_address():
    with pytest.raises(AddressRefused) as refused:
        check_url("http://169.254.169.254/latest")
    assert "169" not in str(refused.value)
