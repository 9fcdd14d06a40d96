"""What ran, to look at. Each page has a module of its own, which is loaded here."""

from __future__ import annotations

from inference import (
    admin_alerts,  # noqa: F401  (registers its pages)
    admin_batches,  # noqa: F401  (registers its pages)
    admin_cutover,  # noqa: F401  (registers its page)
    admin_explain,  # noqa: F401  (registers its page)
    admin_jobs,  # noqa: F401  (registers its pages)
    admin_playground,  # noqa: F401  (registers its pages)
    admin_rating,  # noqa: F401  (registers its pages)
    admin_replay,  # noqa: F401  (registers its page)
    admin_saved_views,  # noqa: F401  (registers its page)
    admin_spend,  # noqa: F401  (registers its pages)
    admin_traces,  # noqa: F401  (registers its pages)
    admin_workers,  # noqa: F401  (registers its page)
)
