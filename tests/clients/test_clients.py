"""Every client of the list, pinned, over http and https: files go up, are listed, come back and are deleted.

scripts/test makes the environments: `venv-clients` and `venv-s3fs` (s3fs cannot be installed beside this boto3) and `node`
in the cache. A client that is not installed is a failure in CI and is named as skipped elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "blackbox"))

from conftest import need  # noqa: E402
from harness.certificates import make_certificates  # noqa: E402
from harness.server import ACCESS_KEY, SECRET_KEY, Server, cache_folder  # noqa: E402

TIMEOUT_S = 170
PYTHON_CLIENTS = ["boto3", "boto3-crt", "aws-cli", "minio-py", "s5cmd", "rclone", "s3cmd", "pyarrow"]
PYTHON_CLIENTS += ["s3torchconnector", "obstore", "s3fs"]
# These clients' TLS trusts the system's file and nothing else; they get a mount namespace in which that file is ours.
SYSTEM_TRUST = {"boto3-crt", "s3torchconnector"}
SYSTEM_TRUST_FILE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="clients-", dir=os.environ.get("SLUICE_SCRATCH", "/var/tmp")) as folder:
        certificates = make_certificates(Path(folder) / "tls")
        with Server(Path(folder) / "data", certificates=certificates) as server:
            yield server


@pytest.fixture
def bucket(server, request):
    """A bucket of the test's own, empty at the end, and a folder for its files."""
    name = f"client-{abs(hash(request.node.name)) % 10**8}"
    server.client().create_bucket(name)
    yield name
    left = [path for path in (server.data / name).rglob("*") if path.is_file()]
    shutil.rmtree(server.data / name, ignore_errors=True)
    assert not left, f"files are left in the bucket: {left[:3]}"


def interpreter(client: str) -> Path:
    python = cache_folder() / ("venv-s3fs" if client == "s3fs" else "venv-clients") / "bin/python"
    need(None if python.exists() else f"{client} is not installed; scripts/test does that")
    return python


def run(command: list[str], server: Server, client: str, scheme: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SSL_CERT"))}
    env |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
    env |= {"SLUICE_NODE": str(cache_folder() / "node"), "NODE_EXTRA_CA_CERTS": str(server.certificates.authority)}
    env |= {"HOME": str(server.data.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"AWS_CA_BUNDLE": str(server.certificates.authority)} if client == "aws-sdk-go" else {}
    if client in SYSTEM_TRUST and scheme == "https":
        need(None if os.geteuid() == 0 else f"{client} over TLS needs a mount namespace, which needs root")
        mount = f'mount --bind "$0" {SYSTEM_TRUST_FILE} && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, str(server.certificates.authority), *command]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, f"{client} over {scheme}:\n{result.stdout[-1500:]}\n{result.stderr[-1500:]}"


def endpoint(server: Server, scheme: str) -> str:
    return server.tls_endpoint if scheme == "https" else server.endpoint


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_client(server, bucket, client, scheme):
    authority = str(server.certificates.authority)
    with tempfile.TemporaryDirectory(dir=server.data.parent) as folder:
        command = [str(interpreter(client)), str(HERE / "scenario.py"), client, endpoint(server, scheme), authority, bucket, folder]
        run(command, server, client, scheme)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_duckdb_httpfs(server, bucket, scheme):
    authority = str(server.certificates.authority)
    command = [str(interpreter("duckdb")), str(HERE / "duckdb_httpfs.py"), endpoint(server, scheme), authority, bucket]
    run(command, server, "duckdb", scheme)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_aws_sdk_js(server, bucket, scheme):
    packages = cache_folder() / "node/node_modules/@aws-sdk/client-s3"
    need(None if packages.exists() else "the AWS SDK for JavaScript is not installed; scripts/test does that")
    run(["node", str(HERE / "aws_sdk_js.mjs"), endpoint(server, scheme), bucket], server, "aws-sdk-js", scheme)


@pytest.fixture(scope="module")
def aws_sdk_go() -> Path:
    """The program of `aws_sdk_go/`, which takes a minute to build: kept in the cache by what it is made of."""
    source = HERE / "aws_sdk_go"
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))).hexdigest()
    program = cache_folder() / f"bin/aws-sdk-go-{digest[:16]}"
    if not program.exists():
        need(None if shutil.which("go") else "the client of the AWS SDK for Go needs Go to build")
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(".part")
        environment = os.environ | {"GOFLAGS": "-mod=readonly -buildvcs=false"}
        subprocess.run(["go", "build", "-o", str(part), "."], cwd=source, env=environment, check=True)
        part.rename(program)
    return program


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_aws_sdk_go(server, bucket, aws_sdk_go, scheme):
    run([str(aws_sdk_go), endpoint(server, scheme), bucket], server, "aws-sdk-go", scheme)
