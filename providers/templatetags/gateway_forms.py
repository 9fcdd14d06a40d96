"""Form fields where a theme shows them without their label."""

from __future__ import annotations

from django import template
from django.forms import BoundField
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def named(field: BoundField) -> SafeString:
    """The field's widget, called what the head of its column calls it."""
    given = "aria-label" in field.field.widget.attrs
    return field.as_widget(attrs=None if given or field.is_hidden else {"aria-label": field.label})
