"""Sections: what a configuration file says beside its providers, such as prices and policies.

A section knows one kind of objects as plain documents by name: how the file writes them, which are stored, how one is stored
or removed. What that changes, who owns it, how it is pruned and taken back is the same for all, and stands here. Other
packages register theirs when they start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import transaction

from providers.config_changes import REMOVE, Change, difference
from providers.import_runs import ImportRun
from providers.importers import findings
from providers.importers.config_forms import Problem
from providers.importers.documents import place
from providers.importers.findings import Finding
from providers.section_records import SectionRecord

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object that a file names: where it stands, and what the file says of it in the section's normal form."""

    place: str
    name: str
    document: Document


@dataclass(slots=True)
class Part:
    """What a file's part for one section says. `named` holds the names of entries with mistakes too."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    named: set[str] = field(default_factory=set)


class Section(ABC):
    """One member of a configuration file. Documents are plain values, complete, and the same for the same meaning."""

    name: ClassVar[str]
    """The member of the file: `policies`."""
    kind: ClassVar[str]
    """What a single one is called: `policy`."""
    permission: ClassVar[str] = ""
    """What a user of the admin needs to write it; empty: it is not written there."""
    goes_with_its_file: ClassVar[bool] = True
    """Whether an object is removed when the file that owns it does not name it any more."""
    is_pruned: ClassVar[bool] = True
    """Whether `--prune` removes what the file does not name."""

    @abstractmethod
    def read(self, told: Any, where: str) -> Part:
        """What stands in the file at `where`. Mistakes are collected with their places; nothing is raised."""

    @abstractmethod
    def stored(self) -> dict[str, dict[str, Any]]:
        """Every stored object by its name, in the order of an export."""

    @abstractmethod
    def put(self, name: str, document: Document) -> None:
        """Store a complete document. Raises `ValidationError`."""

    @abstractmethod
    def remove(self, name: str) -> None: ...

    def merged(self, before: Document | None, told: Document) -> dict[str, Any]:
        """What is stored with what the file says laid over it."""
        return {**(before or {}), **told}

    def written(self, stored: Mapping[str, dict[str, Any]]) -> Any:
        """The member of an export; nothing of it when nothing is stored."""
        return dict(stored)

    @abstractmethod
    def owners(self) -> dict[str, str]:
        """The files that own objects of this section, by the object's name."""

    @abstractmethod
    def own(self, names: Collection[str], path: str) -> None:
        """Let the file at `path` own these and no other objects of this section; an empty path lets them go."""


class ListSection(Section):
    """A section that is a list of objects; what each says tells one from another."""

    def read(self, told: Any, where: str) -> Part:
        part = Part()
        if not isinstance(told, list):
            part.problems.append(Problem(where, f"a list of {self.name} is needed."))
            return part
        for index, raw in enumerate(told):
            self.read_one(raw, place(where, index), part)
        return part

    @abstractmethod
    def read_one(self, raw: Any, at: str, part: Part) -> None:
        """One of the list, which stands in the file at `at`."""


_sections: dict[str, Section] = {}


def register_section(section: Section) -> None:
    """Have files speak of it. Exported and written in the order of registration, after the providers."""
    _sections[section.name] = section


def registered() -> Sequence[Section]:
    return tuple(_sections.values())


def names() -> tuple[str, ...]:
    return tuple(_sections)


def lacking(user: Any, wanted: Collection[str]) -> list[str]:
    """What single ones are called of those of the sections that are not for this user of the admin to write."""
    sections = [section for section in registered() if section.name in wanted]
    return sorted(section.kind for section in sections if not user.has_perm(section.permission or "nobody.may"))


