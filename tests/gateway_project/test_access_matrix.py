"""Every page of the admin times everybody: who may look, who may act. A new page fails here until somebody judged it."""

from dataclasses import dataclass

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpResponse
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, URLResolver, get_resolver, resolve, reverse
from django.utils import timezone

from gateway_project import roles
from inference.models import AlertChannel, AlertIncident, AlertRule, Batch, Job, ShadowPair, Trace
from providers.models import AuditEntry, ImportRun, PriceOverride, Provider, ProviderModel
from routing.models import Budget, ClientKey, Policy, RateLimit, Rollout, RoutingSettings, Team, TeamMember
from routing.teams import MANAGES

pytestmark = pytest.mark.django_db

PEOPLE = {"V": "viewer", "O": "operator", "K": "keys", "F": "finance", "A": "admin", "M": "member", "N": "nobody"}
"""By letters: the five roles, somebody who manages the team `research` and has no role, and somebody with neither."""
ALL = "".join(PEOPLE)
SEERS = "VOFA"


@dataclass(frozen=True)
class May:
    """Who may look and who may act, by letters. Without `act`, a POST does nothing here."""

    look: str
    act: str | None = None


@dataclass(frozen=True)
class Rows:
    look: str
    add: str = ""
    change: str = ""
    delete: str = ""


MODELS = {
    "auth_user": Rows("A", "A", "A", "A"),
    "auth_group": Rows("A", "A", "", ""),  # the row here is one of the five, which nobody changes
    "providers_provider": Rows("VOKFA", "OA", "OA", "OA"),
    "providers_providermodel": Rows("VOKFA", "OA", "OA", "OA"),
    "providers_priceoverride": Rows(SEERS, "OFA", "OFA", "OFA"),
    "providers_importrun": Rows(SEERS, "OA"),
    "providers_auditentry": Rows(SEERS),
    "routing_policy": Rows("VOKFA", "OA", "OA", "OA"),
    "routing_routingsettings": Rows(SEERS, "", "OA", ""),
    "routing_rollout": Rows(SEERS, "", "OA", ""),
    "routing_team": Rows("VOKFAM", "KA", "KA", "KA"),
    "routing_clientkey": Rows("VOKFAM", "KAM", "KAM", "KA"),
    "routing_ratelimit": Rows("VOKFAM", "KA", "KA", "KA"),
    "routing_budget": Rows("VOKFAM", "FA", "FA", "FA"),
    "inference_trace": Rows("VOKFAM"),
    "inference_job": Rows(SEERS),
    "inference_batch": Rows(SEERS),
    "inference_costcorrection": Rows(SEERS),
    "inference_ratingrun": Rows(SEERS),
    "inference_alertincident": Rows(SEERS),
    "inference_alertrule": Rows(SEERS, "OA", "OA", "OA"),
    "inference_alertchannel": Rows(SEERS, "OA", "OA", "OA"),
}
OWN = {
    # The first page shows what somebody sees; everybody may change their own password.
    "index": May(ALL),
    "password_change": May(ALL, ALL),
    "password_change_done": May(ALL),
    "jsi18n": May(ALL),
    "search": May(ALL),
    "doctor": May("VOKFA", "VOKFA"),
    "welcome": May("VOKFA"),
    "welcome_provider": May("", "OA"),
    "welcome_test": May("", "OA"),
    "welcome_key": May("", "KA"),
    "health": May("VOKFA"),
    "health_live": May("VOKFA"),
    "health_reset": May("", "OA"),
    "health_enable": May("", "OA"),
    "select": May("VOKFA", "OA"),
    "stop": May("OA", "OA"),
    "explain": May("VOKFA", "VOKFA"),
    "playground": May("OKAM"),
    "playground-permit": May("", "OKAM"),
    "playground-names": May("OKAM"),
    "playground-keys": May("OKAM"),
    "playground-told": May("OKAM"),
    "playground-decision": May("OKAM"),
    "replay": May("VOKFA", "VOKFA"),
    "auth_user_password_change": May("A", "A"),
    "auth_user_invite": May("", "A"),
    "providers_auditentry_export": May(SEERS),
    "providers_provider_test": May("OA", "OA"),
    "providers_provider_discover": May("OA", "OA"),
    "providers_provider_live": May("VOKFA"),
    "providers_provider_disable": May("OA", "OA"),
    "providers_provider_enable": May("", "OA"),
    "providers_provider_reset": May("", "OA"),
    "providers_provider_release": May("", "A"),
    "providers_importrun_live": May(SEERS),
    "providers_importrun_report": May(SEERS),
    "providers_importrun_next": May("", "OA"),
    "providers_importrun_forget": May("", "OA"),
    "providers_importrun_undo": May("OA", "OA"),
    "routing_policy_explain": May("", "VOKFA"),
    "routing_policy_explain_new": May("", "VOKFA"),
    "routing_policy_override": May("", "OA"),
    "routing_policy_no_override": May("", "OA"),
    "routing_policy_forget_cached": May("", "OA"),
    "routing_policy_restore": May("", "OA"),
    "routing_policy_trial": May("VOKFA"),
    "routing_policy_trial_live": May("VOKFA"),
    "routing_policy_trial_share": May("", "OA"),
    "routing_policy_trial_gate": May("", "OA"),
    "routing_policy_trial_promote": May("", "OA"),
    "routing_policy_trial_stop": May("", "OA"),
    "routing_rollout_live": May(SEERS),
    "routing_rollout_pair": May("OA"),  # what customers wrote
    "routing_rollout_share": May("", "OA"),
    "routing_rollout_back": May("", "OA"),
    "routing_rollout_switch": May("", "OA"),
    "routing_rollout_legacy": May("", "OA"),
    "routing_rollout_shadow": May("", "OA"),
    "routing_clientkey_overview": May("VOKFAM"),
    "routing_clientkey_rotate": May("KAM", "KAM"),
    "routing_clientkey_switch": May("", "KAM"),
    "routing_clientkey_revoke": May("KAM", "KAM"),
    "routing_clientkey_end_overlap": May("", "KAM"),
    "routing_budget_raise": May("FA", "FA"),
    "routing_budget_end_raise": May("", "FA"),
    "routing_budget_usual": May("FA", "FA"),
    "saved-views": May("", "VOKFAM"),  # each their own, of pages that they see
    "inference_batch_cancel": May("", "OA"),
    "inference_batch_file": May("OA"),  # what customers wrote
    "inference_job_cancel": May("", "OA"),
    "inference_job_retry": May("", "OA"),
    "workers": May(SEERS),
    "workers-ask": May("", "OA"),
    "spend": May("VOKFAM"),
    "spend-file": May("VOKFAM"),
    "configuration": May("OA"),
    "configuration_export": May("OA"),
    "configuration_compare": May("", "OA"),
    "configuration_apply": May("", "OA"),
    "alerts_test": May("", "OA"),
    "alerts_acknowledge": May("", "OA"),
}
FOR_ANYBODY = {"login", "logout", "view_on_site", "app_list", "autocomplete", "sso_login", "sso_callback"}
"""Before the login, or nothing but what the other pages decide; autocompletion is asked about in `test_team_access`."""
ONE_OF_A_KIND = {"/admin/routing/rollout/", "/admin/routing/routingsettings/"}
ACTIONS = {"changelist": "look", "history": "look", "change": "change", "add": "add", "delete": "delete"}


