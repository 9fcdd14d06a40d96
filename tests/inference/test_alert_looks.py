from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from inference import alert_looks
from inference.alert_models import AlertChannel, AlertDelivery, AlertIncident

pytestmark = pytest.mark.django_db


def test_the_story_of_an_incident_stands_in_the_order_in_which_it_happened():
    began = timezone.now() - timedelta(hours=1)

    def at(minutes):
        return began + timedelta(minutes=minutes)

    incident = AlertIncident.objects.create(
        condition="error_rate > 5%",
        value=Decimal(1),
        worst=Decimal(9),
        began_at=began,
        told_at=began,
        acknowledged_at=at(5),
        acknowledged_by="user:grace",
        ended_at=at(20),
        acted="took the model out of service",
    )
    channel = AlertChannel.objects.create(name="on-call", kind="email", recipients=["a@example.org"])
    for kind, minutes in (("recovered", 21), ("fired", 1)):
        AlertDelivery.objects.create(
            incident=incident, channel=channel, kind=kind, state="sent", sent_at=at(minutes), attempts=2
        )
    told = alert_looks.story(incident, incident.deliveries.select_related("channel"))
    assert [event.title for event in told] == [
        "It began",
        "The gateway acted",
        "Told",
        "Somebody looks after it",
        "It was over",
        "Told that it is over",
    ]
    assert "2 tries" in told[2].detail