def exported(only: Collection[str] | None = None) -> dict[str, Any]:
    """The members of an export, all or those that `only` names; a section that holds nothing is left out."""
    wanted = [section for section in registered() if only is None or section.name in only]
    stored = {section.name: (section, section.stored()) for section in wanted}
    return {name: section.written(objects) for name, (section, objects) in stored.items() if objects}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that its section did not take, with what it had to say."""

    kind: str
    name: str
    finding: Finding


@dataclass(slots=True)
class Plan:
    """What one section would become: by name the document before and after; None is not there."""

    section: Section
    part: Part
    steps: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]]

    def changes(self) -> Iterator[Change]:
        for name, (before, after) in self.steps.items():
            if after is None:
                yield Change(REMOVE, self.section.kind, "", name, {})
            else:
                wanted = dict.fromkeys(before or {}) | after
                yield from difference(self.section.kind, "", name, before, wanted)


def plan(
    section: Section, part: Part, *, prune: bool, owner: str = "", drop: bool = False
) -> tuple[Plan, list[Finding]]:
    """What the part would change. What another file owns is left alone, with a finding; `drop` removes what `owner` owned and
    does not name any more."""
    stored, owners = section.stored(), section.owners()
    said: list[Finding] = []
    steps: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {}
    for entry in part.entries:
        before = stored.get(entry.name)
        after = section.merged(before, entry.document)
        if before == after:
            continue
        if (owned_by := owners.get(entry.name, "")) and owned_by != owner:
            said.append(owned_elsewhere(section.name, entry.place, owned_by))
            continue
        steps[entry.name] = (before, after)
    drop = drop and bool(owner) and section.goes_with_its_file
    prune = prune and section.is_pruned
    for name in [name for name in stored if name not in part.named]:
        owned_by = owners.get(name, "")
        if (prune and owned_by in ("", owner)) or (drop and owned_by == owner):
            steps[name] = (stored[name], None)
    return Plan(section, part, steps), said


def owned_elsewhere(table: str, place: str, path: str) -> Finding:
    detail = f"The file {path} owns it: change it there, or let go of it with apply_config --disown."
    return Finding(table, place, "", findings.OWNED, "kept", detail)


def rehearse(planned: Iterable[Plan]) -> list[Refusal]:
    """What `write` would refuse, found by doing it and taking it back: nothing is written."""
    with transaction.atomic():
        refused = write(planned, None)
        transaction.set_rollback(True)
    return refused


def write(planned: Iterable[Plan], run: ImportRun | None) -> list[Refusal]:
    """Do it, each object for itself: what is refused is named and stops nothing else. Remembered with the run, to be undone."""
    planned, said = list(planned), []
    steps = [(one, name, *step) for one in planned for name, step in one.steps.items() if step[1] is not None]
    # What is removed goes last, and backwards: it may stand on what goes too.
    steps += [(one, name, *step) for one in reversed(planned) for name, step in one.steps.items() if step[1] is None]
    for one, name, before, after in steps:
        try:
            with transaction.atomic():
                _put(one.section, name, after)
                if run is not None:
                    SectionRecord.objects.create(
                        run=run, section=one.section.name, name=name, before=before, after=after
                    )
        except ValidationError as error:
            at = next((entry.place for entry in one.part.entries if entry.name == name), name)
            detail = " ".join(_sentences(error))
            told = Finding(one.section.name, at, "", findings.ENTRY_REFUSED, "rejected", detail)
            said.append(Refusal(one.section.kind, name, told))
    return said


def undo(run: ImportRun) -> tuple[int, list[Finding]]:
    """Take back what a run wrote into sections: how many objects, and what stays because it was edited since."""
    done, said = 0, []
    for section in reversed(registered()):  # what was written last may stand on what was written first
        for record in SectionRecord.objects.filter(run=run, section=section.name).order_by("-pk"):
            with transaction.atomic():
                now = section.stored().get(record.name)
                if now == record.before:
                    continue
                if now != record.after:
                    detail = "Edited since the run; it stays as it is."
                    said.append(Finding(section.name, record.name, "", findings.EDITED_SINCE, "kept", detail))
                    continue
                try:
                    with transaction.atomic():
                        _put(section, record.name, record.before)
                except ValidationError as error:
                    said.append(
                        Finding(
                            section.name,
                            record.name,
                            "",
                            findings.EDITED_SINCE,
                            "kept",
                            "What it was before is refused now: " + " ".join(_sentences(error)),
                        )
                    )
                    continue
                done += 1
    return done, said


def _put(section: Section, name: str, document: Document | None) -> None:
    if document is None:
        section.remove(name)
    else:
        section.put(name, document)


def _sentences(error: ValidationError) -> Iterator[str]:
    if hasattr(error, "error_dict"):
        for name, messages in error.message_dict.items():
            yield from (f"{name}: {message}" if name != "__all__" else message for message in messages)
    else:
        yield from error.messages
