"""A server of S3 (moto) with a bucket, for tests. It keeps data only in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "charlstm"


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """Run a server. Yield the environment variables that name it."""
    # These imports take seconds.
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        names = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
        address = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        yield {**address, **names}
    finally:
        server.stop()
