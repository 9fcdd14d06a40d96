"""How the admin looks before any page is drawn: its colours, its stylesheets, its mark. Read by the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from django.templatetags.static import static

if TYPE_CHECKING:
    from django.http import HttpRequest

INK = {
    "50": "246 248 249",
    "100": "237 241 243",
    "200": "222 229 232",
    "300": "197 207 212",
    "400": "148 163 171",
    "500": "94 110 119",
    "600": "72 88 96",
    "700": "50 64 72",
    "800": "32 43 49",
    "900": "20 28 33",
    "950": "12 18 21",
}
"""Greys with a little of the sea in them. 500 on white reads at 5.3 : 1, 400 on 900 at 6.6 : 1."""

TEAL = {
    "50": "240 253 250",
    "100": "204 251 241",
    "200": "153 246 228",
    "300": "94 234 212",
    "400": "45 212 191",
    "500": "20 184 166",
    "600": "15 118 110",
    "700": "17 94 89",
    "800": "19 78 74",
    "900": "9 62 60",
    "950": "4 47 46",
}
"""600 is one step darker than the palette that it comes from: white text on it reads at 5.5 : 1."""

_STYLES = (
    *(
        "tokens",
        "shell",
        "login_side",
        "base",
        "charts",
        "dashboard",
        "doctor",
        "providers",
        "models",
        "policies",
        "explain",
        "health",
    ),
    *("playground", "traces", "spend", "alerts", "jobs", "keys", "limits", "imports", "cutover", "configuration"),
)
"""What all pages are built of first, then a file for each room; all small, and kept by browsers."""


def _static(path: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(path)


STYLESHEETS = [_static(f"gateway/css/{name}.css") for name in _STYLES]
SCRIPTS = [_static(f"gateway/{name}.js") for name in ("admin", "names")]
FAVICON = _static("gateway/favicon.svg")
SEARCHED = [
    *("providers.provider", "providers.providermodel", "routing.policy", "routing.clientkey", "routing.team"),
    *("routing.budget", "auth.user"),
]
"""Whose rows the search box finds by name; what grows without end is not among them."""


def environment(request: HttpRequest) -> list[str]:
    """Whose keys and parameters are used, as a label in the header."""
    name = settings.GATEWAY_ENVIRONMENT
    return [name, {"production": "danger", "staging": "warning"}.get(name, "info")]
