"""What a run of a job, or of a batch's line, used that is not its answer: it was paid for, though another run will answer."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from inference import answering, usage_rows
from inference.recording import row_of

logger = logging.getLogger("gateway.jobs")


def book(question: answering.Question) -> None:
    """In the ledger, as this run's own; a run whose end stands there is booked already.

    When the database is away the spool still has it, and it is booked when this process has ended.
    """
    entry = question.entry(499, "job_given_back")
    row = row_of(entry)
    try:
        is_told = usage_rows.is_told(row)
        if not is_told:
            usage_rows.write([row._replace(attempt=question.trail.run)])
    except DatabaseError as error:
        logger.warning("%s: what a run used waits in the spool: %s", question.request_id, type(error).__name__)
        return
    if not is_told:
        answering.tell(entry)
    question.forget()
