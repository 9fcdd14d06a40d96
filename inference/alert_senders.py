"""How a message reaches each kind of channel. A sender returns when the other side took it, and raises `NotSent` when it did not.

Nothing that is raised holds the channel's address or secret: what is said goes into a table and onto a page.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import smtplib
import time
from collections.abc import Callable
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage

from inference.alert_models import APPRISE, EMAIL, WEBHOOK, AlertChannel, AlertDelivery
from providers import notifying
from providers.addresses import AddressRefused, check_host
from providers.dialling import DialFailed

logger = logging.getLogger("gateway.alerts")

SIGNATURE, DELIVERY = "X-Gateway-Signature", "X-Gateway-Delivery"


class NotSent(Exception):
    """A sentence for the operator. `lasting`: another try will not help before somebody changes something."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


def send(delivery: AlertDelivery) -> None:
    """Raises `NotSent`."""
    channel = delivery.channel
    _SENDERS[channel.kind](channel, delivery)


def _email(channel: AlertChannel, delivery: AlertDelivery) -> None:
    if not settings.EMAIL_HOST:
        raise NotSent("There is no mail server: set GATEWAY_EMAIL_HOST.", lasting=True)
    message = EmailMessage(
        delivery.title,
        delivery.text,
        settings.DEFAULT_FROM_EMAIL,
        channel.recipients,
        # The same for every try, so that a mail program shows a message that came twice once.
        headers={"Message-ID": f"<{delivery.message_id}@llm-gateway>", DELIVERY: str(delivery.message_id)},
    )
    try:
        message.send()
    except smtplib.SMTPAuthenticationError as error:
        raise NotSent("The mail server refused our user name or password.", lasting=True) from error
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"The mail server said {error.smtp_code}.") from error
    except smtplib.SMTPRecipientsRefused as error:
        raise NotSent("The mail server refused every recipient.") from error
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(f"The mail server cannot be reached: {type(error).__name__}.") from error


def _webhook(channel: AlertChannel, delivery: AlertDelivery) -> None:
    try:
        url = channel.check_address()
    except ValidationError as error:
        raise NotSent(" ".join(error.messages), lasting=True) from error
    body = orjson.dumps(document(delivery))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "llm-gateway",
        DELIVERY: str(delivery.message_id),
        "Idempotency-Key": str(delivery.message_id),
    }
    if channel.signing_secret is not None:
        headers[SIGNATURE] = signature(channel.signing_secret.reveal(), body, int(time.time()))
    try:
        status = notifying.post(url, body, headers, allow_private=channel.allow_private)
    except DialFailed as error:
        raise NotSent(str(error)) from error
    if not 200 <= status < 300:
        raise NotSent(f"{url.host} answered with HTTP {status}.", lasting=status in (401, 403, 404, 410))


def signature(secret: str, body: bytes, at: int) -> str:
    """`t=1767225600,v1=…`: the HMAC-SHA256 of the time, a full stop and the body, so that an old message cannot be sent again."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def document(delivery: AlertDelivery) -> dict[str, Any]:
    """What a webhook gets. `text` alone is what Slack and its like show."""
    incident = delivery.incident
    told: dict[str, Any] = {
        "id": str(delivery.message_id),
        "kind": delivery.kind,
        "title": delivery.title,
        "text": f"{delivery.title}\n{delivery.text}",
    }
    if incident is not None:
        told |= {
            "incident": incident.pk,
            "rule": incident.rule_name,
            "condition": incident.condition,
            "subject": incident.subject_name,
            "value": str(incident.value.normalize()),
            "worst": str(incident.worst.normalize()),
            "unit": incident.unit,
            "began_at": incident.began_at.isoformat(),
            "ended_at": incident.ended_at.isoformat() if incident.ended_at else None,
            "acted": incident.acted,
        }
    return told


_LOCAL_SCHEMAS = ("dbus", "glib", "gnome", "growl", "kde", "macosx", "qt", "syslog", "windows")
"""What Apprise would do on this very machine instead of telling anybody."""


def _apprise(channel: AlertChannel, delivery: AlertDelivery) -> None:
    try:
        import apprise
    except ImportError as error:
        raise NotSent("Apprise is not installed: pip install 'llm-gateway[alerts]'.", lasting=True) from error
    assert channel.address is not None
    address = channel.address.reveal().strip()
    if address.partition(":")[0].lower() in _LOCAL_SCHEMAS:
        raise NotSent("This kind of Apprise URL stays on the gateway's own machine.", lasting=True)
    plugin = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if plugin is None:
        raise NotSent("Apprise does not understand the URL.", lasting=True)
    try:
        if host := getattr(plugin, "host", None):
            check_host(host, channel.allow_private)
    except AddressRefused as error:
        raise NotSent(str(error), lasting=True) from error
    plugin.redirects = False  # the host that was judged is the one that is asked, whatever the URL says
    try:
        taken = plugin.notify(body=delivery.text, title=delivery.title)
    except Exception as error:  # a plugin of somebody's, which may raise anything
        raise NotSent(f"Apprise failed: {type(error).__name__}.") from error
    if not taken:
        raise NotSent("Apprise could not deliver it; it does not say why.")


_SENDERS: dict[str, Callable[[AlertChannel, AlertDelivery], None]] = {
    EMAIL: _email,
    WEBHOOK: _webhook,
    APPRISE: _apprise,
}
