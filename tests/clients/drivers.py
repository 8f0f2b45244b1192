"""How each client is told to upload, list, download and delete. Libraries are imported where they are used, so that a
client's own virtual environment needs that client only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


class Driver:
    """What a scenario asks of a client."""

    def __init__(self, endpoint: str, authority: str):
        self.endpoint, self.authority = endpoint, authority
        self.host, self.tls = urlsplit(endpoint).netloc, endpoint.startswith("https")
        self.access_key, self.secret_key = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        # The name every AWS client reads, and the one that OpenSSL, Go and rustls read.
        os.environ["AWS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = authority
        os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = "us-east-1"
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

    def prepare(self, bucket: str) -> None:
        """Before the first upload. The bucket exists."""

    def can_store(self, key: str) -> bool:
        """False for a key that this client cannot say, whatever the server."""
        return True

    def more(self, bucket: str, folder: Path) -> None:
        """What this client has of its own."""


class Command(Driver):
    """A client that is a program, found beside the interpreter that runs this."""

    def program(self, name: str) -> str:
        return str(Path(sys.executable).parent / name)

    def run(self, *command: str) -> str:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if result.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {result.returncode}\n{result.stdout[-1000:]}\n{result.stderr[-1000:]}")
        return result.stdout


class Boto3(Driver):
    def prepare(self, bucket):
        import boto3
        from botocore.config import Config

        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0})
        verify = self.authority if self.tls else None
        self.s3 = boto3.client("s3", endpoint_url=self.endpoint, verify=verify, config=config)

    def upload(self, local, bucket, key):
        self.s3.upload_file(str(local), bucket, key)

    def list(self, bucket):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def download(self, bucket, key, local):
        self.s3.download_file(bucket, key, str(local))

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)

    def more(self, bucket, folder):
        from botocore.exceptions import ClientError

        for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
            put = self.s3.put_object(Bucket=bucket, Key="summed", Body=b"x" * 70_000, ChecksumAlgorithm=algorithm)
            name = f"Checksum{algorithm}"
            got = self.s3.get_object(Bucket=bucket, Key="summed", ChecksumMode="ENABLED")
            assert got[name] == put[name] and got["Body"].read() == b"x" * 70_000, algorithm
        self.s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
        try:
            self.s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")
            raise SystemExit("If-None-Match: * wrote twice")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed", error
        self.s3.copy({"Bucket": bucket, "Key": "large.bin"}, bucket, "copied (large)")
        assert self.s3.head_object(Bucket=bucket, Key="copied (large)")["ContentLength"] == 100_000_007
        url = self.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "once"})
        import ssl
        import urllib.request

        context = ssl.create_default_context(cafile=self.authority) if self.tls else None
        assert urllib.request.urlopen(url, context=context).read() == b"1"
        made = ["summed", "once", "copied (large)", *self.answers(bucket)]
        gone = self.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in made]})
        assert len(gone["Deleted"]) == len(made), gone

    def answers(self, bucket) -> list[str]:
        """Unicode and many names in metadata, a storage class, the tail of nothing; the keys that were made."""
        from email.header import decode_header, make_header

        from botocore.handlers import validate_ascii_metadata

        # S3 takes what botocore does not let through (boto3#3063).
        self.s3.meta.events.unregister("before-parameter-build.s3.PutObject", validate_ascii_metadata)
        # Python's http.client reads no more than 100 headers of an answer.
        many = {f"name-{n}": "v" * 10 for n in range(86)}
        self.s3.put_object(Bucket=bucket, Key="told", Metadata=many | {"name": "日本語 ü"}, StorageClass="GLACIER_IR")
        head = self.s3.head_object(Bucket=bucket, Key="told")
        assert str(make_header(decode_header(head["Metadata"].pop("name")))) == "日本語 ü"
        assert (head["Metadata"], head["StorageClass"]) == (many, "GLACIER_IR")
        told = self.s3.get_object_attributes(Bucket=bucket, Key="told", ObjectAttributes=["ETag", "ObjectSize", "StorageClass"])
        assert (told["ObjectSize"], told["StorageClass"]) == (0, "GLACIER_IR")
        assert self.s3.get_object(Bucket=bucket, Key="told", Range="bytes=-8")["Body"].read() == b""
        self.s3.put_object(Bucket=bucket, Key="a+b", Body=b"plus")
        self.s3.copy_object(Bucket=bucket, Key="told", CopySource={"Bucket": bucket, "Key": "a+b"})
        assert self.s3.get_object(Bucket=bucket, Key="told")["Body"].read() == b"plus"
        return ["told", "a+b"]


class Boto3Crt(Driver):
    """boto3's transfers by the AWS Common Runtime, chosen with `preferred_transfer_client`. That choice always speaks TLS and
    trusts the system's file only, so over http the same transfer manager is built from boto3's pieces with TLS off."""

    def prepare(self, bucket):
        import boto3
        from botocore.config import Config

        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
        # boto3's serializer of CRT requests takes the endpoint from here and not from the client.
        os.environ["AWS_ENDPOINT_URL_S3"] = self.endpoint
        self.s3 = boto3.client("s3", verify=self.authority if self.tls else None, config=config)
        self.plain = None if self.tls else self.plain_manager(config)

    def plain_manager(self, config):
        from botocore.session import Session
        from s3transfer import crt

        session = Session()
        credentials = crt.BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
        serializer = crt.BotocoreCRTRequestSerializer(session, {"region_name": "us-east-1", "config": config})
        return crt.CRTTransferManager(crt.create_s3_crt_client("us-east-1", credentials, use_ssl=False), serializer)

    def transfer(self, name: str, *arguments: str) -> None:
        from boto3.s3.transfer import TransferConfig

        if not self.plain:
            getattr(self.s3, f"{name}_file")(*arguments, Config=TransferConfig(preferred_transfer_client="crt"))
            return
        # Leaving the manager waits for its callbacks (a download gets its name in one); result() does not.
        with self.plain as manager:
            getattr(manager, name)(*arguments).result()

    def upload(self, local, bucket, key):
        self.transfer("upload", str(local), bucket, key)

    def list(self, bucket):
        return {entry["Key"]: entry["Size"] for entry in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])}

    def download(self, bucket, key, local):
        self.transfer("download", bucket, key, str(local))

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)

    def more(self, bucket, folder):
        import boto3.crt

        # boto3 falls back to its own transfers in silence.
        assert self.plain or boto3.crt.CRT_S3_CLIENT is not None


class AwsCli(Command):
    def aws(self, *arguments: str) -> str:
        return self.run(self.program("aws"), "--endpoint-url", self.endpoint, *arguments)

    def upload(self, local, bucket, key):
        self.aws("s3", "cp", "--no-progress", str(local), f"s3://{bucket}/{key}")

    def list(self, bucket):
        listed = json.loads(self.aws("s3api", "list-objects-v2", "--bucket", bucket, "--output", "json") or "{}")
        return {entry["Key"]: entry["Size"] for entry in listed.get("Contents", [])}

    def download(self, bucket, key, local):
        self.aws("s3", "cp", "--no-progress", f"s3://{bucket}/{key}", str(local))

    def delete(self, bucket, key):
        self.aws("s3", "rm", f"s3://{bucket}/{key}")

    def more(self, bucket, folder):
        self.aws("s3", "sync", "--no-progress", str(folder / "source"), f"s3://{bucket}/synced/")
        again = self.aws("s3", "sync", "--no-progress", str(folder / "source"), f"s3://{bucket}/synced/")
        assert again.strip() == "", f"a second sync copies: {again}"
        self.aws("s3", "mv", "--no-progress", f"s3://{bucket}/synced/0", f"s3://{bucket}/moved (0)")
        self.aws("s3", "rm", "--recursive", f"s3://{bucket}/synced/")
        self.aws("s3", "rm", f"s3://{bucket}/moved (0)")


class MinioPy(Driver):
    def prepare(self, bucket):
        import urllib3
        from minio import Minio

        http = urllib3.PoolManager(ca_certs=self.authority) if self.tls else None
        self.s3 = Minio(self.host, self.access_key, self.secret_key, secure=self.tls, http_client=http)
        assert self.s3.bucket_exists(bucket)

    def upload(self, local, bucket, key):
        self.s3.fput_object(bucket, key, str(local), part_size=5 * 1024 * 1024)

    def list(self, bucket):
        return {entry.object_name: entry.size for entry in self.s3.list_objects(bucket, recursive=True)}

    def download(self, bucket, key, local):
        self.s3.fget_object(bucket, key, str(local))

    def delete(self, bucket, key):
        self.s3.remove_object(bucket, key)


class S5cmd(Command):
    def s5cmd(self, *arguments: str) -> str:
        return self.run(self.program("s5cmd"), "--json", "--endpoint-url", self.endpoint, *arguments)

    def can_store(self, key):
        # It reads `*`, `?` and `%` of a remote name in its own way.
        return "%" not in key

    def upload(self, local, bucket, key):
        self.s5cmd("cp", str(local), f"s3://{bucket}/{key}")

    def list(self, bucket):
        try:
            lines = self.s5cmd("ls", f"s3://{bucket}/*").splitlines()
        except SystemExit as empty:
            if "no object found" in str(empty):
                return {}
            raise
        entries = [json.loads(line) for line in lines]
        return {entry["key"].removeprefix(f"s3://{bucket}/"): entry.get("size", 0) for entry in entries}

    def download(self, bucket, key, local):
        self.s5cmd("cp", "--raw", f"s3://{bucket}/{key}", str(local))

    def delete(self, bucket, key):
        self.s5cmd("rm", "--raw", f"s3://{bucket}/{key}")


class Rclone(Command):
    def rclone(self, *arguments: str) -> str:
        remote = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": self.endpoint, "ACCESS_KEY_ID": self.access_key}
        remote |= {"SECRET_ACCESS_KEY": self.secret_key, "REGION": "us-east-1", "FORCE_PATH_STYLE": "true"}
        os.environ.update({f"RCLONE_CONFIG_REMOTE_{name}": value for name, value in remote.items()})
        options = ["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", "--ca-cert", self.authority]
        return self.run(self.program("rclone"), *options, *arguments)

    def upload(self, local, bucket, key):
        self.rclone("copyto", "--s3-upload-cutoff", "16M", "--s3-chunk-size", "8M", str(local), f"remote:{bucket}/{key}")

    def list(self, bucket):
        entries = json.loads(self.rclone("lsjson", "-R", "--files-only", f"remote:{bucket}"))
        return {entry["Path"]: entry["Size"] for entry in entries}

    def download(self, bucket, key, local):
        self.rclone("copyto", f"remote:{bucket}/{key}", str(local))

    def delete(self, bucket, key):
        self.rclone("deletefile", f"remote:{bucket}/{key}")

    def more(self, bucket, folder):
        self.rclone("sync", str(folder / "source"), f"remote:{bucket}/synced")
        self.rclone("check", "--download", str(folder / "source"), f"remote:{bucket}/synced")
        self.rclone("purge", f"remote:{bucket}/synced")


class S3cmd(Command):
    def s3cmd(self, *arguments: str) -> str:
        options = ["--config", "/dev/null", "--host", self.host, "--host-bucket", self.host, "--no-progress"]
        options += ["--access_key", self.access_key, "--secret_key", self.secret_key, "--region", "us-east-1"]
        options += ["--ssl", "--ca-certs", self.authority] if self.tls else ["--no-ssl"]
        return self.run(self.program("s3cmd"), *options, *arguments)

    def upload(self, local, bucket, key):
        self.s3cmd("put", str(local), f"s3://{bucket}/{key}")

    def list(self, bucket):
        lines = [line.split(None, 3) for line in self.s3cmd("ls", "--recursive", f"s3://{bucket}").splitlines()]
        return {name.removeprefix(f"s3://{bucket}/"): int(size) for _, _, size, name in lines}

    def download(self, bucket, key, local):
        self.s3cmd("get", "--force", f"s3://{bucket}/{key}", str(local))

    def delete(self, bucket, key):
        self.s3cmd("del", f"s3://{bucket}/{key}")


class PyArrow(Driver):
    def prepare(self, bucket):
        from pyarrow import fs

        trust = {"tls_ca_file_path": self.authority} if self.tls else {}
        self.fs = fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.host,
            scheme="https" if self.tls else "http",
            region="us-east-1",
            **trust,
        )

    def upload(self, local, bucket, key):
        with open(local, "rb") as source, self.fs.open_output_stream(f"{bucket}/{key}") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

    def list(self, bucket):
        from pyarrow import fs

        found = self.fs.get_file_info(fs.FileSelector(bucket, recursive=True))
        return {info.path.removeprefix(bucket + "/"): info.size for info in found if info.type == fs.FileType.File}

    def download(self, bucket, key, local):
        with self.fs.open_input_stream(f"{bucket}/{key}") as source, open(local, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

    def delete(self, bucket, key):
        self.fs.delete_file(f"{bucket}/{key}")

    def more(self, bucket, folder):
        import pyarrow as pa
        from pyarrow import dataset

        with self.fs.open_output_stream(f"{bucket}/described", metadata={"Content-Language": "ü", "Content-Type": "text/plain"}) as sink:
            sink.write(b"")
        with self.fs.open_input_file(f"{bucket}/described") as nothing:
            told = nothing.metadata()
            assert nothing.read() == b"" and (told["Content-Type"], told["Content-Language"]) == (b"text/plain", b"=?UTF-8?B?w7w=?=")
        self.fs.delete_file(f"{bucket}/described")
        table = pa.table({"n": range(100_000), "part": [n % 3 for n in range(100_000)]})
        dataset.write_dataset(table, f"{bucket}/set", filesystem=self.fs, format="parquet", partitioning=["part"])
        assert dataset.dataset(f"{bucket}/set", filesystem=self.fs, format="parquet").count_rows() == 100_000
        self.fs.delete_dir(f"{bucket}/set")
        # A directory marker may be left where the last file of a directory went.
        self.fs.delete_dir_contents(bucket + "/set", missing_dir_ok=True)

    def __del__(self):
        from pyarrow import fs

        self.fs = None
        fs.finalize_s3()


class S3TorchConnector(Driver):
    def prepare(self, bucket):
        from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

        self.s3 = MountpointS3Client(
            region="us-east-1", user_agent_prefix="sluice-test", endpoint=self.endpoint, force_path_style=True
        )

    def upload(self, local, bucket, key):
        stream = self.s3.put_object(bucket, key)
        with open(local, "rb") as source:
            while data := source.read(1 << 20):
                stream.write(data)
        stream.close()

    def list(self, bucket):
        return {info.key: info.size for page in self.s3.list_objects(bucket) for info in page.object_info}

    def download(self, bucket, key, local):
        with open(local, "wb") as sink:
            for piece in self.s3.get_object(bucket, key):
                sink.write(piece)

    def delete(self, bucket, key):
        self.s3.delete_object(bucket, key)


class Obstore(Driver):
    def prepare(self, bucket):
        from obstore.store import S3Store

        self.store = S3Store(
            bucket,
            endpoint=self.endpoint,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": "60s"},
            retry_config={"max_retries": 0},
        )

    def upload(self, local, bucket, key):
        import obstore

        obstore.put(self.store, key, Path(local))

    def list(self, bucket):
        import obstore

        return {entry["path"]: entry["size"] for page in obstore.list(self.store) for entry in page}

    def download(self, bucket, key, local):
        import obstore

        Path(local).write_bytes(bytes(obstore.get(self.store, key).bytes()))

    def delete(self, bucket, key):
        import obstore

        obstore.delete(self.store, key)

    def more(self, bucket, folder):
        import obstore

        obstore.put(self.store, "created", b"1", mode="create")
        try:
            obstore.put(self.store, "created", b"2", mode="create")
            raise SystemExit("mode=create wrote twice")
        except obstore.exceptions.AlreadyExistsError:
            pass
        obstore.copy(self.store, "created", "copied")
        obstore.rename(self.store, "copied", "renamed")
        ranges = obstore.get_ranges(self.store, "large.bin", starts=[0, 50_000_000], ends=[10, 50_000_010])
        assert [len(bytes(piece)) for piece in ranges] == [10, 10]
        # It takes headers in ASCII only, and sends any.
        described = {"name": "日本語 ü", "Content-Disposition": 'attachment; filename="ü.txt"', "Content-Language": "ü"}
        obstore.put(self.store, "described", b"read", attributes=described)
        read = obstore.get(self.store, "described")
        assert bytes(read.bytes()) == b"read" and read.attributes["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC.txt"
        assert read.attributes["name"].startswith("=?UTF-8?B?"), read.attributes
        obstore.delete(self.store, ["created", "renamed", "described"])


class S3fs(Driver):
    def prepare(self, bucket):
        import s3fs

        self.fs = s3fs.S3FileSystem(
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": "us-east-1", **({"verify": self.authority} if self.tls else {})},
            use_listings_cache=False,
        )

    def upload(self, local, bucket, key):
        with open(local, "rb") as source, self.fs.open(f"{bucket}/{key}", "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

    def list(self, bucket):
        return {name.removeprefix(bucket + "/"): info["size"] for name, info in self.fs.find(bucket, detail=True).items()}

    def download(self, bucket, key, local):
        self.fs.get_file(f"{bucket}/{key}", str(local))

    def delete(self, bucket, key):
        self.fs.rm_file(f"{bucket}/{key}")

    def more(self, bucket, folder):
        self.fs.copy(f"{bucket}/small.txt", f"{bucket}/folder/copied")
        assert self.fs.ls(f"{bucket}/folder") == [f"{bucket}/folder/copied"]
        self.fs.rm(f"{bucket}/folder", recursive=True)


DRIVERS = {
    "boto3": Boto3,
    "boto3-crt": Boto3Crt,
    "aws-cli": AwsCli,
    "minio-py": MinioPy,
    "s5cmd": S5cmd,
    "rclone": Rclone,
    "s3cmd": S3cmd,
    "pyarrow": PyArrow,
    "s3torchconnector": S3TorchConnector,
    "obstore": Obstore,
    "s3fs": S3fs,
}
