"""Imports over REST: what each run found and did, its report, and the runs that follow. Credentials go in and never come out."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from providers import actor, import_reports, import_steps, import_summaries, streaming
from providers.import_forms import KINDS, StartForm
from providers.import_runs import ImportRun
from providers.importers import runs
from providers.resources import NewestFirst, ReadOnlyResource, ResourceSerializer


class NotPossible(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "not_possible"


class ImportResource(ResourceSerializer):
    verdict = serializers.SerializerMethodField(help_text="In a word and a sentence, as the pages say it.")
    next_steps = serializers.SerializerMethodField(help_text="Kinds of run that may follow.")
    has_credentials = serializers.SerializerMethodField(help_text="Whether a following run needs none given.")

    class Meta:
        model = ImportRun
        fields = [
            "id",
            "kind",
            "state",
            "verdict",
            "source_label",
            "source_facts",
            "options",
            "actor",
            "created_at",
            "started_at",
            "finished_at",
            "tables",
            "notes",
            "for_a_person",
            "exit_status",
            "message",
            "undoes",
            "undone_at",
            "next_steps",
            "has_credentials",
        ]

    def get_verdict(self, run: ImportRun) -> dict[str, str]:
        told = import_summaries.verdict(run)
        return {"word": str(told.word), "why": str(told.why)}

    def get_next_steps(self, run: ImportRun) -> list[str]:
        return [str(step.kind) for step in import_steps.steps_of(run)] if run.is_over else []

    def get_has_credentials(self, run: ImportRun) -> bool:
        return import_steps.has_secrets(run)


class StartBody(serializers.Serializer):
    kind = serializers.ChoiceField([kind.value for kind in KINDS], default=ImportRun.Kind.DRY_RUN.value)
    source_url = serializers.CharField(
        max_length=2000, help_text="With its credentials; sealed, and never answered with."
    )
    legacy_keys = serializers.ListField(child=serializers.CharField(max_length=5000), required=False, default=list)
    naive_timezone = serializers.CharField(required=False, default="UTC")
    environments = serializers.ListField(child=serializers.CharField(), required=False, default=list)
    only = serializers.ListField(child=serializers.CharField(), required=False, default=list)
    batch_size = serializers.IntegerField(required=False, default=1000)


class NextBody(serializers.Serializer):
    kind = serializers.ChoiceField([kind.value for kind in ImportRun.Kind if kind != ImportRun.Kind.UNDO])


class UndoBody(serializers.Serializer):
    reason = serializers.CharField(max_length=500, help_text="Kept in the audit log.")


class ImportFilter(filters.FilterSet):
    class Meta:
        model = ImportRun
        fields = ["kind", "state"]


class Imports(ReadOnlyResource):
    """Runs that bring a legacy registry over: plan, apply, verify, undo. A worker does each; read it again to see how far it is."""

    queryset = ImportRun.objects.all()
    serializer_class = ImportResource
    required_scopes = {"GET": "registry:read", "POST": "admin"}
    pagination_class = NewestFirst
    filterset_class = ImportFilter

    def etag(self, row: Any) -> str:
        return f'"{row.pk}-{row.state}-{bool(row.undone_at):d}"'

    @extend_schema(request=StartBody, responses={202: ImportResource})
    def create(self, request: Request) -> Response:
        """Begin a dry run, a verification or a delta on a source."""
        body = StartBody(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        form = StartForm(
            {
                **told,
                "legacy_keys": "\n".join(told["legacy_keys"]),
                "environments": ", ".join(told["environments"]),
                "only": ", ".join(told["only"]),
            }
        )
        if not form.is_valid():
            raise serializers.ValidationError({name: [str(one) for one in said] for name, said in form.errors.items()})
        return self._begun(lambda: self._start(form))

    def _start(self, form: StartForm) -> ImportRun:
        import_steps.refuse_while_running()
        name, kind = actor.current().name, form.cleaned_data["kind"]
        return import_steps.begin(runs.start(kind, form.label, actor=name, options=form.options(), for_worker=True))

    @extend_schema(responses={(200, "application/json"): OpenApiResponse(description="Every finding, value by value.")})
    @action(detail=True, filterset_class=None)
    def report(self, request: Request, **kwargs: Any) -> StreamingHttpResponse:
        """The whole report of a run that is over, as its file says it."""
        run = self._run()
        if not run.is_over:
            raise NotPossible("The run is not over: its report comes with its end.")
        parts = streaming.parts_for(request._request, import_reports.pieces(run))
        return StreamingHttpResponse(parts, content_type="application/json")

    @extend_schema(request=NextBody, responses={202: ImportResource})
    @action(detail=True, methods=["post"], url_path="next", url_name="next")
    def following(self, request: Request, **kwargs: Any) -> Response:
        """Apply the plan of a dry run, verify what was applied, bring later changes: with the credentials that are kept."""
        body = NextBody(data=request.data)
        body.is_valid(raise_exception=True)
        run = self._run()
        return self._begun(lambda: import_steps.follow(run, body.validated_data["kind"]))

    @extend_schema(request=UndoBody, responses={202: ImportResource})
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, **kwargs: Any) -> Response:
        """Take the run back: the registry is as it was, but for what somebody edited since."""
        body = UndoBody(data=request.data)
        body.is_valid(raise_exception=True)
        run = self._run()
        return self._begun(lambda: import_steps.take_back(run, body.validated_data["reason"]))

    @extend_schema(request=None, responses=ImportResource)
    @action(detail=True, methods=["post"])
    def forget(self, request: Request, **kwargs: Any) -> Response:
        """Delete the stored address and keys of the source."""
        run = self._run()
        runs.forget_secrets(run)
        return self.shown(run)

    def _run(self) -> ImportRun:
        run: ImportRun = self.get_object()
        return run

    def _begun(self, begin: Any) -> Response:
        try:
            run = begin()
        except (import_steps.NotNow, import_steps.NoSuchStep, import_steps.NoCredentials) as error:
            raise NotPossible(str(error)) from None
        return self.shown(run, status.HTTP_202_ACCEPTED)
