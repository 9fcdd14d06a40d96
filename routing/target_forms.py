"""The targets of a policy as rows of a form: their order, who they are, and shares that add up to 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as say
from django.utils.translation import gettext_lazy as _

from routing.models import Policy
from routing.policy_documents import KINDS

KNOWN_NAMES = "gw-names"
"""The page's list of names that a target may have."""
PLAIN = {"class": "gw-input"}
EMPTY_ROWS = 2


class TargetForm(forms.Form):
    """One row; an empty one is no target."""

    use_required_attribute = False

    order = forms.IntegerField(
        required=False, min_value=0, widget=forms.NumberInput(attrs=PLAIN | {"aria-label": _("Place")})
    )
    model = forms.CharField(
        required=False,
        max_length=600,
        widget=forms.TextInput(
            attrs=PLAIN | {"list": KNOWN_NAMES, "aria-label": _("Model or policy"), "autocomplete": "off"}
        ),
    )
    kind = forms.ChoiceField(
        required=False,
        choices=[("", "–"), *((kind, kind) for kind in KINDS)],
        widget=forms.Select(attrs=PLAIN | {"aria-label": _("Or every policy of a kind")}),
    )
    provider = forms.CharField(
        required=False,
        max_length=255,
        widget=forms.TextInput(
            attrs=PLAIN | {"list": "gw-providers", "aria-label": _("Only at this provider"), "autocomplete": "off"}
        ),
    )
    weight = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=1_000_000,
        widget=forms.NumberInput(attrs=PLAIN | {"aria-label": _("Share"), "inputmode": "numeric"}),
    )


class _Targets(forms.BaseFormSet):
    def told(self) -> list[dict[str, Any]]:
        """The targets in their order; a row without a place comes after those that have one."""
        rows = [
            form.cleaned_data
            for form in self.forms
            if not form.cleaned_data.get("DELETE") and (form.cleaned_data.get("model") or form.cleaned_data.get("kind"))
        ]
        rows.sort(key=lambda row: (row["order"] is None, row["order"]))
        return [_target(row) for row in rows]

    def check_shares(self, strategy: str, stored: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the shares add up to 100, which only `weighted` asks for; says so here when they do not.

        Weights of another sum that are stored already stay good as they are.
        """
        told = self.told()
        weights = [target.get("weight") for target in told]
        if strategy != "weighted" or len(told) < 2 or any("kind" in target for target in told):
            return True
        if not any(weights) or _weighed(told) == _weighed(stored):
            return True  # none at all: all are alike, or validation says that nobody has any
        if None in weights:
            self._non_form_errors.append(
                say("Each target needs a share; 0 is for one that is only asked when the others failed.")
            )
            return False
        total = sum(weights)
        if total == WHOLE:
            return True
        self._non_form_errors.append(
            say("The shares add up to %(total)s, not to 100. In the same proportion: %(shares)s.")
            % {"total": total, "shares": ", ".join(map(str, in_hundredths(weights)))}
        )
        return False


WHOLE = 100


def in_hundredths(weights: Sequence[int]) -> list[int]:
    """Whole numbers in the proportion of the weights that add up to 100; the largest remainders are rounded up."""
    total = sum(weights)
    exact = [WHOLE * weight / total for weight in weights]
    found = [int(share) for share in exact]
    ahead = sorted(range(len(exact)), key=lambda place: found[place] - exact[place])
    for place in ahead[: WHOLE - sum(found)]:
        found[place] += 1
    return found


def _weighed(targets: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one.get("model"), one.get("provider"), one.get("kind"), one.get("weight", 1)) for one in targets]


def _target(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("model", "kind", "provider") if row[name]}
    return told if row["weight"] is None else told | {"weight": row["weight"]}


_TargetSet = forms.formset_factory(TargetForm, formset=_Targets, extra=EMPTY_ROWS, can_delete=True, max_num=1000)


def targets_of(row: Policy | None, data: Any = None, *, spare: bool = True) -> Any:
    """The rows of a policy's targets, and with `spare` some for more."""
    told = row.document.get("targets", []) if row is not None else []
    initial = [{"weight": 1, **target, "order": place} for place, target in enumerate(told, 1)]
    rows = _TargetSet(data, prefix="targets", initial=initial)
    rows.extra = EMPTY_ROWS if spare else 0
    return rows
