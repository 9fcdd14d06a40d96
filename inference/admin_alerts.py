"""Alerts in the admin: what happened, what is watched and who is told."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from inference import alert_delivery, alert_looks
from inference.alert_forms import TOLD_FOR, AlertChannelForm, AlertRuleForm
from inference.alert_models import EMAIL, KINDS, SENT, WAITING, WEBHOOK, AlertChannel, AlertIncident, AlertRule
from inference.alert_signals import ACTIONS, SIGNALS, amount
from providers import actor, cells, pages
from providers.tables import ReadOnlyAdmin, SwitchableAdmin
from routing import visibility

_TABS = (
    (gettext_lazy("Incidents"), "inference_alertincident", "inference.view_alertincident"),
    (gettext_lazy("Rules"), "inference_alertrule", "inference.view_alertrule"),
    (gettext_lazy("Channels"), "inference_alertchannel", "inference.view_alertchannel"),
)
_KEY = '-H "Authorization: Bearer $KEY"'
_JSON = '-H "Content-Type: application/json"'


def _twins(request: HttpRequest, incident: AlertIncident | None = None) -> list[tuple[str, str]]:
    number = incident.pk if incident is not None else 1
    base, http = request.build_absolute_uri("/api/v1"), _("The same over HTTP")
    rule = '{"name": "slow", "signal": "average_latency", "threshold": "10", "told_for": "provider"}'
    return [
        (_("Incidents under way"), "python manage.py alerts"),
        (http, f'curl {_KEY} "{base}/alert-incidents?open=true"'),
        (_("A rule"), f"curl -X POST {_KEY} {_JSON} \\\n  -d '{rule}' {base}/alert-rules"),
        (_("The rules"), "python manage.py alerts --rules"),
        (_("Rules in a file"), "python manage.py export_config alerts.yaml --sections alerts"),
        (_("Look after an incident"), f"python manage.py alerts --acknowledge {number}"),
        (http, f"curl -X POST {_KEY} {base}/alert-incidents/{number}/acknowledge"),
        (_("Test a channel"), "python manage.py alerts --test on-call"),
        (http, f"curl -X POST {_KEY} {base}/alert-channels/1/test"),
    ]


class _OfAlerts:
    """The three lists are one place: each leads to the others."""

    list_before_template = "admin/inference/alerts/list_before.html"
    list_after_template = "gateway/twins.html"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        tabs = [
            (title, reverse(f"admin:{name}_changelist"), name == f"inference_{self.model._meta.model_name}")  # type: ignore[attr-defined]
            for title, name, permission in _TABS
            if request.user.has_perm(permission)
        ]
        shown = {"alert_tabs": tabs, "twins": _twins(request), "alerts_of": self.model._meta.model_name}  # type: ignore[attr-defined]
        shown["no_channel"] = not AlertChannel.objects.filter(enabled=True).exists()
        shown["no_rule"] = not AlertRule.objects.exists()
        if visibility.sees_everything(request.user):
            shown["under_way"] = AlertIncident.objects.filter(ended_at__isnull=True).count()
        return super().changelist_view(request, {**shown, **(extra_context or {})})  # type: ignore[misc]


class UnderWay(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", gettext_lazy("under way")), ("over", gettext_lazy("over"))]

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
            deliveries = list(incident.deliveries.select_related("channel").order_by("pk"))
            shown = {
                "incident": incident,
                "title": f"{incident.rule_name}: {incident.subject_name}",
                "incident_state": alert_looks.state(incident),
                "lasted": alert_looks.lasted(incident),
                "story": alert_looks.story(incident, deliveries),
                "reading_now": incident.amount(incident.value),
                "reading_worst": incident.amount(incident.worst),
                "nobody_told": not deliveries,
                "twins": _twins(request, incident),
                "may_acknowledge": not incident.is_over
                and incident.acknowledged_at is None
                and request.user.has_perm("inference.change_alertrule"),
            }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    @admin.display(description=gettext_lazy("Incident"))
    def title(self, incident: AlertIncident) -> SafeString:
        return alert_looks.two_lines(incident.subject_name, incident.rule_name)

    @admin.display(description=gettext_lazy("State"))
    def state(self, incident: AlertIncident) -> SafeString:
        return alert_looks.state(incident)

    @admin.display(description=gettext_lazy("Reading"))
    def reading(self, incident: AlertIncident) -> SafeString:
        return alert_looks.reading(incident)

    @admin.display(description=gettext_lazy("Began"), ordering="began_at")
    def began(self, incident: AlertIncident) -> SafeString:
        return cells.ago(incident.began_at)

    @admin.display(description=gettext_lazy("Lasted"))
    def lasted(self, incident: AlertIncident) -> str:
        return alert_looks.lasted(incident)

    @admin.display(description=gettext_lazy("Messages"))
    def told(self, incident: Any) -> SafeString:
        waiting = cells.pill(_("%(count)d waiting") % {"count": incident.waiting}, "warn") if incident.waiting else ""
        return format_html("{} {}", _("%(count)d sent") % {"count": incident.sent}, waiting)


@admin.register(AlertRule)
class AlertRuleAdmin(_OfAlerts, SwitchableAdmin):
    form = AlertRuleForm
    list_display = ("title", "condition_cell", "for_whom", "tells", "state")
    list_filter = ("enabled", "signal")
    search_fields = ("name", "description")
    search_help_text = gettext_lazy("Search by name or description")
    ordering = ("name",)
    show_add_link = False
    change_form_outer_before_template = "admin/inference/alerts/rule.html"
    fieldsets = (
        (None, {"fields": ("name", "description", "enabled")}),
        (
            gettext_lazy("What is watched"),
            {"fields": ("signal", "threshold", "told_for", "window_minutes", "least_requests", "recover_minutes")},
        ),
        (gettext_lazy("Who is told, and what is done"), {"fields": ("channels", "remind_minutes", "action")}),
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

    @admin.display(description=gettext_lazy("Rule"), ordering="name")
    def title(self, rule: AlertRule) -> SafeString:
        return alert_looks.two_lines(rule.name, rule.description)

    @admin.display(description=gettext_lazy("Fires when"), ordering="signal")
    def condition_cell(self, rule: AlertRule) -> str:
        return (
            rule.condition
            if rule.signal in SIGNALS
            else (_("%(signal)s: there is no such signal") % {"signal": rule.signal})
        )

    @admin.display(description=gettext_lazy("Told for"))
    def for_whom(self, rule: AlertRule) -> str:
        return TOLD_FOR.get(rule.told_for, rule.told_for)

    @admin.display(description=gettext_lazy("Tells"))
    def tells(self, rule: AlertRule) -> SafeString:
        there = self._channels_that_are_on
        told = [
            format_html("{}", name)
            if name in there
            else cells.pill(_("%(name)s is missing") % {"name": name}, "warn", _("No such channel is on."))
            for name in rule.channels
        ] or [format_html("{}", _("every channel"))]
        if rule.action:
            told.append(cells.pill(ACTIONS[rule.action], "warn"))
        return format_html_join(", ", "{}", ((one,) for one in told))

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, rule: Any) -> SafeString:
        if not rule.enabled:
            return cells.pill(_("off"))
        if rule.under_way:
            return cells.pill(_("%(count)d under way") % {"count": rule.under_way}, "bad")
        return cells.pill(_("watching"), "good")


@admin.register(AlertChannel)
class AlertChannelAdmin(_OfAlerts, SwitchableAdmin):
    form = AlertChannelForm
    list_display = ("title", "where", "quiet", "last", "state", "test_cell")
    list_filter = ("enabled", "kind")
    search_fields = ("name",)
    search_help_text = gettext_lazy("Search by name")
    ordering = ("name",)
    show_add_link = False
    change_form_outer_before_template = "admin/inference/alerts/channel.html"
    fieldsets = (
        (None, {"fields": ("name", "kind", "enabled")}),
        (
            gettext_lazy("Where messages go"),
            {"fields": ("recipients_text", "new_address", "new_signing_secret", "allow_private")},
        ),
        (gettext_lazy("Quiet hours"), {"fields": ("quiet_from", "quiet_until", "time_zone")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: AlertChannel | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()  # rules name it

    @admin.display(description=gettext_lazy("Channel"), ordering="name")
    def title(self, channel: AlertChannel) -> SafeString:
        return alert_looks.two_lines(channel.name, KINDS.get(channel.kind, channel.kind))

    @admin.display(description=gettext_lazy("Goes to"))
    def where(self, channel: AlertChannel) -> str:
        if channel.kind == EMAIL:
            return ", ".join(channel.recipients)
        if channel.kind != WEBHOOK:
            return _("as its URL says")
        return f"{channel.host}, {_('signed')}" if channel.signing_secret is not None else channel.host

    @admin.display(description=gettext_lazy("Quiet"))
    def quiet(self, channel: AlertChannel) -> str:
        if channel.quiet_from is None or channel.quiet_until is None:
            return _("never")
        return f"{channel.quiet_from:%H:%M} – {channel.quiet_until:%H:%M} {channel.time_zone}".rstrip()

    @admin.display(description=gettext_lazy("Last message"))
    def last(self, channel: AlertChannel) -> SafeString:
        delivery = channel.deliveries.order_by("-pk").first()
        if delivery is None:
            return cells.EMPTY
        return format_html("{} {}", alert_looks.state_of(delivery), cells.ago(delivery.sent_at or delivery.created_at))

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, channel: AlertChannel) -> SafeString:
        return cells.on_or_off(channel.enabled)

    @admin.display(description=gettext_lazy("Try it"))
    def test_cell(self, channel: AlertChannel) -> SafeString:
        """The list is one form: the button sends it elsewhere, so it works without scripts."""
        return format_html(
            '<button class="gw-button" formaction="{}" name="pk" value="{}" aria-label="{}">{}</button>',
            reverse("admin:alerts_test"),
            channel.pk,
            _("Send a test message to %(channel)s") % {"channel": channel.name},
            _("Test"),
        )

    def get_list_display(self, request: HttpRequest) -> Any:
        return self.list_display if self.has_change_permission(request) else self.list_display[:-1]


@require_POST
def test_view(request: HttpRequest) -> HttpResponse:
    """Send a test message to the channel `pk`, and say what came of it."""
    if not request.user.has_perm("inference.change_alertchannel"):
        raise PermissionDenied
    channel = get_object_or_404(AlertChannel, pk=_number(request))
    delivery = alert_delivery.send_test(channel, actor.current().name)
    if delivery.state == SENT:
        messages.success(request, _("The test message was taken."))
    else:
        messages.error(request, _("The test message was not taken: %(why)s") % {"why": delivery.error})
    return redirect("admin:inference_alertchannel_change", channel.pk)


@require_POST
def acknowledge_view(request: HttpRequest) -> HttpResponse:
    """Somebody looks after the incident `pk`: nobody is reminded any more."""
    if not request.user.has_perm("inference.change_alertrule") or not visibility.sees_everything(request.user):
        raise PermissionDenied
    incident = get_object_or_404(AlertIncident, pk=_number(request))
    incident.acknowledge(actor.current().name, timezone.now())
    messages.success(request, _("Nobody is reminded of it any more."))
    return redirect("admin:inference_alertincident_change", incident.pk)


def _number(request: HttpRequest) -> int:
    told = request.POST.get("pk", "")
    return int(told) if told.isdecimal() and len(told) < 19 else 0


pages.register("alerts/test/", "alerts_test", test_view)
pages.register("alerts/acknowledge/", "alerts_acknowledge", acknowledge_view)
