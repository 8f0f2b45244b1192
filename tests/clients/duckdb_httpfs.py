#!/usr/bin/env python3
"""DuckDB's httpfs: tables written to S3 as Parquet (one small, one multipart), listed by glob and read back; files of any
name read as blobs. DuckDB cannot delete; boto3 does that for it.

    duckdb_httpfs.py ENDPOINT AUTHORITY BUCKET
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import duckdb
from botocore.config import Config

# Eight bytes of hash a row do not compress: 100 MB.
ROWS_LARGE = 12_500_000
NAMES = ["plain.bin", "with space.bin", "paren(1).bin", "plus+sign.bin", "ünïcode.bin", "empty.bin"]


def extension() -> str:
    """The wheel carries the extension as a file; DuckDB's own download would need another host."""
    package = Path(importlib.util.find_spec("duckdb_extension_httpfs").origin).parent
    return str(next(package.rglob("httpfs.duckdb_extension")))


def main() -> None:
    endpoint, authority, bucket = sys.argv[1:4]
    tls = endpoint.startswith("https")
    database = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    database.execute(f"LOAD '{extension()}'")
    # The size of a part is a ten-thousandth of this, at least 5 MiB; by default 100 MB would be two parts.
    database.execute("SET s3_uploader_max_filesize = '50GB'")
    if tls:
        database.execute(f"SET ca_cert_file = '{authority}'")
    database.execute(
        f"""CREATE SECRET (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}', SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}',
            REGION 'us-east-1', ENDPOINT '{urlsplit(endpoint).netloc}', URL_STYLE 'path', USE_SSL {str(tls).lower()})"""
    )
    for name, rows in (("small", 10), ("large", ROWS_LARGE)):
        query = f"SELECT range AS n, hash(range) AS h FROM range({rows})"
        database.execute(f"COPY ({query}) TO 's3://{bucket}/tables/{name} (1).parquet' (FORMAT parquet)")
        found = database.execute(f"SELECT count(*), sum(n), bit_xor(h) FROM 's3://{bucket}/tables/{name} (1).parquet'").fetchone()
        expected = database.execute(f"SELECT count(*), sum(n), bit_xor(h) FROM ({query})").fetchone()
        assert found == expected, (found, expected)
    listed = database.execute(f"SELECT file FROM glob('s3://{bucket}/tables/*.parquet') ORDER BY file").fetchall()
    assert [name for (name,) in listed] == [f"s3://{bucket}/tables/{name} (1).parquet" for name in ("large", "small")], listed
    both = database.execute(f"SELECT count(*) FROM read_parquet('s3://{bucket}/tables/*.parquet')").fetchone()
    assert both == (ROWS_LARGE + 10,), both

    config = Config(s3={"addressing_style": "path"})
    s3 = boto3.client("s3", endpoint_url=endpoint, verify=authority if tls else None, config=config, region_name="us-east-1")
    for name in NAMES:
        body = b"" if name.startswith("empty") else hashlib.sha256(name.encode()).digest() * 50_000
        s3.put_object(Bucket=bucket, Key=f"blobs/{name}", Body=body)
        blob = database.execute("SELECT content FROM read_blob(?)", [f"s3://{bucket}/blobs/{name}"]).fetchone()
        assert blob == (body,), name
    entries = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert len(entries) == len(NAMES) + 2
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": entry["Key"]} for entry in entries]})


if __name__ == "__main__":
    main()
