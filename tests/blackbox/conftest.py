"""Fixtures: a fresh server with an empty bucket for each test, or one for a module where no test can disturb another."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.certificates import make_certificates  # noqa: E402
from harness.server import Server, binary  # noqa: E402

BUCKET = "bucket"


def pytest_sessionstart(session):
    if not binary().exists() and "BLACKBOX_PEER" not in os.environ:
        pytest.exit(f"{binary()} is not built: cargo build --release, or SLUICE_BIN", returncode=1)


@pytest.fixture(scope="session")
def scratch():
    """A folder on a real filesystem (tmpfs has no O_DIRECT); SLUICE_SCRATCH chooses where."""
    with tempfile.TemporaryDirectory(prefix="sluice-", dir=os.environ.get("SLUICE_SCRATCH", "/var/tmp")) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def certificates(scratch):
    return make_certificates(scratch / "certificates")


@pytest.fixture
def data(scratch):
    """A directory of this test's own, not yet made."""
    return Path(tempfile.mkdtemp(prefix="data-", dir=scratch)) / "data"


@pytest.fixture
def server(data):
    with Server(data) as server:
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


@pytest.fixture(scope="module")
def shared(scratch):
    """One server for the module, with http and https and the bucket `bucket`."""
    folder = Path(tempfile.mkdtemp(prefix="shared-", dir=scratch))
    certificates = make_certificates(folder / "certificates")
    with Server(folder / "data", certificates=certificates) as server:
        server.client().create_bucket(BUCKET)
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


@pytest.fixture
def client(server):
    client = server.client()
    client.create_bucket(BUCKET)
    return client


def need(reason: str | None) -> None:
    """A check that cannot run is a failure in CI, where everything can be had, and is named as skipped elsewhere."""
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"this check must run in CI: {reason}")
        pytest.skip(reason)
