"""Which languages the admin speaks, and where anything but English is spoken at all.

A language is there once `locale/CODE/LC_MESSAGES/django.mo` is. Pages for people follow the browser, or the one that
`GATEWAY_LANGUAGE` names; what programs read stays English whatever a request's `Accept-Language` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.utils.translation import get_language_info
from django.utils.translation import to_language as code_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

OF_THE_BROWSER = "browser"
ENGLISH = ("en", "English")
FOR_PEOPLE = ("/admin/", "/welcome/")


def found(folder: Path) -> list[tuple[str, str]]:
    """English, and each language that a folder of translations holds, under the name that it gives itself."""
    codes = sorted(code_of(catalogue.parent.parent.name) for catalogue in folder.glob("*/LC_MESSAGES/django.mo"))
    return [ENGLISH, *((code, _own_name(code)) for code in codes if code != "en")]


def _own_name(code: str) -> str:
    try:
        return str(get_language_info(code)["name_local"])
    except KeyError:
        return code


class AdminLanguageMiddleware(LocaleMiddleware):
    """Django's, for the pages that people read; everywhere else it is English that is spoken."""

    def process_request(self, request: HttpRequest) -> None:
        if not request.path_info.startswith(FOR_PEOPLE):
            _speak(request, "en")
        elif settings.GATEWAY_LANGUAGE != OF_THE_BROWSER:
            _speak(request, settings.GATEWAY_LANGUAGE)
        else:
            super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path_info.startswith(FOR_PEOPLE):
            return super().process_response(request, response)
        return response


def _speak(request: HttpRequest, code: str) -> None:
    translation.activate(code)
    request.LANGUAGE_CODE = code  # type: ignore[attr-defined]
