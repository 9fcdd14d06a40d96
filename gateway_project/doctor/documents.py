"""A report as REST and `manage.py doctor --json` tell it."""

from __future__ import annotations

from typing import Any

from gateway_project.doctor.examining import Report
from gateway_project.doctor.findings import Finding


def of(report: Report) -> dict[str, Any]:
    return {
        "state": report.state,
        "at": report.at,
        "live": report.live,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [_finding(finding) | {"check": verdict.name} for verdict, finding in report.findings],
        "checks": [
            {
                "name": verdict.name,
                "title": verdict.title,
                "area": verdict.area.lower(),
                "well": not verdict.findings and not verdict.passed_over,
                "seen": verdict.seen,
                "passed_over": verdict.passed_over,
                "took_ms": verdict.took_ms,
            }
            for verdict in report.verdicts
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level,
        "what": finding.what,
        "why": finding.why,
        "since": finding.since,
        "fix": {"text": finding.fix.text, "page": finding.fix.link, "command": finding.fix.command},
    }
