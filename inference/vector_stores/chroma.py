"""Chroma over its REST API, version 2 (https://docs.trychroma.com, `/openapi.json` of a server)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from inference.vector_stores.naming import Collection
from inference.vector_stores.store import Heard, StoreFailed

_PAGE = 250
_SECONDS = 60.0
_ROUNDING = 1e-5
_BEGUN, _WHOLE = "gateway:copy_begun", "gateway:copy_of"
"""In the metadata of a copy until it is whole, and then: Chroma takes no metadata that are empty."""
_MEMBERS = ("embeddings", "documents", "metadatas", "uris")


class Chroma:
    def __init__(self, client: httpx.Client, label: str, path: str) -> None:
        self.label = label
        self._client = client
        self._path = path

    @classmethod
    @contextmanager
    def opened(
        cls, address: str, *, tenant: str = "default_tenant", database: str = "default_database", token: str = ""
    ) -> Iterator[Chroma]:
        parts = urlsplit(address)
        headers = {"x-chroma-token": token, "authorization": f"Bearer {token}"} if token else {}
        path = f"/api/v2/tenants/{quote(tenant, safe='')}/databases/{quote(database, safe='')}/collections"
        with httpx.Client(base_url=address.rstrip("/"), headers=headers, timeout=_SECONDS, trust_env=False) as client:
            yield cls(client, f"Chroma at {parts.hostname}:{parts.port or 80}", path)

    def collections(self) -> list[Collection]:
        return [
            Collection(told["name"], told["id"], told["dimension"] if count else None, count)
            for told in self._listed()
            for count in [self._ask("GET", f"/{told['id']}/count")]
        ]

    def resumable(self) -> list[str]:
        return [told["name"] for told in self._listed() if (told["metadata"] or {}).get(_BEGUN)]

    def rename(self, collection: Collection, target: str) -> None:
        self._ask("PUT", f"/{collection.key}", {"new_name": target})
        now = {told["name"]: told["id"] for told in self._listed()}
        if now.get(target) != collection.key or self._ask("GET", f"/{collection.key}/count") != collection.count:
            raise StoreFailed(f"{collection.name} is not whole under the name {target}: look at it before going on.")

    def copy(self, collection: Collection, target: str, heard: Heard) -> None:
        source = next(told for told in self._listed() if told["id"] == collection.key)
        begun = {**(source["metadata"] or {}), _BEGUN: collection.key}
        wanted = {"name": target, "metadata": begun, "configuration": _settings(source), "get_or_create": True}
        made = self._ask("POST", "", wanted)
        if (made["metadata"] or {}).get(_BEGUN) != collection.key:
            raise StoreFailed(f"{target} is no copy of {collection.name}, but another collection.")
        for page in self._pages(collection.key):
            self._ask("POST", f"/{made['id']}/upsert", {name: page[name] for name in ("ids", *_MEMBERS)})
            heard(len(page["ids"]))
        if not self._equal(collection.key, made["id"]):
            raise StoreFailed(
                f"The copy {target} differs from {collection.name}: was it written to meanwhile? Repeat it."
            )
        self._ask("PUT", f"/{made['id']}", {"new_metadata": {**(source["metadata"] or {}), _WHOLE: collection.name}})

    def split(self, collection: Collection, target: str) -> None:
        raise StoreFailed(f"{collection.name}: a collection of Chroma has one dimension.")

    def _equal(self, key: str, other: str) -> bool:
        if self._ask("GET", f"/{key}/count") != self._ask("GET", f"/{other}/count"):
            return False
        for page in self._pages(key):
            copied = self._ask("POST", f"/{other}/get", {"ids": page["ids"], "include": list(_MEMBERS)})
            records = {record[0]: record for record in _records(copied)}
            if not all(_same(record, records.get(record[0])) for record in _records(page)):
                return False
        return True

    def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self._ask("GET", f"?limit={_PAGE}&offset={len(found)}"):
            found += page
        return found

    def _pages(self, key: str) -> Iterator[dict[str, Any]]:
        seen = 0
        while True:
            asked = {"include": list(_MEMBERS), "limit": _PAGE, "offset": seen}
            page = self._ask("POST", f"/{key}/get", asked)
            if not page["ids"]:
                return
            seen += len(page["ids"])
            yield page

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else orjson.dumps(body)
        try:
            reply = self._client.request(
                method, self._path + path, content=content, headers={"content-type": "application/json"}
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreFailed(f"{self.label} does not answer: {type(error).__name__}.") from None
        if reply.status_code in (401, 403):
            raise StoreFailed(f"{self.label} refuses: say --token env:NAME with the variable that holds its token.")
        if not reply.is_success:
            said = reply.text[:200].replace("\n", " ")
            raise StoreFailed(f"{self.label} answers {reply.status_code} to {method} {path or '/'}: {said}")
        try:
            return orjson.loads(reply.content) if reply.content else None
        except orjson.JSONDecodeError:
            raise StoreFailed(f"{self.label} is no Chroma server of version 2: what it answers is no JSON.") from None


def _settings(source: dict[str, Any]) -> dict[str, Any]:
    """Of the index: the measure of distance and its parameters, without what is not set."""
    return {name: value for name, value in (source.get("configuration_json") or {}).items() if value is not None}


def _records(page: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    return zip(page["ids"], *(page[name] for name in _MEMBERS), strict=True)


def _same(record: tuple[Any, ...], other: tuple[Any, ...] | None) -> bool:
    """Vectors within what rounding makes of them: where the measure is the cosine, Chroma divides by their length and multiplies again."""
    if other is None or (record[0], *record[2:]) != (other[0], *other[2:]):
        return False
    vector, copied = record[1], other[1]
    length = math.hypot(*vector)
    return len(vector) == len(copied) and math.dist(vector, copied) <= _ROUNDING * max(length, 1e-30)
