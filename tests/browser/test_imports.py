"""A person imports a legacy backoffice in a real browser: a real worker reads real databases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from providers.import_runs import ImportFinding, ImportRun
from providers.models import ApiKey, AuditEntry, Provider, ProviderModel
from tests.browser.conftest import Visit
from tests.inference.workers import Worker
from tests.providers.importers.legacy_databases import LegacyDatabase, build

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

A_RUN = re.compile(r"/admin/providers/importrun/(\d+)/change/")


@pytest.fixture
def worker(visit: Visit, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path, tmp_path / "worker.log", queues="housekeeping", concurrency=2).start()
    yield worker
    worker.stop()


@pytest.fixture
def sqlite_backoffice(tmp_path: Path) -> LegacyDatabase:
    return build(f"sqlite:///{tmp_path}/legacy.sqlite3", "bollm", messy=True)


def check(visit: Visit, legacy: LegacyDatabase) -> None:
    """From the empty page to the plan."""
    page = visit.page
    visit.open("/admin/providers/importrun/")
    page.click("text=Check a source")
    page.fill("[name=source_url]", legacy.url)
    page.fill("[name=legacy_keys]", "\n".join(legacy.legacy_keys))
    page.click("button:has-text('Check the source')")
    page.wait_for_url(A_RUN)
    over(page, "Plan")


def over(page: Page, title: str) -> None:
    """The page follows the run and is loaded anew when it has ended; what is below the button has to be there too."""
    expect(page.locator("a:has-text('Download the report')")).to_be_visible()
    page.wait_for_load_state()
    expect(page.locator("body")).to_contain_text(title)


def verdict(page: Page) -> str:
    return page.locator(".gw-verdict .gw-pill").first.inner_text()


def registry() -> list[tuple]:
    """Everything that an import writes, with the keys in the clear."""
    return [
        *Provider.objects.order_by("provider_id").values_list("provider_id", "display_name", "enabled"),
        *ProviderModel.objects.order_by("provider__provider_id", "model_id").values_list("model_id", "max_tokens"),
        *((key.provider.provider_id, key.environment, key.secret.reveal()) for key in ApiKey.objects.order_by("pk")),
    ]


def whole_way(visit: Visit, legacy: LegacyDatabase) -> None:
    page = visit.page
    checksum = legacy.checksum()

    check(visit, legacy)
    assert registry() == [], "a plan writes nothing"
    assert page.locator(".gw-sums .gw-good").count() > 4
    assert page.locator(".gw-sums .gw-bad").count() == 0
    plan = page.locator(".gw-sums tbody").inner_text()

    planned = page.url
    page.click("button:has-text('Apply this plan')")
    page.wait_for_url(lambda url: A_RUN.search(url) is not None and url != planned)
    over(page, "Import")
    assert verdict(page) == "needs a person", "the messy rows do"
    assert page.locator(".gw-sums tbody").inner_text() == plan, "what was planned is what was done"
    applied = ImportRun.objects.get(kind="apply")
    assert set(Provider.objects.values_list("provider_id", flat=True)) == set(legacy.expected.providers)

    with page.expect_download() as download:
        page.click("text=Download the report")
    report = json.loads(Path(download.value.path()).read_text())
    assert (report["run"], len(report["findings"])) == (applied.pk, applied.findings.count())

    page.click("button:has-text('Verify')")
    page.wait_for_url(lambda url: A_RUN.search(url) is not None and f"/{applied.pk}/" not in url)
    over(page, "Verification")
    assert verdict(page) in {"all well", "needs a person"}
    assert not ImportRun.objects.get(kind="verify").findings.filter(code__in=["differs_here", "missing_here"]).exists()

    visit.open(f"/admin/providers/importrun/{applied.pk}/change/")
    page.click("a:has-text('Undo')")
    page.fill("[name=confirmation]", str(applied.pk))
    page.fill("[name=reason]", "imported into the wrong installation")
    page.click("button:has-text('Undo this run')")
    page.wait_for_url(lambda url: A_RUN.search(url) is not None and f"/{applied.pk}/" not in url)
    over(page, "Undo")
    assert registry() == []
    assert AuditEntry.objects.filter(actor="user:ada", reason="imported into the wrong installation").exists()

    assert legacy.checksum() == checksum
    assert visit.outside() == []
    assert visit.errors == []
    told = (*legacy.legacy_keys, *legacy.expected.secrets)
    assert [secret for secret in told for html in visit.pages if secret in html] == []


def test_a_plan_is_read_applied_verified_and_undone(
    visit: Visit, worker: Worker, sqlite_backoffice: LegacyDatabase
) -> None:
    whole_way(visit, sqlite_backoffice)


def test_the_same_from_mariadb_whose_password_is_on_no_page(visit: Visit, worker: Worker, mariadb_url: str) -> None:
    legacy = build(mariadb_url, "both", messy=True)

    whole_way(visit, legacy)

    assert [html for html in visit.pages if legacy.url in html] == []


def test_credentials_are_forgotten_at_the_push_of_a_button(
    visit: Visit, worker: Worker, sqlite_backoffice: LegacyDatabase
) -> None:
    check(visit, sqlite_backoffice)

    visit.page.click("button:has-text('Forget the credentials')")

    expect(visit.page.locator("body")).to_contain_text("The credentials of the source are forgotten.")
    expect(visit.page.locator("a:has-text('Apply this plan…')")).to_be_visible()
    assert ImportRun.objects.get().sealed is None


def test_a_source_that_nobody_serves_ends_in_a_sentence(visit: Visit, worker: Worker) -> None:
    page = visit.page
    visit.open("/admin/providers/importrun/add/")
    page.fill("[name=source_url]", "mysql+pymysql://root:nobody-listens-canary@127.0.0.1:9/bo_admin")
    page.click("button:has-text('Check the source')")
    page.wait_for_url(A_RUN)
    over(page, "Plan")

    assert verdict(page) == "failed"
    expect(page.locator(".gw-verdict")).to_contain_text("Nobody answers there")
    assert [html for html in visit.pages if "nobody-listens-canary" in html] == []


def test_it_works_without_javascript(visit: Visit, worker: Worker, sqlite_backoffice: LegacyDatabase) -> None:
    plain = visit.page.context.browser.new_context(  # type: ignore[union-attr]
        java_script_enabled=False, storage_state=visit.page.context.storage_state()
    )
    page = plain.new_page()

    page.goto(f"{visit.base}/admin/providers/importrun/add/")
    page.fill("[name=source_url]", sqlite_backoffice.url)
    page.click("button:has-text('Check the source')")
    expect(page.locator("a:has-text('Download the report')")).to_be_visible()

    page.locator("#findings select[name=level]").select_option("note")
    page.click("#findings button:has-text('Show')")
    expect(page.locator(".gw-finding-head .gw-warn")).to_have_count(0)
    expect(page.locator(".gw-finding-head").first).to_be_visible()
    plain.close()


def test_no_page_is_wider_than_the_window(visit: Visit) -> None:
    counts = {"rows": 250_120, "imported": 250_000, "merged": 100, "rejected": 20, "left_out": 0, "created": 250_000}
    over = ImportRun.objects.create(
        kind="dry_run",
        state="done",
        exit_status=2,
        for_a_person=1,
        source_label="mysql://a-rather-long-host-name.in-some-zone.example:3306/bo_admin",
        tables={"llm_provider_connection_parameters": counts, "llm_models": counts},
    )
    ImportFinding.objects.create(
        run=over,
        table="llm_provider_connection_parameters",
        key="k" * 300,
        field="connection_params",
        code="differs_from_registry",
        level="person",
        did="kept",
        detail="d" * 400,
        changes={"display_name": ["v" * 300, "w" * 300]},
    )
    waiting = ImportRun.objects.create(kind="dry_run", source_label="sqlite:////legacy.sqlite3")

    for path in (
        "",
        "add/",
        f"{over.pk}/change/",
        f"{over.pk}/change/?level=note",
        f"add/?kind=verify&like={over.pk}",
        f"{waiting.pk}/change/",
    ):
        visit.page.goto(f"{visit.base}/admin/providers/importrun/{path}")  # one that waits asks again and again
        for width in (1440, 390):
            visit.page.set_viewport_size({"width": width, "height": 900})
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path

    assert visit.outside() == []
    assert visit.errors == []
