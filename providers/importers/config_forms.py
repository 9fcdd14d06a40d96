"""Which form a configuration file has, and what it says in any of them.

Forms: our own export (`version: 1`), a provider as the source systems' scripts write it (with or without its type, address
and key flat beside the id or nested), a list or mapping of such, and the legacy gateway's YAML with `providers` or
`additional_config.providers`; other systems' forms come as `foreign_forms` tells them. Pure: what is stored already comes as an
argument. Everything that is wrong is collected, each with its place, and raised at once, or, where that is asked for, left out
entry by entry; everything that is odd is a finding.
"""

from __future__ import annotations

import copy
import difflib
import functools
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from providers import connection, engine_options, provider_types
from providers.importers import config_values, findings
from providers.importers.config_values import LeftOut, Reader, Unusable
from providers.importers.documents import place
from providers.importers.drafts import SourceError
from providers.importers.findings import Code, Finding
from providers.importers.foreign_forms import Foreign
from providers.importers.legacy_connection import RENAMED_TYPES, adapted
from providers.importers.legacy_keys import looks_encrypted
from providers.importers.object_secrets import reads_like_secret, take_out
from providers.placeholders import looks_like_placeholder
from providers.presets import PRESETS

VERSION = 1
PROVIDERS, MODELS, KEYS, PARAMETERS, SETTINGS = (
    "providers",
    "models",
    "api_keys",
    "connection_parameters",
    "settings",
)
"""What a run counts by, in place of the tables of a database."""

_PARTS = {"models", "api_key", "api_keys", "connection_parameters", "secret_params"}
_OF_A_PROVIDER = {"provider_id", *config_values.PROVIDER, *_PARTS}
_OF_A_MODEL = {"model_id", *config_values.MODEL}
_OF_A_KEY = {"secret", *config_values.KEY}
_OF_A_PARAMETER = {"param_name", "param_value", *config_values.PARAMETER}
_NO_CONFIGURATION = {"created_at", "updated_at", "created_by", "created_by_user_id"}
_OF_NO_PART = {*_NO_CONFIGURATION, "id", "key_id", "param_id", "provider_id"}
"""What a part's owner says of it elsewhere in the file, and what no file decides."""
_ALONE = {"alerts"}
"""The section that other systems keep in a file of its own, which names no version."""
_LOOKS_LIKE_PROVIDER = {"provider_type", "models", "api_key", "api_base", "base_url", "connection_params"}

_CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn"}
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_UNEXPANDED = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Problem:
    place: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}" if self.place else self.sentence


class BadConfiguration(SourceError):
    """The file cannot be applied as it stands. `problems` are all that were found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class KeyEntry:
    place: str
    secret: str = field(repr=False)
    environment: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    place: str
    name: str
    environment: str
    value: str = field(repr=False)
    is_sensitive: bool


@dataclass(frozen=True, slots=True)
class ModelEntry:
    place: str
    model_id: str
    facts: Mapping[str, Any]


@dataclass(slots=True)
class ProviderEntry:
    """`facts` are those the file names; `names_connection` says whether connection_params, secrets included, are among them.

    `lists` are the kinds of parts that the file names, so what else is stored of them can be told apart.
    """

    place: str
    provider_id: str
    facts: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    keys: list[KeyEntry] = field(default_factory=list)
    parameters: list[ParameterEntry] = field(default_factory=list)
    models: list[ModelEntry] = field(default_factory=list)
    lists: set[str] = field(default_factory=set)

    @property
    def names_connection(self) -> bool:
        return "connection_params" in self.facts


@dataclass(slots=True)
class Configuration:
    form: str
    """`export` for our own, `legacy`, or that of another system."""
    providers: list[ProviderEntry]
    findings: list[Finding]
    rejected: dict[str, int]
    """Rows by table that the file has and that make nothing here."""
    sections: dict[str, Any] = field(default_factory=dict)
    """What the file says beside its providers, by the section's name, as it stands there."""
    lenient: bool = False
    """Whether an entry with a mistake is left out and named, instead of refusing the whole file."""
    left_out: set[str] = field(default_factory=set)
    """Ids of providers that were."""
    names_providers: bool = True
    """Whether the file has a member for providers at all."""


