"""Errors of the API as RFC 9457 problem documents: `application/problem+json` with the fields at fault."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core import exceptions as django_errors
from django.db import IntegrityError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from providers.actions import AlreadyExists
from providers.ownership import OwnedByFile
from providers.secrets import SecretError
from routing.policy_actions import NoSuchVersion, NotOverridable

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Conflict(exceptions.APIException):
    status_code = 409
    default_detail = "This exists already."
    default_code = "already_exists"


class BodyTooLarge(exceptions.APIException):
    status_code = 413
    default_code = "request_too_large"


class StoredSecretUnreadable(exceptions.APIException):
    status_code = 500
    default_detail = "A stored secret does not open with this gateway's keys; its log says which."
    default_code = "secret_unreadable"


def as_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. What it does not know stays an exception: Django logs it and answers 500."""
    known = _known(error)
    if known is None:
        return None
    set_rollback()
    response = Response(_document(known, context), status=known.status_code, content_type=CONTENT_TYPE)
    for header, value in _headers(known).items():
        response[header] = value
    response.exception = True
    return response


def _known(error: Exception) -> exceptions.APIException | None:
    match error:
        case exceptions.APIException():
            return error
        case Http404():
            return exceptions.NotFound(str(error) or None)
        case django_errors.PermissionDenied():
            return exceptions.PermissionDenied()
        case django_errors.ValidationError():
            return exceptions.ValidationError(getattr(error, "message_dict", None) or error.messages)
        case AlreadyExists():
            return Conflict(str(error))
        case OwnedByFile() | NotOverridable():
            return Conflict(str(error), code=error.code)
        case NoSuchVersion():
            return exceptions.NotFound(str(error))
        case IntegrityError():
            log.info("a write broke a database constraint: %s", type(error.__cause__ or error).__name__)
            return Conflict("The change contradicts what is stored; read the resource again and repeat it.")
        case SecretError():
            log.error("a stored secret does not open: %s", error)
            return StoredSecretUnreadable()
        case django_errors.RequestDataTooBig():
            return BodyTooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes.")
        case RecursionError():
            return exceptions.ParseError("The body is nested too deeply.")
    return None


def _document(error: exceptions.APIException, context: dict[str, Any]) -> dict[str, Any]:
    status = error.status_code
    document: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if isinstance(error, exceptions.ValidationError):
        errors = list(_fields(error.get_full_details()))
        document["detail"] = "; ".join(f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors)
        document["code"] = "invalid"
        document["errors"] = errors
    else:
        document["detail"] = str(error.detail)
        document["code"] = getattr(error.detail, "code", error.default_code)
    request_id = getattr(context.get("request"), "request_id", "")
    return document | ({"request_id": request_id} if request_id else {})


def _fields(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested details, flat: `models[1].context_window`."""
    if isinstance(details, dict) and set(details) == {"message", "code"} and isinstance(details["message"], str):
        yield {"field": _sendable(path), "message": _sendable(details["message"]), "code": str(details["code"])}
    elif isinstance(details, dict):
        for name, inner in details.items():
            if name in {"non_field_errors", "__all__"}:
                here = path
            elif isinstance(name, int):
                here = f"{path}[{name}]"
            else:
                here = f"{path}.{name}" if path else str(name)
            yield from _fields(inner, here)
    elif isinstance(details, list):
        # A list of messages about one field, or one member for each element of a nested list.
        nested = any(not _is_message(item) for item in details)
        for index, item in enumerate(details):
            yield from _fields(item, f"{path}[{index}]" if nested else path)


def _sendable(text: str) -> str:
    """JSON may escape half a character, also in a name that the error repeats; nothing else can carry one."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and set(item) == {"message", "code"} and isinstance(item["message"], str)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        headers["Retry-After"] = f"{error.wait:.0f}"
    return headers