def names():
    def walk(patterns):
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            elif pattern.name:
                yield pattern.name

    return sorted(set(walk(next(p for p in get_resolver().url_patterns if str(p.pattern) == "admin/").url_patterns)))


def judged(name):
    """What the tables say of a page; None for nothing."""
    if name in OWN:
        return OWN[name]
    model, _, action = name.rpartition("_")
    if model not in MODELS or action not in ACTIONS:
        return None
    rows = MODELS[model]
    if action in ("changelist", "history"):
        return May(rows.look)
    writers = getattr(rows, ACTIONS[action])
    # A page of what nobody changes answers a POST as it answers a GET.
    return May(rows.look if action == "change" else writers, None if action == "change" and not writers else writers)


@pytest.fixture
def people():
    roles.make()
    found = {letter: User.objects.create_user(name, is_staff=True) for letter, name in PEOPLE.items()}
    for letter, name in PEOPLE.items():
        if name in roles.ROLES:
            found[letter].groups.add(Group.objects.get(name=name))
    TeamMember.objects.create(team=Team.objects.create(name="research"), user=found["M"], role=MANAGES)
    return found


@pytest.fixture
def addresses(people):
    """The address of every page, about a row that belongs to the team `research` where rows do."""
    team, now = Team.objects.get(), timezone.now()
    provider = Provider.objects.create(provider_id="p", provider_type="openai")
    rows = {
        "auth_user": people["V"],
        "auth_group": Group.objects.get(name="viewer"),
        "providers_provider": provider,
        "providers_providermodel": ProviderModel.objects.create(provider=provider, model_id="m"),
        "providers_priceoverride": PriceOverride.objects.create(model_prefix="m", input_cost_per_million=1),
        "providers_importrun": ImportRun.objects.create(kind=ImportRun.Kind.values[0]),
        "providers_auditentry": AuditEntry.objects.first(),
        "routing_policy": Policy.objects.create(name="fast", kind="policy", document={"strategy": "priority"}),
        "routing_routingsettings": RoutingSettings.load(),
        "routing_rollout": Rollout.load(),
        "routing_team": team,
        "routing_clientkey": ClientKey.objects.create(name="app", prefix="gw-1", team=team, scopes=["generate"]),
        "routing_ratelimit": RateLimit.objects.create(subject="team", team=team, requests_per_minute=5),
        "routing_budget": Budget.objects.create(subject="team", team=team, amount=5),
        "inference_trace": Trace.objects.create(request_id="r", at=now, status=200, operation="chat", team_id=team.pk),
        "inference_alertincident": AlertIncident.objects.create(value=1, worst=1, told_at=now),
        "inference_alertrule": AlertRule.objects.create(name="r", signal="error_rate", threshold=1),
        "inference_alertchannel": AlertChannel.objects.create(name="c", kind="email"),
        "inference_batch": Batch.objects.create(owner="gw-1", endpoint="/v1/embeddings", expires_at=now),
        "inference_job": Job.objects.create(owner="gw-1", request={}, model="m"),
    }
    pair = ShadowPair.objects.first()
    found = {}
    for name in names():
        model = max((model for model in rows if name.startswith(f"{model}_")), key=len, default=None)
        pk = (
            pair.pk
            if name == "routing_rollout_pair" and pair
            else getattr(rows[model], "request_id", rows[model].pk)
            if model
            else 1
        )
        for arguments in ([], [pk], [pk, 1]):
            try:
                found[name] = reverse(f"admin:{name}", args=arguments)
                break
            except NoReverseMatch:
                continue
    return found


