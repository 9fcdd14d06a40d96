# Imported here so that every process that publishes a task does it with this project's broker and routes.
from gateway_project.celery import app as celery_app

__all__ = ["celery_app"]
