"""The chat paths of one source system and the embedding paths of another. Each answers with and without a slash at its end."""

from __future__ import annotations

from django.urls import re_path

from inference.api import chat
from inference.api.embed import EmbedView

_VIEWS = {
    "complete": chat.CompleteView,
    "stream": chat.StreamView,
    "send": chat.SendView,
    "select-model": chat.SelectModelView,
    "capabilities": chat.CapabilitiesView,
}

urlpatterns = [
    *(re_path(rf"^api/chat/{path}/?\Z", view.as_view()) for path, view in _VIEWS.items()),
    *(re_path(rf"^{path}/?\Z", EmbedView.as_view()) for path in ("api/v1/embed", "embed", "embeddings")),
]
