"""Everything is created with marked secrets over REST; then every place that text can come to rest is searched."""

import hashlib
import logging
import subprocess
from pathlib import Path

import pytest
from django.db import connection

from routing import issuing, key_imports
from tests.callers import with_key

CANARY = "CANARY7f3a9c"


def marked(name):
    return f"{CANARY}-{name}-0123456789"


BODY = {
    "provider_id": "marked",
    "provider_type": "openai_compatible",
    "connection_params": {
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": marked("inline"),
        "proxy": f"http://user:{marked('proxy')}@127.0.0.1:9",
        "headers": {"Authorization": f"Bearer {marked('header')}", "X-Title": "open"},
    },
    "models": [{"model_id": "m"}],
    "connection_parameters": [
        {"param_name": "client_secret", "param_value": marked("param"), "is_sensitive": False},
        {"param_name": "second_proxy", "param_value": f"http://user:{marked('proxy-row')}@127.0.0.1:9"},
        {"param_name": "handle", "param_value": marked("sensitive"), "is_sensitive": True},
    ],
    "api_key": {"key_value": marked("key"), "is_encrypted": False},
}
BAD_BODIES = [
    BODY | {"provider_id": "other", "models": [{"model_id": ""}]},
    BODY | {"provider_id": "other", "provider_type": "nothing"},
    BODY | {"provider_id": "other", "connection_params": f"api_key={marked('text')}"},
    BODY | {"provider_id": "other", "api_key": {"key_value": [marked("list")]}},
    BODY | {"provider_id": "other", "api_keys": [{"key_value": marked("dated"), "expires_at": "never"}]},
    BODY,
]


@pytest.mark.django_db(transaction=True)
def test_no_marked_secret_is_found_anywhere(caplog):
    row, secret = issuing.issue("scan", ["admin"])
    api = with_key(secret.reveal())
    seen = []

    def call(method, path, body=None):
        response = getattr(api, method)(path, body) if body is not None else getattr(api, method)(path)
        seen.append((method, path, response.content.decode(), str(response.headers)))
        return response

    with caplog.at_level(logging.DEBUG):
        assert call("post", "/providers", BODY).status_code == 201
        for body in BAD_BODIES:
            assert call("post", "/providers", body).status_code in {400, 409}
        key = call("post", "/providers/marked/api-keys", {"key_value": marked("second")}).json()
        call(
            "put",
            "/providers/marked",
            {"connection_params": {"token": marked("new"), "base_url": "http://127.0.0.1:9/v1"}},
        )
        parameter = {"param_name": "token", "param_value": marked("upsert")}
        call("post", "/providers/marked/connection-params", parameter)
        call("post", "/api/v1/api-keys", {"provider_id": "marked", "secret": marked("native")})
        call("patch", f"/api/v1/api-keys/{key['key_id']}", {"secret": marked("rotated")})
        call("post", "/providers/marked/test?generate=false")
        call("post", "/providers/marked/sync")
        revealed = api.get(f"/providers/marked/api-keys/{key['key_id']}/value").json()["key_value"]
        assert revealed == marked("rotated"), "the scan would find nothing if nothing had been stored"
        api.get("/providers/marked/connection-params?include_sensitive=true")
        for path in (
            "/providers",
            "/providers/marked",
            "/api/providers",
            "/providers/marked/api-keys",
            "/providers/marked/connection-params",
            "/api/v1/providers",
            "/api/v1/api-keys",
            "/api/v1/connection-parameters",
            "/api/v1/audit?limit=500",
            "/api/v1/probes",
            "/api/v1/health",
            "/readyz",
            "/metrics",
        ):
            assert call("get", path).status_code == 200
        own = [secret.reveal().removeprefix(row.prefix), *keys_that_were_used(api, call)]
        call("delete", "/providers/marked")
        call("get", "/api/v1/audit?limit=500")

    for method, path, *texts in seen:
        for text in texts:
            assert CANARY not in text, (method, path)
            assert not any(each in text for each in own), (method, path)
    for record in caplog.records:
        line = f"{record.getMessage()} {record.args} {record.exc_text}"
        assert CANARY not in line
        assert not any(each in line for each in own)
    places = dict(stored())
    assert BODY["connection_params"]["base_url"] in "".join(places.values()), "the scan does not see what is stored"
    for place, text in places.items():
        assert CANARY not in text, place
        assert not any(each in text for each in own), place


def keys_that_were_used(api, call):
    """What of them nobody may find: of a key that was made, rotated, refused and revoked, and of one that another system issued."""
    made = api.post("/api/v1/client-keys", {"name": "marked", "scopes": ["generate"]}).json()
    path = f"/api/v1/client-keys/{made['id']}"
    rotated = api.post(f"{path}/rotate", {"overlap_seconds": 60}).json()["key"]
    key_imports.write("other", key_imports.plan("other", [{"key": marked("imported"), "name": "imported"}]))
    for key in (made["key"], rotated, marked("imported")):
        client = with_key(key)
        for _ in range(2):
            response = client.get("/api/models")
            assert CANARY not in response.content.decode()
        client.post(f"/api/v1/client-keys/{made['id']}/rotate", {"overlap_seconds": "all"})
    call("patch", path, {"name": "still marked", "ip_ranges": ["nowhere"]})
    call("post", f"{path}/revoke", {"reason": "it was found"})
    call("get", "/api/v1/client-keys")
    imported = hashlib.sha256(marked("imported").encode()).hexdigest()
    return [key.removeprefix(made["prefix"]) for key in (made["key"], rotated)] + [imported]


def stored():
    """Every cell of the database, and its file where it is one, write-ahead log included."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            yield table, repr(cursor.fetchall())
    if connection.vendor == "sqlite":
        name = Path(connection.settings_dict["NAME"])
        for path in name.parent.glob(f"{name.name}*"):
            # By a process of its own: closing the file here would drop the locks that our connection holds on it.
            yield str(path), subprocess.run(["cat", path], capture_output=True, check=True).stdout.decode("latin-1")