def read(
    document: Any,
    *,
    stored_types: Mapping[str, str],
    environment: str,
    sections: Collection[str] = (),
    lenient: bool = False,
    why_not: WhyNot = lambda provider_id, name, text: "",
) -> Configuration:
    """What the document says. `stored_types` are the types of the providers that the registry has, by id; `environment` is
    that of keys which name none; `sections` are the members that our own form may have beside its providers; `why_not` refuses
    references. Raises `BadConfiguration` with every problem; if `lenient`, only with those that are nobody's own."""
    reading = _Reading(stored_types, environment, why_not, lenient=lenient)
    form, found = reading.recognise(document, sections)
    return reading.configuration(form, found)


def read_foreign(
    told: Foreign,
    *,
    stored_types: Mapping[str, str],
    environment: str,
    why_not: WhyNot = lambda provider_id, name, text: "",
) -> Configuration:
    """What another system's configuration says; whatever is wrong in it leaves out its own entry."""
    reading = _Reading(stored_types, environment, why_not, lenient=True)
    reading.findings += told.findings
    reading.rejected |= told.rejected
    reading.sections = dict(told.sections)
    return reading.configuration(told.form, [(where, None, raw, None) for where, raw in told.providers])


WhyNot = Callable[[str, str | None, Any], str]
"""Of a provider's id, a connection parameter's name (None for a secret) and its value: why it may not refer to what it does."""
Found = list[tuple[str, str | None, Any, bool | None]]
"""Place, id of the mapping it stands in, what it says, and what a list of enabled providers says."""


