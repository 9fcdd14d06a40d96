"""Every way to write a registry row raises the revision and leaves an audit entry, the bulk ones included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from providers import actor, audit, revision


class RegistryQuerySet(models.QuerySet):
    """`update`, `delete`, `bulk_create` and `bulk_update` leave one entry each, with the facts of every row they touched."""

    def update(self, **values: Any) -> int:
        """Raises `TypeError` for fields that are only right when each row writes them itself, such as secrets."""
        refused = self.model.written_by_save & values.keys()
        if refused:
            raise TypeError(f"{', '.join(sorted(refused))} of {self.model.__name__} can only be written by save()")
        with transaction.atomic(using=self.db):
            before = _facts(self._rows())
            changed = super().update(**({"updated_at": timezone.now()} | values))
            after = _facts(self.model.stored().filter(pk__in=list(before)))
            self._write_down("update", before, after)
        return changed

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=self.db):
            before = {row.pk: (row.audit_name(), row.facts() | row.dependent_facts()) for row in self._rows()}
            deleted = super().delete()
            self._write_down("delete", before, {})
        return deleted

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        objs = list(objs)
        for obj in objs:
            obj.prepare()
            obj.created_by = obj.created_by or actor.current().name
        with transaction.atomic(using=self.db):
            created = super().bulk_create(objs, *args, **kwargs)
            self._write_down("create", {}, _facts(created))
        return created

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], *args: Any, **kwargs: Any) -> int:
        objs, fields = list(objs), set(fields)
        prepared = [obj.prepare() for obj in objs]
        if any(prepared):
            fields |= self.model.written_by_save
        with transaction.atomic(using=self.db):
            keys = [obj.pk for obj in objs]
            before = _facts(self.model.stored().filter(pk__in=keys))
            # Django's own bulk_update ends in update() on a queryset of this class: one write, one entry.
            changed = models.QuerySet(self.model, using=self.db).bulk_update(objs, fields, *args, **kwargs)
            self._write_down("update", before, _facts(self.model.stored().filter(pk__in=keys)))
        return changed

    update.alters_data = delete.alters_data = bulk_create.alters_data = bulk_update.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _rows(self) -> models.QuerySet:
        return self.model.stored().filter(pk__in=self.order_by().values("pk"))

    def _write_down(self, action: str, before: dict[Any, tuple[str, dict]], after: dict[Any, tuple[str, dict]]) -> None:
        old = {key: facts for key, facts in before.items() if after.get(key) != facts}
        new = {key: facts for key, facts in after.items() if before.get(key) != facts}
        if not old and not new:
            return
        touched = {name for name, _ in (*old.values(), *new.values())}
        audit.record(
            action,
            self.model._meta.model_name,
            touched.pop() if len(touched) == 1 else f"{len(touched)} rows",
            before=dict(old.values()) or None,
            after=dict(new.values()) or None,
        )
        revision.bump()


def _facts(rows: Iterable[Any]) -> dict[Any, tuple[str, dict]]:
    return {row.pk: (row.audit_name(), row.facts()) for row in rows}
