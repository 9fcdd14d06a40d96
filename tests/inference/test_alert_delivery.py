"""Messages on their way: taken once, tried again, never with a secret in what is said of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import smtplib
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from inference import alert_delivery, alert_senders
from inference.alert_models import SENT, WAITING, AlertChannel, AlertDelivery, AlertIncident

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning"),  # of Apprise, when it loads its plugins
]

TOKEN = "very-secret-token-of-a-webhook"
NOW = timezone.now()


class Receiver(ThreadingHTTPServer):
    """A webhook that remembers what it got and answers with `statuses` in turn, then with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.location = "http://169.254.169.254/"
        self.url = f"http://127.0.0.1:{self.server_port}/hook?token={TOKEN}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("location", self.server.location)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def webhook(url: str, **changed: Any) -> AlertChannel:
    made = AlertChannel(name="hook", kind="webhook", address=url, allow_private=True, **changed)
    made.full_clean()
    made.save()
    return made


def message(channel: AlertChannel, kind: str = "fired", incident: AlertIncident | None = None) -> AlertDelivery:
    incident = incident or AlertIncident.objects.create(
        rule_name="slow",
        subject="",
        subject_name="the gateway",
        value=Decimal(12),
        worst=Decimal(12),
        unit="s",
        told_at=NOW,
    )
    return AlertDelivery.objects.create(
        channel=channel,
        incident=incident,
        kind=kind,
        title="[Alert] slow",
        text="It is slow.",
        due_at=NOW,
        created_at=NOW,
    )


def test_a_webhook_gets_a_signed_document_once(receiver: Receiver) -> None:
    delivery = message(webhook(receiver.url, signing_secret="shared"))
    assert alert_delivery.send_due(NOW) == 1
    assert alert_delivery.send_due(NOW) == 0
    [(path, headers, body)] = receiver.got
    assert path == f"/hook?token={TOKEN}"
    told = json.loads(body)
    assert (told["rule"], told["value"], told["unit"], told["kind"]) == ("slow", "12", "s", "fired")
    at, _, signed = headers["x-gateway-signature"].removeprefix("t=").partition(",v1=")
    assert signed == hmac.new(b"shared", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["x-gateway-delivery"] == headers["idempotency-key"] == str(delivery.message_id)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error) == (SENT, "")


def test_what_was_not_taken_is_tried_again_later_with_the_same_id(receiver: Receiver) -> None:
    delivery = message(webhook(receiver.url))
    receiver.statuses = [503]
    assert alert_delivery.send_due(NOW) == 0
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (WAITING, 1)
    assert delivery.error == "127.0.0.1 answered with HTTP 503."
    assert alert_delivery.send_due(NOW + timedelta(seconds=14)) == 0
    assert alert_delivery.send_due(NOW + timedelta(seconds=15)) == 1
    first, second = receiver.got
    assert first[1]["x-gateway-delivery"] == second[1]["x-gateway-delivery"]


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    message(webhook(receiver.url))
    receiver.statuses = [307]
    assert alert_delivery.send_due(NOW) == 0
    assert AlertDelivery.objects.get().error == "127.0.0.1 answered with HTTP 307."


def test_an_end_is_not_told_before_the_beginning(receiver: Receiver) -> None:
    fired = message(webhook(receiver.url))
    message(fired.channel, "recovered", fired.incident)
    receiver.statuses = [500]
    alert_delivery.send_due(NOW)
    alert_delivery.send_due(NOW + timedelta(minutes=1))
    assert [json.loads(body)["kind"] for _, _, body in receiver.got] == ["fired", "fired", "recovered"]


def test_after_three_days_it_is_given_up_and_says_why(receiver: Receiver) -> None:
    message(webhook(receiver.url))
    receiver.statuses = [500]
    alert_delivery.send_due(NOW + timedelta(days=3))
    assert AlertDelivery.objects.get().state == alert_delivery.GAVE_UP


def test_a_message_whose_sender_died_is_sent_after_its_lease(receiver: Receiver) -> None:
    delivery = message(webhook(receiver.url))
    AlertDelivery.objects.update(leased_until=NOW + timedelta(seconds=60))
    assert alert_delivery.send_one(delivery.pk, NOW) is False
    assert alert_delivery.send_due(NOW + timedelta(seconds=61)) == 1


