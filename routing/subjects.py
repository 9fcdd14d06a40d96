"""For whom a limit or a budget counts: one key, team, model, provider or tag, each of the keys or teams by itself, or all together."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from providers.models import ProviderModel, RegistryModel
from routing.allowances import ALL, KEY, MODEL, PROVIDER, TAG, TEAM

EACH_KEY, EACH_TEAM = "each_key", "each_team"
OF_EACH = {EACH_KEY: KEY, EACH_TEAM: TEAM}
SUBJECTS = {
    ALL: "everything together",
    EACH_KEY: "each client key by itself, where it has none of its own",
    EACH_TEAM: "each team by itself, where it has none of its own",
    KEY: "one client key",
    TEAM: "one team",
    MODEL: "one model at one provider",
    PROVIDER: "one provider",
    TAG: "requests with one tag",
}
NAMED_BY = {KEY: "client_key", TEAM: "team", MODEL: "model", PROVIDER: "provider", TAG: "tag"}
"""The field that says which one."""
TAG_FORM = re.compile(r"(?! )[^,\x00-\x1f\x7f]{1,64}(?<! )")


class Counted(RegistryModel):
    """A row that counts for a subject."""

    subject = models.CharField(max_length=16, choices=SUBJECTS, default=EACH_KEY)
    client_key = models.ForeignKey("routing.ClientKey", null=True, blank=True, on_delete=models.CASCADE)
    team = models.ForeignKey("routing.Team", null=True, blank=True, on_delete=models.CASCADE)
    provider = models.ForeignKey("providers.Provider", null=True, blank=True, on_delete=models.CASCADE)
    model = models.ForeignKey("providers.ProviderModel", null=True, blank=True, on_delete=models.CASCADE)
    tag = models.CharField(max_length=64, blank=True)
    enabled = models.BooleanField(default=True)
    managed_by = models.CharField(
        max_length=500, blank=True, editable=False, help_text="The configuration file that owns it."
    )

    beside: ClassVar[tuple[str, ...]] = ()
    """Fields that tell one row of a subject from another."""

    class Meta:
        abstract = True

    def clean(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValidationError({"subject": f"One of {', '.join(SUBJECTS)}."})
        needed = NAMED_BY.get(self.subject)
        if needed and not self._named(needed):
            raise ValidationError({needed: f"Say which: this counts for {SUBJECTS[self.subject]}."})
        for name in NAMED_BY.values():
            if name != needed and self._named(name):
                raise ValidationError({name: f"Leave it empty: this counts for {SUBJECTS[self.subject]}."})
        if self.subject == TAG and not TAG_FORM.fullmatch(self.tag):
            raise ValidationError({"tag": "A word without commas, and without blanks at its ends, is needed."})
        if (twin := self._twin(needed)) is not None:
            raise ValidationError({needed or "subject": f"There is one already: {twin} (number {twin.pk})."})

    def _twin(self, needed: str | None) -> Counted | None:
        """Another row for the same subject: the database refuses it too, in words that help nobody."""
        same = {name: getattr(self, name) for name in (*self.beside, *filter(None, [needed]))}
        return type(self)._base_manager.filter(subject=self.subject, **same).exclude(pk=self.pk).first()

    def _named(self, field: str) -> Any:
        return self.tag if field == TAG else getattr(self, f"{field}_id")

    @property
    def subject_name(self) -> str:
        """Such as `team research`, for people."""
        field = NAMED_BY.get(self.subject)
        if field is None:
            return SUBJECTS[self.subject].partition(",")[0]
        if field == TAG:
            return f"tag {self.tag}"
        named = getattr(self, field)
        return f"{self.subject} {'?' if named is None else _called(named)}"

    @classmethod
    def one_of_each(cls, *beside: str) -> list[models.UniqueConstraint]:
        """Constraints that keep a subject from having two rows with the same fields `beside`."""
        shared = [
            models.UniqueConstraint(
                fields=["subject", *beside],
                condition=Q(subject__in=[ALL, EACH_KEY, EACH_TEAM]),
                name="%(app_label)s_%(class)s_shared",
            )
        ]
        return shared + [
            models.UniqueConstraint(
                fields=[field, *beside],
                condition=Q(subject=subject),
                name=f"%(app_label)s_%(class)s_of_{subject}",
            )
            for subject, field in NAMED_BY.items()
        ]


def _called(named: Any) -> str:
    """As people know it: a key by its name, a model by its route."""
    if isinstance(named, ProviderModel):
        return named.route
    return str(named.name if hasattr(named, "prefix") else named.audit_name())