@pytest.fixture
def browsers(people):
    made = {letter: Client() for letter in people}
    for letter, client in made.items():
        client.force_login(people[letter])
    return made


def test_every_page_was_judged():
    unjudged = [name for name in names() if name not in FOR_ANYBODY and judged(name) is None]
    assert unjudged == []
    assert len(names()) > 100


def answer(person, method, address):
    """Of the view itself, without the middleware that a thousand requests would wait for."""
    request = getattr(RequestFactory(), method)(address)
    request.user, request.session, request._dont_enforce_csrf_checks = person, {}, True
    request._messages = CookieStorage(request)
    found = resolve(address)
    request.resolver_match = found
    try:
        return found.func(request, *found.args, **found.kwargs)
    except PermissionDenied:
        return HttpResponse(status=403)
    except Http404:
        return HttpResponse(status=404)


def test_nobody_is_shown_a_page_or_does_a_thing_that_is_not_theirs(addresses, people):
    wrong, before = [], AuditEntry.objects.count() + LogEntry.objects.count()
    for name, address in addresses.items():
        may = judged(name)
        for letter, person in people.items() if may else ():
            for method, allowed in (("get", may.look), ("post", may.act)):
                if allowed is None or letter in allowed:
                    continue
                with transaction.atomic():
                    response = answer(person, method, address)
                    written = AuditEntry.objects.count() + LogEntry.objects.count()
                    transaction.set_rollback(True)
                if written != before or not refuses(response, method, may):
                    wrong.append((method, name, PEOPLE[letter], response.status_code, written - before))
    assert wrong == []


def refuses(response, method, may):
    """A page without a GET says so before it looks at who asks. What somebody cannot see is not there for them: Django's pages lead
    away from it, and the page of the one row of its kind leads to its list, which is asked about by itself."""
    if response.status_code == 302:
        return response["Location"] == reverse("admin:index") or response["Location"] in ONE_OF_A_KIND
    return response.status_code in (403, 404) or (response.status_code == 405 and method == "get" and not may.look)


def test_what_is_somebodys_is_shown_to_them(addresses, browsers):
    wrong = []
    for name in OWN:
        if not OWN[name].look:
            continue
        letter = OWN[name].look[0]
        response = browsers[letter].get(addresses[name])
        # A missing row is looked for by those alone who may see it.
        if response.status_code not in (200, 302, 404) and not (name.endswith("_live") and response.status_code == 204):
            wrong.append((name, PEOPLE[letter], response.status_code))
    assert wrong == []


def test_the_rows_of_every_table_are_looked_at_and_changed_by_whom_the_table_names(addresses, people):
    wrong = []
    for model_admin in admin.site._registry.values():
        options = model_admin.model._meta
        rows = MODELS.get(f"{options.app_label}_{options.model_name}")
        if rows is None:
            continue
        for letter, person in people.items():
            request = RequestFactory().get("/")
            request.user = User.objects.get(pk=person.pk)
            row = model_admin.get_queryset(request).first()
            found = {
                "look": model_admin.has_view_permission(request, row),
                "add": model_admin.has_add_permission(request),
                "change": model_admin.has_change_permission(request, row),
                "delete": model_admin.has_delete_permission(request, row),
            }
            wrong += [
                (options.label, PEOPLE[letter], right, is_so)
                for right, is_so in found.items()
                if is_so != (letter in getattr(rows, right))
            ]
    assert wrong == []


def test_the_menu_leads_nobody_to_a_page_that_refuses_them(browsers):
    for letter, client in browsers.items():
        page = client.get(reverse("admin:index"))
        links = [
            str(item["link"])
            for group in page.context["sidebar_navigation"]
            for item in group["items"]
            if item["has_permission"]
        ]
        assert links, PEOPLE[letter]
        refusing = [link for link in links if client.get(link).status_code != 200] if letter in "MKN" else []
        assert refusing == [], PEOPLE[letter]
