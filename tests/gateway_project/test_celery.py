from celery.signals import worker_ready

from gateway_project.celery import QUEUES, app
from inference import process_list


def test_a_worker_that_is_told_no_queue_serves_all():
    assert set(app.amqp.queues.consume_from) == set(QUEUES)
    assert set(process_list.QUEUES) == set(QUEUES)  # as the page of workers tells of them


def test_every_task_goes_to_a_queue_that_such_a_worker_serves():
    assert {app.conf.task_default_queue, *(route["queue"] for route in app.conf.task_routes.values())} == set(QUEUES)


def test_a_message_for_one_queue_reaches_no_other():
    assert {queue.name: (queue.exchange.name, queue.routing_key) for queue in app.amqp.queues.values()} == {
        name: (name, name) for name in QUEUES
    }


def test_a_worker_says_that_it_is_ready_whatever_its_log_looks_like(capfd):
    worker_ready.send(sender=None)
    assert capfd.readouterr().out.endswith(" ready.\n")
