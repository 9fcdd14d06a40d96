"""The admin speaks the browser's language once somebody translated it; every text of it can be translated."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from gateway_project import languages

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
