from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from providers.importers import runs
from providers.importers.findings import CODES, ORPHAN, Finding
from providers.importers.report import FORMAT, VERSION
from providers.importers.tally import STEPS, Findings
from providers.models import ImportFinding, ImportRun, Provider
from tests.providers.importers.scripted import WHOLE, Scripted, apply, do, model, provider

pytestmark = pytest.mark.django_db
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "import-report.md"


def test_it_holds_everything_about_the_run(tmp_path):
    apply(provider(), model("m", max_tokens=1))
    result = apply(provider(), model("m", max_tokens=2), report=tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["format"], report["version"]) == (FORMAT, VERSION)
    assert (report["run"], report["kind"], report["exit_status"]) == (result.run_pk, "apply", 0)
    assert report["source"] == {"label": "scripted://here", "facts": {"engine": "script"}}
    assert report["tables"] == result.tables
    assert report["codes"] == {"updated": 1}
    (finding,) = report["findings"]
    assert finding["changes"] == {"max_tokens": [1, 2]}
    assert finding["level"] == "note"


def test_only_its_owner_may_read_it(tmp_path):
    apply(*WHOLE, report=tmp_path / "r.json")
    assert stat.S_IMODE((tmp_path / "r.json").stat().st_mode) == 0o600


def test_it_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "r.json").write_text("old")
    apply(*WHOLE, report=tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["findings"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_stopped_run_leaves_the_older_one(tmp_path):
    def stopped(provider_id: str) -> None:
        raise KeyboardInterrupt

    (tmp_path / "r.json").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        do(ImportRun.Kind.APPLY, Scripted(list(WHOLE), before_models=stopped), report=tmp_path / "r.json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_done(tmp_path):
    result = apply(*WHOLE, report=tmp_path / "absent" / "r.json")
    assert result.exit_status == 1
    assert "report" in result.message
    assert result.tables == {}


def test_a_folder_in_the_place_of_the_file_is_noticed_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path()):
        result = apply(*WHOLE, report=path)
        assert (result.exit_status, result.message) == (1, "The report cannot be written: Is a directory.")
    assert not Provider.objects.exists()


def test_a_disk_that_is_full_for_the_report_is_told_and_the_import_stays(tmp_path, monkeypatch):
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = apply(*WHOLE, report=tmp_path / "r.json")
    assert result.exit_status == 1
    assert "its report cannot be written: No space left on device." in result.message
    assert ImportRun.objects.get().state == ImportRun.State.DONE
    assert Provider.objects.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_has_a_report_too(tmp_path):
    do(ImportRun.Kind.APPLY, Scripted(list(WHOLE), unread=1), report=tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["exit_status"] == 1
    assert "accounted for" in report["message"]


def test_what_came_afterwards_stands_beside_the_run(tmp_path):
    apply(*WHOLE, report=tmp_path / "r.json", afterwards=lambda result: {"smoke": {"status": result.exit_status}})
    assert json.loads((tmp_path / "r.json").read_text())["smoke"] == {"status": 0}


def test_texts_that_no_file_takes_are_made_printable(tmp_path):
    odd = Finding("models", "half \ud800 and \0", "", ORPHAN, "rejected", "No provider.")
    result = do(ImportRun.Kind.APPLY, Scripted([], rejected=[odd]), report=tmp_path / "r.json")
    assert result.exit_status == 2
    assert json.loads((tmp_path / "r.json").read_text())["findings"][0]["key"] == "half ? and \N{REPLACEMENT CHARACTER}"
    assert ImportFinding.objects.get().key == "half ? and \N{REPLACEMENT CHARACTER}"


def test_findings_can_be_read_while_more_are_made():
    findings = Findings()
    for number in range(3):
        findings.add(Finding("t", str(number), "", ORPHAN, "rejected", ""))
        position, last = list(findings.since())[-1]
        assert last["key"] == str(number)
    findings.add(Finding("t", "new", "", ORPHAN, "rejected", ""))
    assert [finding["key"] for _, finding in findings.since(position)] == ["new"]
    assert (len(findings), findings.for_a_person) == (4, 4)
    findings.close()


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_documented_with_its_level(code):
    documented = DOCUMENT.read_text().splitlines()
    assert f"| `{code}` | {CODES[code].level} | {CODES[code].meaning} |" in documented


def test_every_member_of_a_report_is_documented(tmp_path):
    apply(provider(), model("m"))
    apply(provider(), model("m", max_tokens=2), report=tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    named = DOCUMENT.read_text()
    members = [*report, *report["findings"][0], *STEPS, *next(iter(report["tables"].values()))]
    assert [member for member in members if f"`{member}`" not in named] == []


def test_it_is_written_though_what_follows_the_run_is_stopped(tmp_path):
    def stopped(result: object) -> dict[str, object]:
        raise KeyboardInterrupt

    run = runs.start(ImportRun.Kind.APPLY, "", actor="user:ada")
    with pytest.raises(KeyboardInterrupt):
        runs.execute(run, lambda: Scripted(list(WHOLE)), report=tmp_path / "r.json", afterwards=stopped)
    assert json.loads((tmp_path / "r.json").read_text())["exit_status"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
