"""Paths of generation. Each answers with and without a slash at its end."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from inference.api import (
    admin_gateway_traces,
    alerts,
    batches,
    cutover,
    files,
    message_batches,
    nowhere,
    rating,
    reports,
    responses,
    retirement,
    route,
    saved_views,
    shadow_pairs,
    traces,
    views,
    workers,
)

_JOB = r"api/v1/jobs/(?P<job_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_FILE = r"v1/files/(?P<file_id>[^/]{1,128})"
_BATCH = r"v1/batches/(?P<batch_id>[^/]{1,128})"
_MESSAGE_BATCH = r"v1/messages/batches/(?P<message_batch_id>[^/]{1,128})"
_RESPONSE = r"v1/responses/(?P<response_id>[^/]{1,128})"
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
    re_path(r"^v1/files/?\Z", files.FilesView.as_view()),
    re_path(rf"^{_FILE}/?\Z", files.FileView.as_view()),
    re_path(rf"^{_FILE}/content/?\Z", files.FileContentView.as_view()),
    re_path(r"^v1/batches/?\Z", batches.BatchesView.as_view()),
    re_path(rf"^{_BATCH}/?\Z", batches.BatchView.as_view()),
    re_path(rf"^{_BATCH}/cancel/?\Z", batches.BatchCancelView.as_view()),
    re_path(r"^v1/messages/batches/?\Z", message_batches.MessageBatchesView.as_view()),
    re_path(rf"^{_MESSAGE_BATCH}/?\Z", message_batches.MessageBatchView.as_view()),
    re_path(rf"^{_MESSAGE_BATCH}/cancel/?\Z", message_batches.MessageBatchCancelView.as_view()),
    re_path(rf"^{_MESSAGE_BATCH}/results/?\Z", message_batches.MessageBatchResultsView.as_view()),
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
    re_path(rf"^{_RESPONSE}/?\Z", responses.ResponseView.as_view()),
    re_path(rf"^{_RESPONSE}/cancel/?\Z", responses.ResponseCancelView.as_view()),
    re_path(rf"^{_RESPONSE}/input_items/?\Z", responses.ResponseInputItemsView.as_view()),
    path("api/v1/", include(router.urls)),
    re_path(r"^v1/", nowhere.NowhereView.as_view()),
]
