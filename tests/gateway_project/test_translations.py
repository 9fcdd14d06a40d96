"""The admin speaks the browser's language once somebody translated it; every text of it can be translated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation
from django.utils.translation import trans_real

from gateway_project import languages
from inference import alert_signals
from providers import provider_types
from tests.gateway_project.texts import (
    ROOT,
    Headings,
    is_a_text,
    modules_for_people,
    untranslated_in_module,
    untranslated_in_template,
)

PAGES = [
    "/admin/login/",
    "/admin/",
    "/admin/providers/provider/",
    "/admin/providers/provider/add/?provider_type=openai",
    "/admin/providers/importrun/",
    "/admin/routing/policy/",
    "/admin/routing/clientkey/add/",
    "/admin/routing/budget/add/",
    "/admin/inference/trace/",
    "/admin/inference/alertrule/add/",
    "/admin/spend/",
    "/admin/health/",
]
GERMAN = [("en", "English"), ("de", "Deutsch")]


@pytest.fixture
def german(settings):
    """As if somebody had translated the admin into German; Django's own texts are."""
    settings.LANGUAGES = GERMAN
    yield settings
    translation.activate("en")


def test_a_language_is_there_once_its_catalogue_is(tmp_path: Path) -> None:
    for path in ("de/LC_MESSAGES/django.mo", "pt_BR/LC_MESSAGES/django.mo", "fr/LC_MESSAGES/django.po"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    assert languages.found(tmp_path) == [("en", "English"), ("de", "Deutsch"), ("pt-br", "Português Brasileiro")]
    assert languages.found(tmp_path / "nowhere") == [("en", "English")]


@pytest.mark.django_db
def test_the_admin_speaks_the_browsers_language_and_the_api_english(german) -> None:
    client = Client(headers={"accept-language": "de"})
    client.force_login(User.objects.create_superuser("ada"))
    page = client.get("/admin/password_change/")
    assert '<html lang="de"' in page.text
    assert "Neues Passwort" in page.text
    problem = client.get("/api/v1/providers/")
    assert "Content-Language" not in problem.headers
    assert "Authentication" in problem.text


@pytest.mark.django_db
@pytest.mark.parametrize(("forced", "asked", "lang"), [("de", "en", "de"), ("en", "de", "en"), ("browser", "fr", "en")])
def test_the_installation_may_choose_for_everybody(german, forced: str, asked: str, lang: str) -> None:
    german.GATEWAY_LANGUAGE = forced
    page = Client(headers={"accept-language": asked}).get("/admin/login/")
    assert f'<html lang="{lang}"' in page.text


# Every text can be translated


def test_every_text_of_a_template_can_be_translated() -> None:
    found = [
        finding for path in sorted((ROOT / "templates").rglob("*.html")) for finding in untranslated_in_template(path)
    ]
    assert found == [], "\n" + "\n".join(found)


def test_every_text_of_the_admins_modules_can_be_translated() -> None:
    found = [finding for path in modules_for_people() for finding in untranslated_in_module(path)]
    assert found == [], "\n" + "\n".join(found)


def test_the_checks_see_what_is_not_translated(tmp_path: Path) -> None:
    page, module = tmp_path / "page.html", tmp_path / "admin.py"
    page.write_text(
        '<h1>Seen</h1><p title="Seen too">{{ value }} {% translate "Fine" %}<code>make run</code></p>\n'
        '{% blocktranslate trimmed %}Fine{% endblocktranslate %}{% include "x.html" with title="And this" %}'
    )
    module.write_text(
        'from django import forms\nfrom django.utils.translation import gettext as _\nlabel = forms.CharField(label="Seen")\n'
        'fine = forms.CharField(label=_("Fine"))\nmessages.info(request, f"Seen {fine}")\npill("off", "warn")\n'
        'format_html("<b>{}</b> is seen", 1)\nformat_html("<b class=\\"fine\\">{}</b>", 1)\n'
    )
    assert [finding.split(" | ")[1] for finding in untranslated_in_template(page)] == ["Seen", "Seen too", "And this"]
    assert [finding.split(" | ")[1] for finding in untranslated_in_module(module)] == [
        "Seen", "Seen …", "off", "… is seen",
    ]  # fmt: skip


@pytest.fixture
def bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language that says everything as it stands in the source, in brackets."""

    def wrapping(name: str) -> None:
        real = getattr(trans_real, name)
        monkeypatch.setattr(translation._trans, name, lambda *said: f"⟦{real(*said)}⟧", raising=False)

    for name in ("gettext", "ngettext", "pgettext", "npgettext"):
        wrapping(name)


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_what_heads_a_page_is_translated_where_it_is_shown(bracketed: None, path: str) -> None:
    """Marking a text is not enough: one that is read when its module is imported stays English for everybody."""
    client = Client()
    if path != "/admin/login/":
        client.force_login(User.objects.create_superuser("7"))
    reader = Headings()
    reader.feed(client.get(path).text)
    assert reader.found
    plain = [text for text in reader.found if is_a_text(without_brackets(text)) and not is_told_by_rest(text)]
    assert plain == [], "\n" + "\n".join(plain)


def without_brackets(text: str) -> str:
    """What of it was not translated; one message may stand within another."""
    while (left := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:
        text = left
    return text


def is_told_by_rest(text: str) -> bool:
    """Names of tables, columns, provider parameters and signals: the same wherever they are said, so they stay."""
    plain = without_brackets(text).strip(" *").lower()
    options = [model._meta for model in apps.get_models()]
    names = {str(name) for one in options for name in (one.verbose_name, one.verbose_name_plural)}
    names |= {str(getattr(field, "verbose_name", "")) for one in options for field in one.get_fields()}
    names |= {parameter.label for kind in provider_types.registered().values() for parameter in kind.parameters}
    names |= {signal.title for signal in alert_signals.SIGNALS.values()}
    return plain in {name.lower() for name in names}
