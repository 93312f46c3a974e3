"""A server of S3 (moto) with a bucket, for benchmarks and tests. It keeps data only in memory.

Usage: python -m benchmarks.object_store SECONDS      delays each request, prints its address
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.projects import PYTHON

BUCKET = "charlstm"
LOW_PRIORITY = 15  # the server represents another machine


@contextmanager
def object_store(delay: float = 0.0) -> Iterator[dict[str, str]]:
    """Run a server that delays each request. Yield the environment variables that name it."""
    command = [*PYTHON, "benchmarks.object_store", str(delay)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            assert address, "the server did not start"
            names = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
            yield {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1", **names}
        finally:
            process.kill()


def main() -> int:
    """Serve until the process is killed."""
    # These imports take seconds, which a process that only starts a server does not need.
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    delay = float(sys.argv[1])
    os.nice(LOW_PRIORITY)
    application = DomainDispatcherApplication(create_backend_app)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")

    def delayed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(delay)
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    server = make_server("127.0.0.1", 0, delayed, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
