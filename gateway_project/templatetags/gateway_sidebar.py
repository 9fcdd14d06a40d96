"""The way to a page, in the words of the menu."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

from gateway_project import sidebar

register = template.Library()


@register.simple_tag
def crumbs(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the Django app, which nobody looks for, and with the menu's name of a list where it has one."""
    named = {reverse(item.url_name): item.title for _, items in sidebar.GROUPS for item in items}
    shown = parts[1:] if len(parts) > 1 and str(parts[0].get("link", "")).count("/") == 3 else parts
    return [part | {"title": named.get(str(part.get("link", "")), part["title"])} for part in shown]
