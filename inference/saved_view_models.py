"""Searches that somebody keeps under a name."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from routing.models import Team


class SavedView(models.Model):
    """The filters of one page, for its owner, for a team or for everybody. One without an owner was made over REST or by a command.

    `query` holds only what the page's own form took when it was saved; see `inference.saved_views`.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="saved_views"
    )
    page = models.CharField(max_length=16)
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2000, blank=True)
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="saved_views", help_text="Whose it is too."
    )
    for_everybody = models.BooleanField(default=False)
    is_default = models.BooleanField(default=False, help_text="Its owner's page begins with it.")
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "page", "name"], name="view_named_once"),
            models.UniqueConstraint(
                fields=["page", "name"], condition=models.Q(owner=None), name="view_of_nobody_named_once"
            ),
            models.UniqueConstraint(
                fields=["owner", "page"], condition=models.Q(is_default=True), name="one_default_view"
            ),
            models.CheckConstraint(
                condition=models.Q(for_everybody=False) | models.Q(team=None), name="view_shared_one_way"
            ),
        ]

    def __str__(self) -> str:
        return self.name