class _Reading:
    def __init__(self, stored_types: Mapping[str, str], environment: str, why_not: WhyNot, *, lenient: bool) -> None:
        self._stored_types, self._environment, self._lenient = stored_types, environment, lenient
        self._why_not = why_not
        self.sections: dict[str, Any] = {}
        self.names_providers = True
        self._left_out: set[str] = set()
        self.problems: list[Problem] = []
        self.findings: list[Finding] = []
        self.entries: list[ProviderEntry] = []
        self.rejected: dict[str, int] = {}

    def configuration(self, form: str, found: Found) -> Configuration:
        for where, provider_id, raw, enabled in found:
            before = len(self.problems)
            self.provider(where, provider_id, raw, own=form == "export", enabled_by_list=enabled)
            for entry in (entry for entry in self.entries if entry.place == where):
                self._check_references(entry)
            self._leave_out_provider(where, before)
        before = len(self.problems)
        self.check_once(((entry.provider_id, entry.place) for entry in self.entries), "provider")
        for problem in self.problems[before:]:
            self._leave_out_provider(problem.place, before)
        if self.problems:
            raise BadConfiguration(self.problems)
        return Configuration(
            form=form,
            providers=self.entries,
            findings=self.findings,
            rejected=self.rejected,
            sections=self.sections,
            lenient=self._lenient,
            left_out=self._left_out,
            names_providers=self.names_providers,
        )

    def _leave_out_provider(self, where: str, before: int) -> None:
        if self._leave_out(PROVIDERS, where, before):
            self._left_out |= {entry.provider_id for entry in self.entries if entry.place == where}
            self.entries = [entry for entry in self.entries if entry.place != where]

    def _leave_out(self, table: str, where: str, before: int) -> bool:
        """If asked for, what was wrong since then becomes findings, and the entry is to be left out."""
        wrong = self.problems[before:]
        if not self._lenient or not wrong:
            return False
        del self.problems[before:]
        for problem in wrong:
            self.find(table, problem.place or where, "", findings.ENTRY_REFUSED, "rejected", problem.sentence)
        self._reject(table)
        return True

    # --- The form -----------------------------------------------------------------------------------------------------------

    def recognise(self, document: Any, sections: Collection[str] = ()) -> tuple[str, Found]:
        if isinstance(document, list):
            return "legacy", [(f"[{index}]", None, raw, None) for index, raw in enumerate(document)]
        if not isinstance(document, dict):
            raise BadConfiguration([Problem("", "A configuration is an object, or a list of providers.")])
        if document.keys() == _ALONE and _ALONE.issubset(sections):
            document = {"version": VERSION, **document}
        if "version" in document:
            return "export", self._own(document, sections)
        if document.keys() & {"provider_id", "provider_type"} or {"id", "models"} <= document.keys():
            return "legacy", [("", None, document, None)]
        where, gateway = self._gateway(document)
        if gateway is not None:
            return "legacy", self._of_gateway(where, gateway)
        if document and all(isinstance(raw, dict) and raw.keys() & _LOOKS_LIKE_PROVIDER for raw in document.values()):
            return "legacy", [(place("", name), name, raw, None) for name, raw in document.items()]
        raise BadConfiguration(
            [
                Problem(
                    "", f"No providers are in it: `version: {VERSION}` with `providers`, or a provider's `provider_id`."
                )
            ]
        )

    def _own(self, document: dict[str, Any], sections: Collection[str]) -> Found:
        if document["version"] != VERSION or isinstance(document["version"], bool):
            raise BadConfiguration([Problem("version", f"This gateway reads version {VERSION}.")])
        for name in document.keys() - {"version", "providers", *sections}:
            self.problem(name, _unknown(name, {"providers", *sections}))
        self.sections = {name: document[name] for name in sections if name in document}
        self.names_providers = "providers" in document
        if not self.names_providers and not self.sections:
            self.problem("providers", "this is missing: a mapping of ids to providers.")
        return list(self._listed("providers", document.get("providers"), None))

    @staticmethod
    def _gateway(document: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
        for where, inner in [("", document), *document.items()]:
            if not isinstance(inner, dict) or (where and len(document) > 1):
                continue
            extra = inner.get("additional_config")
            if "providers" in inner or (isinstance(extra, dict) and "providers" in extra):
                return where, inner
        return "", None

    def _of_gateway(self, where: str, gateway: dict[str, Any]) -> Found:
        extra = gateway.get("additional_config")
        extra = extra if isinstance(extra, dict) else {}
        enabled = self._enabled_ids(place(where, "allowed_providers"), gateway.get("allowed_providers"))
        found = [
            *self._listed(place(where, "providers"), gateway.get("providers"), enabled),
            *self._listed(place(place(where, "additional_config"), "providers"), extra.get("providers"), enabled),
        ]
        found = self._said_twice(found)
        for at, names in ((where, gateway), (place(where, "additional_config"), extra)):
            for name in names:
                if name not in {"providers", "additional_config", "allowed_providers"}:
                    self._no_place(place(at, name))
        ids = {
            provider_id or (raw.get("provider_id") if isinstance(raw, dict) else None)
            for _, provider_id, raw, _ in found
        }
        for name in sorted((enabled or set()) - ids - {None}):
            detail = f"allowed_providers names {name!r}, which the file does not describe."
            self.find(SETTINGS, place(where, "allowed_providers"), "", findings.ORPHAN, "rejected", detail)
        return found

    def _said_twice(self, found: Found) -> Found:
        """A provider in both places of a gateway's file is one, if both say the same."""
        kept: dict[str, Any] = {}
        once: Found = []
        for one in found:
            where, name, raw, _ = one
            if name is not None and name in kept and kept[name] == raw:
                self.find(PROVIDERS, where, "", findings.DUPLICATE, "merged", "The provider stands in both places.")
                continue
            if name is not None:
                kept[name] = raw
            once.append(one)
        return once

    def _listed(
        self, where: str, raw: Any, enabled: set[str] | None
    ) -> Iterator[tuple[str, str | None, Any, bool | None]]:
        if isinstance(raw, dict):
            for name, one in raw.items():
                one = {} if one is None else one
                yield place(where, name), name, one, None if enabled is None else name in enabled
        elif isinstance(raw, list):
            for index, one in enumerate(raw):
                name = (one.get("provider_id") or one.get("id")) if isinstance(one, dict) else None
                yield place(where, index), None, one, None if enabled is None else name in enabled
        elif raw is not None:
            self.problem(where, "a mapping of ids to providers, or a list of providers, is needed.")

    def _enabled_ids(self, where: str, raw: Any) -> set[str] | None:
        if raw is None:
            return None
        if isinstance(raw, list) and all(isinstance(name, str) for name in raw):
            return set(raw)
        self.problem(where, "a list of provider ids is needed.")
        return None

    def _no_place(self, where: str) -> None:
        detail = "A setting of the whole gateway; nothing here reads it from this file."
        self.find(SETTINGS, where, "", findings.NO_PLACE, "rejected", detail)
        self._reject(SETTINGS)

    # --- A provider ---------------------------------------------------------------------------------------------------------

    def provider(self, where: str, named: str | None, raw: Any, *, own: bool, enabled_by_list: bool | None) -> None:
        if not isinstance(raw, dict):
            self.problem(where, "a provider is an object of names and values.")
            return
        raw = dict(raw)
        if not own:
            _use(raw, "id", "provider_id")
        provider_id = self._id(where, "provider_id", raw.pop("provider_id", named), 255)
        if provider_id is None:
            return
        if named is not None and provider_id != named:
            self.problem(place(where, "provider_id"), f"it says {provider_id!r} and stands under {named!r}.")
            return
        entry = ProviderEntry(where, provider_id)
        self.entries.append(entry)
        if not own:
            self._gather_flat(entry, raw)
        self._fields(PROVIDERS, where, raw, config_values.PROVIDER, entry.facts)
        self._type(entry, own=own)
        if enabled_by_list is not None:
            self._enable(entry, enabled_by_list)
        if entry.facts.get("display_name") == "":
            entry.facts["display_name"] = provider_id
        self._connection(entry, raw.get("secret_params"), own=own)
        if "request_settings" in entry.facts:
            settings = entry.facts["request_settings"]
            entry.facts["request_settings"] = self._nothing_secret(
                entry, place(where, "request_settings"), settings, own=own
            )
        self._parts(entry, raw, own=own)
        if own:
            for name in raw.keys() - _OF_A_PROVIDER:
                self.problem(place(where, name), _unknown(name, _OF_A_PROVIDER))

    def _id(self, where: str, name: str, value: Any, longest: int) -> str | None:
        at = place(where, name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            self.problem(at, "an id is needed.")
        elif value != value.strip() or _CONTROL & set(map(unicodedata.category, value)) or len(value) > longest:
            self.problem(
                at, f"an id has no blanks at its ends, no control characters, and {longest} characters at most."
            )
        else:
            return value
        return None

    def _gather_flat(self, entry: ProviderEntry, raw: dict[str, Any]) -> None:
        """Parameters beside `provider_type` are put where the nested form has them; names without a meaning are named."""
        for name in raw.keys() & _NO_CONFIGURATION:
            raw.pop(name)
        others = {name: raw.pop(name) for name in list(raw) if name not in _OF_A_PROVIDER}
        if "connection_params" in raw:
            for name in others:
                self.find(
                    PROVIDERS, entry.place, name, findings.UNKNOWN_NAME, "rejected", _unknown(name, _OF_A_PROVIDER)
                )
            return
        declared = set().union(*(_declared(kind) for kind in (raw.get("provider_type"), "openai_compatible")))
        for name in others.keys() - declared:
            if near := _nearest(name, _OF_A_PROVIDER):
                detail = f"{name!r} became a connection parameter. Was {near!r} meant?"
                self.find(PROVIDERS, entry.place, name, findings.UNUSUAL_NAME, "kept", detail)
        if others:
            raw["connection_params"] = others

    def _fields(
        self, table: str, where: str, raw: Mapping[str, Any], readers: Mapping[str, Reader], into: dict[str, Any]
    ) -> None:
        for name, reader in readers.items():
            if name not in raw:
                continue
            try:
                value, repair = reader(raw[name])
            except Unusable as error:
                self.problem(place(where, name), f"{error}.")
            except LeftOut as left_out:
                if left_out.code is not None:
                    self.find(table, where, name, left_out.code, "kept", f"{name} is null; it was left as it is.")
            else:
                into[name] = value
                if repair is not None:
                    self.find(table, where, name, repair, "repaired", f"{name} was brought into its usual form.")

    def _type(self, entry: ProviderEntry, *, own: bool) -> None:
        said = entry.facts.get("provider_type")
        if said:
            self._known_type(entry, said)
            return
        entry.facts.pop("provider_type", None)
        if entry.provider_id in self._stored_types:
            return
        guess = None if own else _guessed_type(entry.provider_id, entry.facts.get("connection_params"))
        if guess is None:
            known = ", ".join(provider_types.registered())
            self.problem(place(entry.place, "provider_type"), f"a new provider needs its type. Known are: {known}.")
            return
        entry.facts["provider_type"] = guess
        detail = f"No provider type is given; {guess!r} was taken."
        self.find(PROVIDERS, entry.place, "provider_type", findings.TYPE_GUESSED, "guessed", detail)

    def _known_type(self, entry: ProviderEntry, said: str) -> None:
        if provider_types.find(said) is not None:
            return
        if renamed := RENAMED_TYPES.get(said):
            entry.facts["provider_type"] = renamed
            detail = f"{said!r} is called {renamed!r} here."
            self.find(PROVIDERS, entry.place, "provider_type", findings.TYPE_RENAMED, "repaired", detail)
            return
        near = _nearest(said, provider_types.registered())
        detail = f"No provider type is named {said!r}." + (f" Was {near!r} meant?" if near else "")
        self.find(PROVIDERS, entry.place, "provider_type", findings.TYPE_UNKNOWN, "kept", detail)

    def _kind(self, entry: ProviderEntry) -> str:
        kind: str = entry.facts.get("provider_type") or self._stored_types.get(entry.provider_id, "")
        return kind

    def _enable(self, entry: ProviderEntry, enabled: bool) -> None:
        if entry.facts.get("enabled", True) != enabled:
            detail = f"allowed_providers {'names' if enabled else 'does not name'} the provider."
            self.find(PROVIDERS, entry.place, "enabled", findings.ENABLED_BY_LIST, "repaired", detail)
        entry.facts["enabled"] = enabled

    # --- Its connection -----------------------------------------------------------------------------------------------------

    def _connection(self, entry: ProviderEntry, secret_params: Any, *, own: bool) -> None:
        params = entry.facts.get("connection_params")
        where = place(entry.place, "connection_params")
        if params is not None:
            kind = self._kind(entry)
            if not own:
                params, said = adapted(params, kind)
                for name, detail in said:
                    self.find(PROVIDERS, where, name, findings.CONNECTION_ADAPTED, "repaired", detail)
            self._options(where, kind, params)
            entry.facts["connection_params"] = public = copy.deepcopy(params)
            for path, value in take_out(public, kind).items():
                self._connection_secret(entry, where, path, value, own=own)
            if not own:
                self._drop_empty_key(entry, where)
            for at in _unexpanded(entry.facts["connection_params"], where):
                detail = "A ${NAME} stands here as it is; write the value, or store it as a secret."
                self.find(PROVIDERS, at, "", findings.NOT_EXPANDED, "kept", detail)
        if own and secret_params is not None:
            self._secret_params(entry, secret_params)

    def _options(self, where: str, kind: str, parameters: Any, *, beside: Any = None) -> None:
        for name, why in engine_options.problems(kind, parameters, beside=beside).items():
            self.problem(place(where, name), why)

    def _connection_secret(self, entry: ProviderEntry, where: str, path: str, value: str, *, own: bool) -> None:
        steps = json.loads(path)
        at = functools.reduce(place, steps, where)
        if isinstance(steps[-1], int):
            self._kept_nowhere(entry, at, value, own=own)
            return
        secret = self._secret(PROVIDERS, at, value)
        if secret is None:
            return
        if not own and steps == ["api_key"]:
            self.find(PROVIDERS, at, "", findings.SECRET_MOVED, "repaired", "It became an API key of the provider.")
            entry.keys.append(self._guessed_environment(KeyEntry(at, secret, self._environment, {})))
            return
        entry.secrets[path] = secret

    def _drop_empty_key(self, entry: ProviderEntry, where: str) -> None:
        params = entry.facts["connection_params"]
        if params.get("api_key", 0) in ("", None):
            entry.facts["connection_params"] = {name: value for name, value in params.items() if name != "api_key"}
            at = place(where, "api_key")
            self.find(PROVIDERS, at, "", findings.PLACEHOLDER_DROPPED, "rejected", "It is empty and was dropped.")

    def _secret_params(self, entry: ProviderEntry, raw: Any) -> None:
        """Secrets of connection_params whose place does not show that they are some: path and secret of each."""
        where = place(entry.place, "secret_params")
        if not isinstance(raw, list):
            self.problem(where, "a list of `path` and `secret` is needed.")
            return
        for index, one in enumerate(raw):
            at = place(where, index)
            if not isinstance(one, dict):
                self.problem(at, "an object with `path` and `secret` is needed.")
                continue
            path = one.get("path")
            if not isinstance(path, list) or not path or not all(isinstance(step, str | int) for step in path):
                self.problem(place(at, "path"), "a list of names and positions is needed.")
                continue
            secret = self._secret(PROVIDERS, place(at, "secret"), one.get("secret"))
            if secret is not None:
                entry.secrets[json.dumps(path)] = secret
            for name in one.keys() - {"path", "secret"}:
                self.problem(place(at, name), _unknown(name, {"path", "secret"}))

    def _secret(self, table: str, where: str, value: Any) -> str | None:
        """The secret or the reference, if it is one."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            self.problem(where, "a text is needed.")
            return None
        value = (value or "").strip()
        if named := _VARIABLE.fullmatch(value):
            name = named[1] or named[2]
            self.find(table, where, "", findings.REFERENCE_TAKEN, "repaired", f"It stands for the variable {name}.")
            return f"env:{name}"
        if not value or looks_like_placeholder(value):
            detail = "It is empty and was dropped." if not value else "It is a placeholder and was dropped."
            self.find(table, where, "", findings.PLACEHOLDER_DROPPED, "rejected", detail)
            return None
        if looks_encrypted(value):
            detail = "It is encrypted with a key that the file does not hold. Import it with migrate_backoffice."
            self.find(table, where, "", findings.UNDECRYPTABLE, "rejected", detail)
            return None
        return str(value)

    def _nothing_secret(self, entry: ProviderEntry, where: str, facts: dict[str, Any], *, own: bool) -> dict[str, Any]:
        """The object, which is stored in the clear, without secrets; of other systems they become disabled keys."""
        public = copy.deepcopy(facts)
        for path, value in take_out(public, None).items():
            at = functools.reduce(place, json.loads(path), where)
            self._kept_nowhere(entry, at, value, own=own)
        return facts if own else public

    def _kept_nowhere(self, entry: ProviderEntry, where: str, value: str, *, own: bool) -> None:
        """A secret in a place where none is kept; a reference of our own export stays where it is."""
        if own:
            if not value.startswith(("env:", "file:")):
                self.problem(where, "nothing is kept secret here; store it under api_keys or in connection_params.")
            return
        secret = self._secret(KEYS, where, value)
        if secret is None:
            return
        detail = "It was stored as a disabled API key, as nothing is kept secret where it stood."
        self.find(KEYS, where, "", findings.SECRET_DISABLED, "repaired", detail)
        entry.keys.append(KeyEntry(where, secret, self._environment, {"enabled": False, "name": where[-255:]}))

    def _check_references(self, entry: ProviderEntry) -> None:
        """What a secret refers to, and other texts of the connection: its type may come to take one of them for a secret."""
        at = place(entry.place, "connection_params")
        params = entry.facts.get("connection_params")
        found: list[tuple[str, str | None, Any]] = [
            *((functools.reduce(place, json.loads(path), at), None, secret) for path, secret in entry.secrets.items()),
            *((key.place, None, key.secret) for key in entry.keys),
            *((one.place, one.name, one.value) for one in entry.parameters),
            *((place(at, name), name, value) for name, value in (params or {}).items()),
        ]
        for where, name, value in found:
            if why := self._why_not(entry.provider_id, name, value):
                self.problem(where, why)

    # --- Its parts ----------------------------------------------------------------------------------------------------------

    def _parts(self, entry: ProviderEntry, raw: dict[str, Any], *, own: bool) -> None:
        where = entry.place
        if "api_key" in raw:
            self._key(entry, place(where, "api_key"), raw["api_key"])
            entry.lists.add(KEYS)
        for name, one_of in (("api_keys", self._key), ("connection_parameters", self._parameter)):
            if name not in raw:
                continue
            entry.lists.add(name)
            for at, one in self._each(place(where, name), raw[name], name):
                one_of(entry, at, one)
        if "models" in raw:
            entry.lists.add(MODELS)
            for at, one in self._each(place(where, "models"), raw["models"], "models"):
                before, count = len(self.problems), len(entry.models)
                self._model(entry, at, one, own=own)
                if self._leave_out(MODELS, at, before):
                    entry.models[count:] = []
                    entry.lists.discard(MODELS)  # what is not known cannot be pruned by
        self.check_once(((model.model_id, model.place) for model in entry.models), "model")
        self.check_once((((one.environment, one.name), one.place) for one in entry.parameters), "parameter")
        self._merge_equal_keys(entry)

    def _each(self, where: str, raw: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(raw, list):
            for index, one in enumerate(raw):
                yield place(where, index), one
        elif isinstance(raw, dict) and name == "models":
            for model_id, one in raw.items():
                at = place(where, model_id)
                if one is not None and not isinstance(one, dict):
                    self.problem(at, "a model is an object of names and values.")
                    continue
                told = (one or {}).get("model_id", model_id)
                if told != model_id:
                    self.problem(place(at, "model_id"), f"it says {told!r} and stands under {model_id!r}.")
                    continue
                yield at, {**(one or {}), "model_id": model_id}
        elif isinstance(raw, dict) and name == "connection_parameters":
            for param_name, value in raw.items():
                yield place(where, param_name), {"param_name": param_name, "param_value": value}
        elif raw is not None:
            self.problem(where, "a list is needed.")

    def _key(self, entry: ProviderEntry, where: str, raw: Any) -> None:
        if not isinstance(raw, dict):
            raw = {"secret": raw}
        raw = {name: value for name, value in raw.items() if name not in _OF_NO_PART}
        _use(raw, "key_value", "secret")
        raw.pop("is_encrypted", None)
        facts: dict[str, Any] = {}
        self._fields(KEYS, where, raw, config_values.KEY, facts)
        for name in raw.keys() - _OF_A_KEY:
            self.problem(place(where, name), _unknown(name, _OF_A_KEY))
        environment = facts.pop("environment", "")
        secret = self._secret(KEYS, where, raw.get("secret"))
        if secret is None:
            self._reject(KEYS)
            return
        found = KeyEntry(where, secret, environment or self._environment, facts)
        entry.keys.append(found if environment else self._guessed_environment(found))

    def _guessed_environment(self, key: KeyEntry) -> KeyEntry:
        detail = f"No environment is given; {key.environment!r}, this gateway's own, was taken."
        self.find(KEYS, key.place, "environment", findings.ENVIRONMENT_GUESSED, "guessed", detail)
        return key

    def _merge_equal_keys(self, entry: ProviderEntry) -> None:
        """The same key twice is one: the first that is enabled, else the first."""
        kept: dict[tuple[str, str], KeyEntry] = {}
        for key in sorted(entry.keys, key=lambda key: not key.facts.get("enabled", True)):
            first = kept.setdefault((key.environment, key.secret), key)
            if first is not key:
                self.find(KEYS, key.place, "", findings.DUPLICATE, "merged", f"The same key stands at {first.place}.")
        entry.keys = [key for key in entry.keys if kept[key.environment, key.secret] is key]

    def _parameter(self, entry: ProviderEntry, where: str, raw: Any) -> None:
        if not isinstance(raw, dict):
            self.problem(where, "a parameter is an object with param_name and param_value.")
            return
        raw = {name: value for name, value in raw.items() if name not in _OF_NO_PART}
        for name in raw.keys() - _OF_A_PARAMETER:
            self.problem(place(where, name), _unknown(name, _OF_A_PARAMETER))
        name = self._id(where, "param_name", raw.get("param_name"), 255)
        facts: dict[str, Any] = {}
        self._fields(PARAMETERS, where, raw, config_values.PARAMETER, facts)
        value = raw.get("param_value")
        if isinstance(value, bool | int | float | list | dict):
            value = json.dumps(value, ensure_ascii=False)
            detail = "The value was written as text."
            self.find(PARAMETERS, where, "param_value", findings.TEXT_REPAIRED, "repaired", detail)
        if not isinstance(value, str):
            self.problem(place(where, "param_value"), "a value is needed.")
            return
        if name is None:
            return
        environment = facts.get("environment") or self._environment
        if not facts.get("environment"):
            detail = f"No environment is given; {environment!r}, this gateway's own, was taken."
            self.find(PARAMETERS, where, "environment", findings.ENVIRONMENT_GUESSED, "guessed", detail)
        self._add_parameter(entry, where, name, environment, value, facts.get("is_sensitive", False))

    def _add_parameter(
        self, entry: ProviderEntry, where: str, name: str, environment: str, value: str, sensitive: bool
    ) -> None:
        kind = self._kind(entry)
        if not sensitive and reads_like_secret(name, value, kind):
            sensitive = True
            detail = "It reads like a secret and is stored encrypted."
            self.find(PARAMETERS, where, "is_sensitive", findings.SENSITIVE_GUESSED, "repaired", detail)
        if sensitive:
            secret = self._secret(PARAMETERS, place(where, "param_value"), value)
            if secret is None:
                self._reject(PARAMETERS)
                return
            value = secret
        else:
            for why in engine_options.problems(kind, {name: value}).values():
                self.problem(place(where, "param_value"), why)
        entry.parameters.append(ParameterEntry(where, name, environment, value, sensitive))

    def _model(self, entry: ProviderEntry, where: str, raw: Any, *, own: bool) -> None:
        if isinstance(raw, str):
            raw = {"model_id": raw}
        if not isinstance(raw, dict):
            self.problem(where, "a model is an object of names and values, or an id.")
            return
        raw = dict(raw)
        if not own:
            _use(raw, "id", "model_id")
            self._legacy_model(where, raw)
        model_id = self._id(where, "model_id", raw.get("model_id"), 255)
        others = {name: raw.pop(name) for name in list(raw) if name not in _OF_A_MODEL}
        facts: dict[str, Any] = {}
        self._fields(MODELS, where, raw, config_values.MODEL, facts)
        if own:
            for name in others:
                self.problem(place(where, name), _unknown(name, _OF_A_MODEL))
        elif others:
            facts["parameters"] = others | facts.get("parameters", {})
        if "parameters" in facts:
            at = place(where, "parameters")
            self._options(at, self._kind(entry), facts["parameters"], beside=entry.facts.get("connection_params"))
            facts["parameters"] = self._nothing_secret(entry, at, facts["parameters"], own=own)
        if model_id is None:
            return
        if facts.get("display_name") == "":
            facts["display_name"] = model_id
        entry.models.append(ModelEntry(where, model_id, facts))

    def _legacy_model(self, where: str, raw: dict[str, Any]) -> None:
        for name in raw.keys() & _NO_CONFIGURATION:
            raw.pop(name)
        raw.pop("provider_id", None)
        if isinstance(raw.get("task"), str):
            raw.setdefault("tasks", [raw.pop("task")])
        if "max_output_tokens" not in raw:
            return
        other = raw.pop("max_output_tokens")
        if raw.get("max_tokens") is None:
            raw["max_tokens"] = other
            code, did, detail = findings.MAX_TOKENS_FALLBACK, "repaired", "max_tokens was taken from max_output_tokens."
        elif other is None or raw["max_tokens"] == other:
            return
        else:
            code, did = findings.MAX_TOKENS_DISAGREE, "kept"
            detail = "max_tokens and max_output_tokens differ; max_tokens was taken."
        self.find(MODELS, where, "max_tokens", code, did, detail)

    # --- What is said about it ----------------------------------------------------------------------------------------------

    def problem(self, where: str, sentence: str) -> None:
        self.problems.append(Problem(where, sentence))

    def find(self, table: str, where: str, name: str, code: Code, did: str, detail: str) -> None:
        self.findings.append(Finding(table, where, name, code, did, detail))

    def _reject(self, table: str) -> None:
        self.rejected[table] = self.rejected.get(table, 0) + 1

    def check_once(self, rows: Iterable[tuple[Any, str]], what: str) -> None:
        seen: dict[Any, str] = {}
        for identity, where in rows:
            first = seen.setdefault(identity, where)
            if first != where:
                self.problem(where, f"this {what} stands at {first} already.")


def _use(raw: dict[str, Any], other: str, name: str) -> None:
    if other in raw and name not in raw:
        raw[name] = raw.pop(other)


def _declared(kind_name: Any) -> set[str]:
    kind = provider_types.find(kind_name) if isinstance(kind_name, str) else None
    return {parameter.name for parameter in kind.parameters} if kind is not None else set()


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.75) -> str | None:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return str(found[0]) if found else None


def _unknown(name: str, known: Iterable[str]) -> str:
    near = _nearest(name, known, cutoff=0.6)
    return f"{name!r} is not a name that is known here." + (f" Was {near!r} meant?" if near else "")


def _guessed_type(provider_id: str, params: Any) -> str | None:
    if provider_types.find(provider_id) is not None:
        return provider_id
    url = connection.canonical(params).get("base_url") if isinstance(params, dict) else None
    host = urlsplit(url).netloc.rpartition("@")[2] if isinstance(url, str) and "://" in url else ""
    for preset in PRESETS:
        if host and host == urlsplit(preset.base_url).netloc:
            return preset.name
    if host.endswith(".openai.azure.com"):
        return "azure_openai"
    words = re.split(r"[^a-z0-9]+", provider_id.lower())
    named = [preset.name for preset in PRESETS if _stands_in(preset.name.split("_"), words)]
    if named:
        return max(named, key=len)
    return "openai_compatible" if host else None


def _stands_in(name: list[str], words: list[str]) -> bool:
    return any(words[start : start + len(name)] == name for start in range(len(words)))


def _unexpanded(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, str) and _UNEXPANDED.search(value):
        yield where
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _unexpanded(member, place(where, name))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _unexpanded(member, place(where, index))
