from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from routing.api import admin_gateway, admin_gateway_writes
from routing.api.breakers import BreakersView, EnableAgainView, OpenView, ResetView
from routing.api.budgets import Budgets, BudgetStatusView, RaisesView, RaiseView
from routing.api.client_keys import ClientKeys
from routing.api.limits import Limits
from routing.api.me import MeView
from routing.api.policies import Overrides, Policies
from routing.api.rollout import RolloutView
from routing.api.settings import RoutingSettingsView
from routing.api.teams import TeamMembers, Teams
from routing.api.trials import PromoteView, TrialView

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("client-keys", ClientKeys, basename="client-key")
router.register("teams", Teams, basename="team")
router.register("team-members", TeamMembers, basename="team-member")
router.register("limits", Limits, basename="limit")
router.register("budgets", Budgets, basename="budget")
router.register("policies", Policies, basename="policy")
router.register("overrides", Overrides, basename="override")

_ROLLOUT = RolloutView.as_view({"get": "retrieve", "put": "partial_update", "patch": "partial_update"})
_SETTINGS = RoutingSettingsView.as_view({"get": "retrieve", "put": "partial_update", "patch": "partial_update"})

# The node's path comes last: a node may have any name, and `bulk` and `reload` are not meant by it.
_ADMIN_GATEWAY = (
    ("health", admin_gateway.GatewayHealth),
    ("status", admin_gateway.GatewayStatus),
    ("policies", admin_gateway.GatewayPolicies),
    ("node-requirements", admin_gateway.NodeRequirements),
    ("assignments", admin_gateway.Assignments),
    ("validate", admin_gateway.Validate),
    ("test-selection", admin_gateway.TestSelection),
    ("cost-optimization", admin_gateway.CostOptimization),
    ("recommendations/(?P<node>.+?)", admin_gateway.Recommendations),
    ("policies/bulk", admin_gateway_writes.BulkPolicies),
    ("policies/reload", admin_gateway_writes.Reload),
    ("policies/(?P<node>.+?)", admin_gateway_writes.NodePolicy),
)

urlpatterns = [
    path("api/v1/", include(router.urls)),
    re_path(r"^api/v1/policies/(?P<pk>[0-9]{1,18})/trial/?\Z", TrialView.as_view()),
    re_path(r"^api/v1/policies/(?P<pk>[0-9]{1,18})/trial/promote/?\Z", PromoteView.as_view()),
    re_path(r"^api/v1/budgets/(?P<pk>[0-9]{1,18})/status/?\Z", BudgetStatusView.as_view()),
    re_path(r"^api/v1/budgets/(?P<pk>[0-9]{1,18})/raises/?\Z", RaisesView.as_view()),
    re_path(r"^api/v1/budgets/(?P<pk>[0-9]{1,18})/raises/(?P<number>[0-9]{1,18})/?\Z", RaiseView.as_view()),
    re_path(r"^api/v1/me/?\Z", MeView.as_view()),
    re_path(r"^api/v1/breakers/?\Z", BreakersView.as_view()),
    re_path(r"^api/v1/breakers/reset/?\Z", ResetView.as_view()),
    re_path(r"^api/v1/breakers/open/?\Z", OpenView.as_view()),
    re_path(r"^api/v1/breakers/enable/?\Z", EnableAgainView.as_view()),
    re_path(r"^api/v1/rollout/?\Z", _ROLLOUT),
    re_path(r"^api/v1/routing-settings/?\Z", _SETTINGS),
    *(re_path(rf"^api/admin/gateway/{path}/?\Z", view.as_view()) for path, view in _ADMIN_GATEWAY),
]
