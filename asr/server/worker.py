"""The life of a worker process."""

from __future__ import annotations

import os

from asr.errors import RillError
from asr.server.post import Job, Post

# Nothing here loads prometheus_client, which reads this when it is imported: where processes count together.
COUNTERS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def work(job: Job, post: Post) -> None:
    """Load the model and serve, until SIGTERM or until the supervisor is no more; the main function of a process."""
    os.environ[COUNTERS_VARIABLE] = str(post.folder)
    try:
        from asr.server.handed import serve_handed

        serve_handed(job, post)
    except (RillError, OSError) as error:
        if post.reports.closed:  # it has served
            raise
        post.reports.send(error)
