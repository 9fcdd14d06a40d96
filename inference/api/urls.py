"""Paths of generation. Each answers with and without a slash at its end."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from inference.api import (
    admin_gateway_traces,
    alerts,
    cutover,
    rating,
    reports,
    retirement,
    route,
    saved_views,
    shadow_pairs,
    traces,
    views,
    workers,
)

_JOB = r"api/v1/jobs/(?P<job_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_WORKER = r"api/v1/workers/(?P<worker>[^/]{1,255})"

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("alert-rules", alerts.AlertRules, basename="alert-rule")
router.register("alert-channels", alerts.AlertChannels, basename="alert-channel")
router.register("alert-incidents", alerts.AlertIncidents, basename="alert-incident")
router.register("cost-corrections", rating.CostCorrections, basename="cost-correction")
router.register("rating-runs", rating.RatingRuns, basename="rating-run")
router.register("shadow-pairs", shadow_pairs.ShadowPairs, basename="shadow-pair")

urlpatterns = [
    re_path(r"^api/v1/generate/?\Z", views.GenerateView.as_view()),
    re_path(r"^api/v1/route/?\Z", route.RouteView.as_view()),
    re_path(r"^generate/?\Z", views.GenerateView.as_view()),
    re_path(r"^api/llm/gateway/generate/?\Z", views.BackofficeGenerateView.as_view()),
    re_path(r"^api/v1/rollout/figures/?\Z", cutover.RolloutFiguresView.as_view()),
    re_path(r"^api/v1/jobs/?\Z", views.JobsView.as_view()),
    re_path(rf"^{_JOB}/?\Z", views.JobView.as_view()),
    re_path(rf"^{_JOB}/events/?\Z", views.JobEventsView.as_view()),
    re_path(rf"^{_JOB}/cancel/?\Z", views.JobCancelView.as_view()),
    re_path(rf"^{_JOB}/retry/?\Z", views.JobRetryView.as_view()),
    re_path(r"^api/admin/gateway/traces/?\Z", admin_gateway_traces.Traces.as_view()),
    re_path(r"^api/admin/gateway/traces/(?P<trace_id>[^/]{1,128})/?\Z", admin_gateway_traces.Trace.as_view()),
    re_path(r"^api/admin/gateway/metrics/?\Z", admin_gateway_traces.TraceMetrics.as_view()),
    re_path(r"^api/v1/reports/spend/?\Z", reports.SpendView.as_view()),
    re_path(r"^api/v1/reports/savings/?\Z", reports.SavingsView.as_view()),
    re_path(r"^api/v1/reports/latency/?\Z", reports.LatencyView.as_view()),
    re_path(r"^api/v1/retirement/?\Z", retirement.RetirementView.as_view()),
    re_path(r"^api/v1/traces/?\Z", traces.TracesView.as_view()),
    re_path(r"^api/v1/traces/(?P<trace_id>[^/]{1,128})/?\Z", traces.TraceView.as_view()),
    re_path(r"^api/v1/traces/(?P<trace_id>[^/]{1,128})/content/?\Z", traces.TraceContentView.as_view()),
    re_path(r"^api/v1/saved-views/?\Z", saved_views.SavedViewsView.as_view()),
    re_path(r"^api/v1/saved-views/(?P<number>[0-9]{1,18})/?\Z", saved_views.SavedViewView.as_view()),
    re_path(r"^api/v1/workers/?\Z", workers.WorkersView.as_view()),
    re_path(rf"^{_WORKER}/unload/?\Z", workers.UnloadView.as_view()),
    re_path(rf"^{_WORKER}/pause/?\Z", workers.PauseView.as_view()),
    re_path(rf"^{_WORKER}/resume/?\Z", workers.ResumeView.as_view()),
    path("api/v1/", include(router.urls)),
]
