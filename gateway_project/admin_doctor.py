"""The doctor in the admin: what is wrong, why it matters, and the way to mend it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from gateway_project.doctor import examining
from gateway_project.doctor.findings import ERROR
from providers import pages
from routing import visibility

MAY_SEE = "providers.view_provider"
TONES = {ERROR: "bad", "warning": "warn", examining.WELL: "good"}
TWINS = (
    (gettext_lazy("The same as a command; it ends with 0, 1 (warnings) or 2 (errors)"), "manage.py doctor --live"),
    (gettext_lazy("For programs"), "manage.py doctor --live --json"),
    (gettext_lazy("Over REST"), 'curl "$GATEWAY/api/v1/doctor?live=true" -H "Authorization: Bearer $ADMIN_KEY"'),
)


def sees(user: Any) -> bool:
    """Findings tell of all teams together."""
    return user.has_perm(MAY_SEE) and visibility.sees_everything(user)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def doctor_view(request: HttpRequest) -> HttpResponse:
    """A GET tells what is quickly seen; a POST also asks those who have to answer."""
    if not sees(request.user):
        raise PermissionDenied
    report = examining.probed() if request.method == "POST" else examining.known()
    context = {
        "report": report,
        "tone": TONES[report.state],
        "findings": [(TONES[finding.level], verdict, finding) for verdict, finding in report.findings],
        "areas": examining.by_area(report.well),
    }
    request.current_app = admin.site.name  # type: ignore[attr-defined]
    if request.headers.get("X-Fragment"):
        return TemplateResponse(request, "admin/doctor/report.html", context)
    return TemplateResponse(
        request,
        "admin/doctor/page.html",
        {**admin.site.each_context(request), "title": _("Doctor"), "twins": TWINS, **context},
    )


pages.register("doctor/", "doctor", doctor_view)
