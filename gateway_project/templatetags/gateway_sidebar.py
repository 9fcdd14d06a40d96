"""The way to a page, in the words of the menu."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.text import capfirst

from gateway_project import sidebar

register = template.Library()


@register.simple_tag
def name_of_list(opts: Any) -> str:
    """What the menu calls the list of a model, else what many of it are called."""
    page = f"admin:{opts.app_label}_{opts.model_name}_changelist"
    return capfirst(sidebar.titles().get(page, opts.verbose_name_plural))


@register.simple_tag
def crumbs(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the Django app, which nobody looks for, and with the menu's name of a list where it has one."""
    named = {reverse(page): title for page, title in sidebar.titles().items()}
    shown = parts[1:] if len(parts) > 1 and str(parts[0].get("link", "")).count("/") == 3 else parts
    return [part | {"title": named.get(str(part.get("link", "")), part["title"])} for part in shown]
