"""Alerts in the admin: what happened, what is watched and who is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminTimeWidget,
)

from inference import alert_delivery, alert_texts
from inference.alert_models import EMAIL, KINDS, SENT, WAITING, WEBHOOK, AlertChannel, AlertIncident, AlertRule
from inference.alert_signals import ACTIONS, SIGNALS, amount
from providers import actor, cells, pages
from providers.tables import ReadOnlyAdmin, SwitchableAdmin
from routing import visibility

_TABS = (
    ("Incidents", "inference_alertincident", "inference.view_alertincident"),
    ("Rules", "inference_alertrule", "inference.view_alertrule"),
    ("Channels", "inference_alertchannel", "inference.view_alertchannel"),
)
_TOLD_FOR = {
    "": "what is usual for the signal",
    "gateway": "the gateway as a whole",
    "provider": "each provider by itself",
    "model": "each model at each provider",
    "budget": "each budget",
    "key": "each client key",
}
TWINS = [
    ("Incidents under way", 'curl "$GATEWAY/api/v1/alert-incidents?open=true" -H "Authorization: Bearer $KEY"'),
    (
        "A rule",
        'curl -X POST "$GATEWAY/api/v1/alert-rules" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        '     -d \'{"name": "slow", "signal": "average_latency", "threshold": "10", "told_for": "provider"}\'',
    ),
    ("Test a channel", 'curl -X POST "$GATEWAY/api/v1/alert-channels/1/test" -H "Authorization: Bearer $ADMIN_KEY"'),
]


class _OfAlerts:
    """The three lists are one place: each leads to the others."""

    list_before_template = "admin/inference/alerts/list_before.html"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        tabs = [
            (title, reverse(f"admin:{name}_changelist"), name == f"inference_{self.model._meta.model_name}")  # type: ignore[attr-defined]
            for title, name, permission in _TABS
            if request.user.has_perm(permission)
        ]
        shown = {"alert_tabs": tabs, "twins": TWINS, "alerts_of": self.model._meta.model_name}  # type: ignore[attr-defined]
        shown["no_channel"] = not AlertChannel.objects.filter(enabled=True).exists()
        shown["no_rule"] = not AlertRule.objects.exists()
        return super().changelist_view(request, {**shown, **(extra_context or {})})  # type: ignore[misc]


class UnderWay(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "under way"), ("over", "over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() in ("open", "over"):
            return queryset.filter(ended_at__isnull=self.value() == "open")
        return queryset


@admin.register(AlertIncident)
class AlertIncidentAdmin(_OfAlerts, ReadOnlyAdmin):
    list_display = ("title", "state", "reading", "began", "lasted", "told")
    list_filter = (UnderWay, "rule_name")
    ordering = ("-id",)
    change_form_outer_before_template = "admin/inference/alerts/incident.html"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the page above the form says it all

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        if not visibility.sees_everything(request.user):
            return rows.none()  # an incident may be of any team's budget or key
        sent = Count("deliveries", filter=Q(deliveries__state=SENT))
        return rows.annotate(sent=sent, waiting=Count("deliveries", filter=Q(deliveries__state=WAITING)))

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        incident = self.get_object(request, object_id)
        shown: dict[str, Any] = {}
        if incident is not None:
            deliveries = incident.deliveries.select_related("channel").order_by("pk")
            shown = {
                "incident": incident,
                "title": f"{incident.rule_name}: {incident.subject_name}",
                "reading_now": incident.amount(incident.value),
                "reading_worst": incident.amount(incident.worst),
                "deliveries": [(one, _state_of(one)) for one in deliveries],
                "may_acknowledge": not incident.is_over
                and incident.acknowledged_at is None
                and request.user.has_perm("inference.change_alertrule"),
            }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    @admin.display(description="Incident")
    def title(self, incident: AlertIncident) -> SafeString:
        return _two_lines(incident.subject_name, incident.rule_name)

    @admin.display(description="State")
    def state(self, incident: AlertIncident) -> SafeString:
        if incident.ended_at is not None:
            return cells.pill("over", "good", f"since {timezone.localtime(incident.ended_at):%Y-%m-%d %H:%M:%S}")
        if incident.acknowledged_at is not None:
            return cells.pill("looked after", "warn", f"by {incident.acknowledged_by}")
        return cells.pill("under way", "bad", incident.detail)

    @admin.display(description="Now, and at its worst")
    def reading(self, incident: AlertIncident) -> SafeString:
        worst = f"at its worst {incident.amount(incident.worst)}; {incident.condition}"
        return _two_lines(incident.amount(incident.value), worst)

    @admin.display(description="Began", ordering="began_at")
    def began(self, incident: AlertIncident) -> SafeString:
        return cells.ago(incident.began_at)

    @admin.display(description="Lasted")
    def lasted(self, incident: AlertIncident) -> str:
        seconds = ((incident.ended_at or timezone.now()) - incident.began_at).total_seconds()
        return alert_texts.span(timedelta(seconds=seconds))

    @admin.display(description="Messages")
    def told(self, incident: Any) -> SafeString:
        waiting = cells.pill(f"{incident.waiting} waiting", "warn") if incident.waiting else ""
        return format_html("{} sent {}", incident.sent, waiting)


def _state_of(delivery: Any) -> SafeString:
    if delivery.state == SENT:
        return cells.pill("sent", "good")
    if delivery.state == WAITING:
        quiet = delivery.due_at > timezone.now() and not delivery.attempts
        return cells.pill("waits for the end of quiet hours" if quiet else "waiting", "warn", delivery.error)
    return cells.pill(delivery.state, "bad", delivery.error)


class AlertRuleForm(forms.ModelForm):
    signal = forms.ChoiceField(
        choices=[(one.name, f"{one.title} ({one.unit})" if one.unit else one.title) for one in SIGNALS.values()],
        widget=UnfoldAdminSelectWidget,
    )
    told_for = forms.ChoiceField(
        choices=list(_TOLD_FOR.items()),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Each of these has incidents of its own.",
    )
    action = forms.ChoiceField(
        choices=[("", "nothing"), *((name, text) for name, text in ACTIONS.items())],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="What else is done when it fires.",
    )
    channels = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Who is told. None ticked: every channel that is switched on.",
    )

    class Meta:
        model = AlertRule
        fields = (
            *("name", "description", "enabled", "signal", "threshold", "told_for", "window_minutes", "least_requests"),
            *("recover_minutes", "remind_minutes", "channels", "action"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["threshold"] = f"{self.instance.threshold.normalize():f}"
        there = list(AlertChannel.objects.values_list("name", flat=True))
        missing = [name for name in self.instance.channels or () if name not in there]
        field = self.fields.get("channels")
        if field is not None:
            field.choices = [  # type: ignore[attr-defined]
                *((name, name) for name in there),
                *((name, f"{name} (there is no such channel yet)") for name in missing),
            ]


@admin.register(AlertRule)
class AlertRuleAdmin(_OfAlerts, SwitchableAdmin):
    form = AlertRuleForm
    list_display = ("title", "condition_cell", "for_whom", "tells", "state")
    list_filter = ("enabled", "signal")
    search_fields = ("name", "description")
    ordering = ("name",)
    change_form_outer_before_template = "admin/inference/alerts/rule.html"
    fieldsets = (
        (None, {"fields": ("name", "description", "enabled")}),
        (
            "What is watched",
            {"fields": ("signal", "threshold", "told_for", "window_minutes", "least_requests", "recover_minutes")},
        ),
        ("Who is told, and what is done", {"fields": ("channels", "remind_minutes", "action")}),
    )

    _channels_that_are_on: frozenset[str] = frozenset()

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        under_way = Count("incidents", filter=Q(incidents__ended_at__isnull=True))
        return super().get_queryset(request).annotate(under_way=under_way)

    def get_list_display(self, request: HttpRequest) -> Any:
        self._channels_that_are_on = frozenset(AlertChannel.objects.filter(enabled=True).values_list("name", flat=True))
        return super().get_list_display(request)

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        signals = [(one, amount(one.threshold, one.unit)) for one in SIGNALS.values()]
        return super().changeform_view(request, object_id, form_url, {"signals": signals, **(extra_context or {})})

    @admin.display(description="Rule", ordering="name")
    def title(self, rule: AlertRule) -> SafeString:
        return _two_lines(rule.name, rule.description)

    @admin.display(description="Fires when", ordering="signal")
    def condition_cell(self, rule: AlertRule) -> str:
        return rule.condition if rule.signal in SIGNALS else f"{rule.signal}: there is no such signal"

    @admin.display(description="Told for")
    def for_whom(self, rule: AlertRule) -> str:
        return _TOLD_FOR.get(rule.told_for, rule.told_for)

    @admin.display(description="Tells")
    def tells(self, rule: AlertRule) -> SafeString:
        there = self._channels_that_are_on
        told = [
            format_html("{}", name)
            if name in there
            else cells.pill(f"{name} is missing", "warn", "No such channel is on.")
            for name in rule.channels
        ] or [format_html("{}", "every channel")]
        if rule.action:
            told.append(cells.pill(ACTIONS[rule.action], "warn"))
        return format_html_join(", ", "{}", ((one,) for one in told))

    @admin.display(description="State", ordering="enabled")
    def state(self, rule: Any) -> SafeString:
        if not rule.enabled:
            return cells.pill("off")
        return cells.pill(f"{rule.under_way} under way", "bad") if rule.under_way else cells.pill("watching", "good")


class AlertChannelForm(forms.ModelForm):
    kind = forms.ChoiceField(choices=list(KINDS.items()), widget=UnfoldAdminSelectWidget)
    recipients_text = forms.CharField(
        label="Recipients",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Of an e-mail channel: one address a line.",
    )
    new_address = forms.CharField(
        label="URL",
        required=False,
        max_length=4000,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Of a webhook or of Apprise. Stored encrypted and not shown again.",
    )
    new_signing_secret = forms.CharField(
        label="Signing secret",
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Webhooks carry a signature made with it. Stored encrypted and not shown again.",
    )

    class Meta:
        model = AlertChannel
        fields = ("name", "kind", "enabled", "allow_private", "quiet_from", "quiet_until", "time_zone")
        widgets = {"quiet_from": UnfoldAdminTimeWidget, "quiet_until": UnfoldAdminTimeWidget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["recipients_text"].initial = "\n".join(self.instance.recipients)
            for name, stored in (
                ("new_address", self.instance.address),
                ("new_signing_secret", self.instance.signing_secret),
            ):
                if stored is not None:
                    self.fields[name].help_text += " One is stored; empty keeps it."

    def _post_clean(self) -> None:
        """The row judges what was entered, and names its own fields."""
        told = self.cleaned_data
        self.instance.recipients = [
            line.strip() for line in told.get("recipients_text", "").splitlines() if line.strip()
        ]
        if told.get("new_address"):
            self.instance.address = told["new_address"]
        if told.get("new_signing_secret"):
            self.instance.signing_secret = told["new_signing_secret"]
        super()._post_clean()

    def add_error(self, field: str | None, error: Any) -> None:
        if field is None and hasattr(error, "error_dict"):
            own = {"recipients": "recipients_text", "address": "new_address", "signing_secret": "new_signing_secret"}
            for name, found in error.error_dict.items():
                super().add_error(own.get(name, name), found)
            return
        super().add_error(field, error)


@admin.register(AlertChannel)
class AlertChannelAdmin(_OfAlerts, SwitchableAdmin):
    form = AlertChannelForm
    list_display = ("title", "where", "quiet", "last", "state")
    list_filter = ("enabled", "kind")
    search_fields = ("name",)
    ordering = ("name",)
    change_form_outer_before_template = "admin/inference/alerts/channel.html"
    fieldsets = (
        (None, {"fields": ("name", "kind", "enabled")}),
        ("Where messages go", {"fields": ("recipients_text", "new_address", "new_signing_secret", "allow_private")}),
        ("Quiet hours", {"fields": ("quiet_from", "quiet_until", "time_zone")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: AlertChannel | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()  # rules name it

    @admin.display(description="Channel", ordering="name")
    def title(self, channel: AlertChannel) -> SafeString:
        return _two_lines(channel.name, KINDS.get(channel.kind, channel.kind))

    @admin.display(description="Goes to")
    def where(self, channel: AlertChannel) -> str:
        if channel.kind == EMAIL:
            return ", ".join(channel.recipients)
        signed = ", signed" if channel.signing_secret is not None else ""
        return f"{channel.host}{signed}" if channel.kind == WEBHOOK else "as its URL says"

    @admin.display(description="Quiet")
    def quiet(self, channel: AlertChannel) -> str:
        if channel.quiet_from is None or channel.quiet_until is None:
            return "never"
        return f"{channel.quiet_from:%H:%M} to {channel.quiet_until:%H:%M} {channel.time_zone}".rstrip()

    @admin.display(description="Last message")
    def last(self, channel: AlertChannel) -> SafeString:
        delivery = channel.deliveries.order_by("-pk").first()
        if delivery is None:
            return cells.EMPTY
        return format_html("{} {}", _state_of(delivery), cells.ago(delivery.sent_at or delivery.created_at))

    @admin.display(description="State", ordering="enabled")
    def state(self, channel: AlertChannel) -> SafeString:
        return cells.on_or_off(channel.enabled)


def _two_lines(first: str, second: str) -> SafeString:
    return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', first, second)


@require_POST
def test_view(request: HttpRequest) -> HttpResponse:
    """Send a test message to the channel `pk`, and say what came of it."""
    if not request.user.has_perm("inference.change_alertchannel"):
        raise PermissionDenied
    channel = get_object_or_404(AlertChannel, pk=_number(request))
    delivery = alert_delivery.send_test(channel, actor.current().name)
    if delivery.state == SENT:
        messages.success(request, "The test message was taken.")
    else:
        messages.error(request, f"The test message was not taken: {delivery.error}")
    return redirect("admin:inference_alertchannel_change", channel.pk)


@require_POST
def acknowledge_view(request: HttpRequest) -> HttpResponse:
    """Somebody looks after the incident `pk`: nobody is reminded any more."""
    if not request.user.has_perm("inference.change_alertrule") or not visibility.sees_everything(request.user):
        raise PermissionDenied
    incident = get_object_or_404(AlertIncident, pk=_number(request))
    incident.acknowledge(actor.current().name, timezone.now())
    messages.success(request, "Nobody is reminded of it any more.")
    return redirect("admin:inference_alertincident_change", incident.pk)


def _number(request: HttpRequest) -> int:
    told = request.POST.get("pk", "")
    return int(told) if told.isdecimal() and len(told) < 19 else 0


pages.register("alerts/test/", "alerts_test", test_view)
pages.register("alerts/acknowledge/", "alerts_acknowledge", acknowledge_view)