def test_a_message_whose_turn_comes_late_in_its_batch_is_sent_by_nobody_else(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, began = message(webhook(receiver.url)), timezone.now() - timedelta(minutes=2)
    AlertDelivery.objects.update(due_at=began)
    sent: list[int] = []

    def send(one: AlertDelivery) -> None:
        sent.append(one.pk)
        if len(sent) == 1:
            alert_delivery.send_due(timezone.now())

    monkeypatch.setattr(alert_delivery, "send", send)
    assert alert_delivery.send_due(began) == 1
    assert sent == [delivery.pk]


def test_a_channel_that_is_off_waits(receiver: Receiver) -> None:
    message(webhook(receiver.url, enabled=False))
    assert alert_delivery.send_due(NOW) == 0
    assert AlertDelivery.objects.get().state == WAITING


@pytest.mark.parametrize(
    ("url", "allow_private"),
    [
        ("http://169.254.169.254/latest", True),
        ("http://127.0.0.1:1/", False),
        ("ftp://example.com/", True),
        ("http://user:secret@example.com/", True),
    ],
)
def test_addresses_that_nobody_may_dial_are_refused_by_the_form(url: str, allow_private: bool) -> None:
    channel = AlertChannel(name="bad", kind="webhook", address=url, allow_private=allow_private)
    with pytest.raises(Exception, match="address") as refused:
        channel.full_clean()
    assert "secret" not in str(refused.value)


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_dialled(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = webhook(receiver.url.replace("127.0.0.1", "hooks.example.com"))
    AlertChannel.objects.update(allow_private=False)
    monkeypatch.setattr("providers.dialling._look_up", lambda host, port: ["127.0.0.1"])
    message(channel)
    alert_delivery.send_due(NOW)
    assert receiver.got == []
    assert "private" in AlertDelivery.objects.get().error


def test_of_several_workers_one_sends(transactional_db: None, receiver: Receiver) -> None:
    message(webhook(receiver.url))
    start = threading.Barrier(4)

    def send() -> None:
        try:
            start.wait()
            alert_delivery.send_due(NOW)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=send) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(receiver.got) == 1


def email() -> AlertChannel:
    return AlertChannel.objects.create(name="mail", kind="email", recipients=["ops@example.com"])


def test_mail_goes_out_with_an_id_that_stays(settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.com"
    delivery = message(email())
    assert alert_delivery.send_due(NOW) == 1
    [sent] = mail.outbox
    assert (sent.to, sent.subject, sent.body) == (["ops@example.com"], "[Alert] slow", "It is slow.")
    assert str(delivery.message_id) in sent.extra_headers["Message-ID"]


def test_without_a_mail_server_the_message_says_what_to_set() -> None:
    message(email())
    alert_delivery.send_due(NOW)
    assert "GATEWAY_EMAIL_HOST" in AlertDelivery.objects.get().error


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (smtplib.SMTPAuthenticationError(535, b"password hunter2 is wrong"), "user name or password"),
        (smtplib.SMTPDataError(554, b"no"), "said 554"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_a_mail_server_says_is_told_without_its_text(
    settings: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str
) -> None:
    settings.EMAIL_HOST = "mail.example.com"

    def fail(self: Any) -> None:
        raise failure

    monkeypatch.setattr(alert_senders.EmailMessage, "send", fail)
    message(email())
    alert_delivery.send_due(NOW)
    error = AlertDelivery.objects.get().error
    assert said in error
    assert "hunter2" not in error


def apprise_channel(url: str, **changed: Any) -> AlertChannel:
    return AlertChannel.objects.create(name="apprise", kind="apprise", address=url, **changed)


def test_apprise_delivers_to_what_it_knows(receiver: Receiver) -> None:
    url = f"json://127.0.0.1:{receiver.server_port}/{TOKEN}"
    message(apprise_channel(url, allow_private=True))
    assert alert_delivery.send_due(NOW) == 1
    assert json.loads(receiver.got[0][2])["title"] == "[Alert] slow"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("syslog://", "own machine"),
        (" Syslog://", "own machine"),
        ("json://127.0.0.1/", "private"),
        ("nothing-like-this://x", "does not understand"),
    ],
)
def test_what_apprise_must_not_or_cannot_do(url: str, said: str) -> None:
    message(apprise_channel(url))
    alert_delivery.send_due(NOW)
    assert said in AlertDelivery.objects.get().error


def test_apprise_is_led_nowhere_else(receiver: Receiver) -> None:
    receiver.statuses, receiver.location = [307], f"http://127.0.0.1:{receiver.server_port}/elsewhere"
    message(apprise_channel(f"json://127.0.0.1:{receiver.server_port}/hook?redirect=yes", allow_private=True))
    alert_delivery.send_due(NOW)
    assert [path for path, *_ in receiver.got] == ["/hook"]


def test_a_test_message_tells_at_once_whether_it_was_taken(receiver: Receiver) -> None:
    channel = webhook(receiver.url)
    assert alert_delivery.send_test(channel, "ada").state == SENT
    receiver.statuses = [404]
    failed = alert_delivery.send_test(channel, "ada")
    assert (failed.state, failed.error) == (alert_delivery.GAVE_UP, "127.0.0.1 answered with HTTP 404.")


def test_nothing_that_is_kept_or_logged_holds_the_secret(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    channel = webhook(receiver.url, signing_secret=TOKEN)
    receiver.shutdown()
    receiver.server_close()
    message(channel)
    alert_delivery.send_due(NOW)
    stored = [str(row) for model in (AlertChannel, AlertDelivery) for row in model.objects.values()]
    assert TOKEN not in caplog.text + repr(channel.facts()) + "".join(stored)


def test_apprise_and_what_it_dials_with_log_no_address(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    message(apprise_channel(f"json://127.0.0.1:{receiver.server_port}/{TOKEN}", allow_private=True))
    alert_delivery.send_due(NOW)
    assert TOKEN in receiver.got[0][0]
    assert TOKEN not in caplog.text


def test_old_incidents_are_forgotten_with_their_messages(receiver: Receiver) -> None:
    delivery = message(webhook(receiver.url))
    AlertIncident.objects.update(ended_at=NOW - timedelta(days=91))
    alert_delivery.forget_old(NOW)
    assert not AlertDelivery.objects.filter(pk=delivery.pk).exists()
