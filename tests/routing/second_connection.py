"""What another connection could do this moment, for tests whose own is in the middle of a transaction that others may see."""

from __future__ import annotations

import threading

from django.db import DatabaseError, connection, transaction
from django.db.models import Model


def may_write(row: Model) -> bool:
    """Whether nobody keeps others from writing the row."""
    heard: list[bool] = []

    def look() -> None:
        try:
            if connection.vendor == "sqlite":
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA busy_timeout = 0")
            with transaction.atomic():
                type(row)._base_manager.select_for_update(nowait=True).get(pk=row.pk)
            heard.append(True)
        except DatabaseError:
            heard.append(False)
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return heard == [True]
