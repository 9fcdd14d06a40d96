"""`/api/v1/saved-views`: searches that are kept under a name. What is made here belongs to nobody, and to everybody or a team."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import saved_views
from inference.models import SavedView
from routing.models import Team

_SCOPES = dict.fromkeys(("GET", "POST", "PATCH", "DELETE"), "admin")


class SavedViewOut(serializers.ModelSerializer):
    owner = serializers.CharField(source="owner.username", default=None, allow_null=True)
    team = serializers.CharField(source="team.name", default=None, allow_null=True)
    address = serializers.SerializerMethodField(help_text="Of the page that shows it.")

    class Meta:
        model = SavedView
        fields = ["id", "page", "name", "query", "owner", "team", "for_everybody", "address", "made_at"]

    def get_address(self, view: SavedView) -> str:
        return saved_views.address(view)


class SavedViewIn(serializers.Serializer):
    page = serializers.ChoiceField(tuple(saved_views.PAGES))
    name = serializers.CharField(max_length=60)
    query = serializers.CharField(max_length=4000, allow_blank=True, help_text="As the page's address has it.")
    team = serializers.CharField(
        max_length=255, required=False, allow_null=True, help_text="A team's name; everybody's, without."
    )

    def validate_team(self, name: str | None) -> Team | None:
        if name is None:
            return None
        team = Team.objects.filter(name=name).first()
        if team is None:
            raise serializers.ValidationError(f"There is no team named {name!r}.")
        return team


class SavedViewsView(APIView):
    required_scopes = _SCOPES

    @extend_schema(responses=SavedViewOut(many=True), operation_id="saved_views_list")
    def get(self, request: Request) -> Response:
        """All views, of everybody."""
        views = SavedView.objects.select_related("owner", "team").filter(page__in=saved_views.PAGES)
        return Response(SavedViewOut(views, many=True).data)

    @extend_schema(request=SavedViewIn, responses={201: SavedViewOut}, operation_id="saved_views_create")
    def post(self, request: Request) -> Response:
        """Keep a view for a team, or for everybody."""
        told = SavedViewIn(data=request.data)
        told.is_valid(raise_exception=True)
        view = SavedView(page=told.validated_data["page"])
        return Response(_kept(view, told.validated_data), 201)


class SavedViewView(APIView):
    required_scopes = _SCOPES

    @extend_schema(request=SavedViewIn, responses=SavedViewOut, operation_id="saved_views_update")
    def patch(self, request: Request, number: str) -> Response:
        """Rename a view, or let it show something else; its page stays."""
        view = _found(number)
        told = SavedViewIn(data=request.data, partial=True)
        told.is_valid(raise_exception=True)
        return Response(_kept(view, told.validated_data))

    @extend_schema(responses={204: None}, operation_id="saved_views_delete")
    def delete(self, request: Request, number: str) -> Response:
        """Forget a view; what it showed is not touched."""
        _found(number).delete()
        return Response(status=204)


def _found(number: str) -> SavedView:
    view = SavedView.objects.filter(pk=int(number), page__in=saved_views.PAGES).first()
    if view is None:
        raise Http404("There is no such view.")
    return view


def _kept(view: SavedView, told: dict[str, Any]) -> dict[str, Any]:
    share = ""
    if "team" in told or view._state.adding:
        share = "everybody" if told.get("team") is None else f"team-{told['team'].pk}"
    try:
        saved_views.keep(view, name=told.get("name", view.name), query=told.get("query"), share=share)
    except ValidationError as error:
        raise serializers.ValidationError(error.message_dict) from error
    return SavedViewOut(view).data
