"""A source whose rows stand in the test: the engine knows drafts only, and so do its tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from providers.importers import runs
from providers.importers.drafts import Bundle, Draft, Kind, Ledger, Origin
from providers.importers.findings import Finding, Outcome
from providers.importers.options import Options
from providers.importers.runs import Result
from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from providers.secrets import Secret

LONG_AGO = datetime(2023, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
LATER = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
TABLES = {Kind.PROVIDER: "providers", Kind.MODEL: "models", Kind.KEY: "keys", Kind.PARAMETER: "parameters"}


def provider(name: str = "p", *, secrets: dict[str, str] | None = None, **facts: Any) -> Draft:
    whole = {"provider_type": "openai_compatible", "display_name": name.upper(), "enabled": True, **facts}
    return _draft(Kind.PROVIDER, name, name, whole, secrets=secrets)


def model(name: str, of: str = "p", *, key: str = "", **facts: Any) -> Draft:
    return _draft(Kind.MODEL, of, key or f"{of}:{name}", {"display_name": name, **facts}, name=name)


def key(number: int, secret: str, of: str = "p", environment: str = "production", **facts: Any) -> Draft:
    return _draft(Kind.KEY, of, str(number), facts, environment=environment, secrets={"secret": secret})


def parameter(
    number: int, name: str, value: str, of: str = "p", environment: str = "production", *, sensitive: bool = False
) -> Draft:
    facts = {} if sensitive else {"plain_value": value}
    secrets = {"value": value} if sensitive else {}
    return _draft(Kind.PARAMETER, of, str(number), facts, name=name, environment=environment, secrets=secrets)


def _draft(
    kind: Kind,
    provider_id: str,
    row_key: str,
    facts: dict[str, Any],
    *,
    name: str = "",
    environment: str = "",
    secrets: dict[str, str] | None = None,
) -> Draft:
    said = repr((name, environment, sorted(facts.items(), key=str), sorted((secrets or {}).items())))
    return Draft(
        kind,
        Origin(TABLES[kind], row_key, hashlib.sha256(said.encode()).hexdigest()[:32]),
        provider_id,
        {"created_at": LONG_AGO, **facts},
        name=name,
        environment=environment,
        secrets={path: Secret(value) for path, value in (secrets or {}).items()},
        updated_at=LATER,
    )


@dataclass
class Scripted:
    """Drafts in bundles by provider. `rejected` are rows that the source itself rejects; `unread` it forgets to count."""

    drafts: list[Draft]
    rejected: list[Finding] = field(default_factory=list)
    unread: int = 0
    identity: str = "scripted"
    label: str = "scripted://here"
    batch_size: int = 2
    before_models: Callable[[str], None] = lambda provider_id: None
    is_closed: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        return {"engine": "script"}

    @property
    def rows(self) -> dict[str, int]:
        return {"all": len(self.drafts) + len(self.rejected)}

    def bundles(self, ledger: Ledger) -> Iterator[Bundle]:
        for finding in self.rejected:
            ledger.read(finding.table)
            ledger.count(finding.table, Outcome.REJECTED)
            ledger.find(finding)
        names = dict.fromkeys(draft.provider_id for draft in self.drafts)
        for name in names:
            parts = [draft for draft in self.drafts if draft.provider_id == name]
            yield Bundle(
                name,
                next(iter(self._read(ledger, parts, Kind.PROVIDER)), None),
                self._read(ledger, parts, Kind.KEY),
                self._read(ledger, parts, Kind.PARAMETER),
                self._models(ledger, name, self._read(ledger, parts, Kind.MODEL)),
            )

    def _models(self, ledger: Ledger, name: str, drafts: list[Draft]) -> Iterator[list[Draft]]:
        self.before_models(name)
        for start in range(0, len(drafts), self.batch_size):
            yield drafts[start : start + self.batch_size]

    def _read(self, ledger: Ledger, parts: list[Draft], kind: Kind) -> list[Draft]:
        wanted = [draft for draft in parts if draft.kind is kind]
        for draft in wanted:
            for origin in (draft.origin, *draft.merged):
                ledger.read(origin.table, 1 + self.unread)
        return wanted

    def close(self) -> None:
        self.is_closed = True


def do(kind: str, source: Scripted, **options: Any) -> Result:
    run = runs.start(kind, source.label, actor="user:ada", options=_shown(options))
    return runs.execute(run, lambda: source, **options)


def _shown(options: dict[str, Any]) -> Options:
    return Options(Secret("scripted://"), only=options.pop("only", ()))


def apply(*drafts: Draft, **options: Any) -> Result:
    return do(ImportRun.Kind.APPLY, Scripted(list(drafts)), **options)


def dry_run(*drafts: Draft, **options: Any) -> Result:
    return runs.preview(lambda: Scripted(list(drafts)), **options)


def delta(*drafts: Draft) -> Result:
    return do(ImportRun.Kind.DELTA, Scripted(list(drafts)))


def check(*drafts: Draft, **more: Any) -> Result:
    return do(ImportRun.Kind.VERIFY, Scripted(list(drafts), **more))


def undo(run_pk: int | None, **options: Any) -> Result:
    undoes = ImportRun.objects.get(pk=run_pk)
    return runs.undo(runs.start(ImportRun.Kind.UNDO, "", actor="user:ada", undoes=undoes), **options)


def dump() -> list[dict[str, Any]]:
    """Every column of every registry row, ciphertexts as they lie in the database."""
    rows: list[dict[str, Any]] = []
    for table in (Provider, ProviderModel, ApiKey, ConnectionParameter):
        for row in table._base_manager.order_by("pk"):
            rows.append({name: getattr(value, "ciphertext", value) for name, value in row.__dict__.items()})
            del rows[-1]["_state"]
    return rows


WHOLE = (
    provider(
        connection_params={"base_url": "https://u.example"}, secrets={'["headers", "Authorization"]': "Bearer hidden"}
    ),
    key(1, "sk-one-of-many-keys", weight=2),
    key(2, "sk-two-of-many-keys", environment="staging"),
    parameter(1, "region", "eu"),
    parameter(2, "client_secret", "cs-very-hidden", sensitive=True),
    model("gpt/4", max_tokens=4096, capabilities=["chat"], parameters={"temperature": 0.5, "top": 1e20}),
    model("模型", input_cost_per_million="0.15"),
    model("third", created_by="user:42"),
)
"""A provider with everything."""
