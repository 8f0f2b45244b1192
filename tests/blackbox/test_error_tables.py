"""Every refusal that S3 documents for the operations that are built: status and code, and the fields that programs read.

The rows come from the API reference, a page for each group: https://docs.aws.amazon.com/AmazonS3/latest/API/API_<operation>.html,
its list of error codes (ErrorResponses.html), its pages on Signature Version 4, and RFC 9110 for conditions and dates. Where the
pages leave the code open, the row has the one that Amazon's servers are known to answer, or says why it is another.

Nothing that is refused may change anything: `old` is read back at the end of the module.
"""

from __future__ import annotations

import base64
import calendar
import datetime
import email.utils
import hashlib
import html
import itertools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server
from harness.sigv4 import Request, md5_base64
from harness.wire import Client, Response, complete_document

MIB = 1024 * 1024
DAY_S = 24 * 3600
CRC32_OF_OLD = sigv4.crc32_base64(b"old")
# Of no body of this module.
WRONG = {"crc32": "AAAAAA==", "crc32c": "AAAAAA==", "crc64nvme": "AAAAAAAAAAA=", "sha1": "A" * 27 + "=", "sha256": "A" * 43 + "="}
UNKNOWN_ID = "0" * 48


class Row(NamedTuple):
    """`asked` is `METHOD /path?query`, decoded but for the path; `{name}` in it, in headers and body is of the state."""

    why: str
    asked: str
    status: int
    code: str | None = None
    headers: dict = {}
    body: bytes = b""
    fields: dict = {}


class State:
    """What the rows find: objects, and uploads in each state that an operation tells apart."""

    def __init__(self, client: Client):
        self.client = client
        assert client.put(BUCKET, "old", b"old").status == 200
        assert client.put(BUCKET, "empty", b"").status == 200
        part = bytes(5 * MIB)
        etags = []
        upload = client.start_upload(BUCKET, "two-parts")
        for number in (1, 2):
            etags.append((number, client.put_part(BUCKET, "two-parts", upload, number, part if number == 1 else b"end").etag))
        assert client.complete(BUCKET, "two-parts", upload, etags).status == 200
        head = client.head(BUCKET, "old")
        self.names = {
            "etag": head.etag,
            "date": head.headers["last-modified"],
            "gone": upload,
            "upload": client.start_upload(BUCKET, "upload"),
            "composite": self.start("composite", "SHA256", "COMPOSITE"),
            "full": self.start("full", "CRC32", "FULL_OBJECT"),
        }
        self.modified_s = calendar.timegm(email.utils.parsedate(head.headers["last-modified"]))
        # `upload` has a part that may be the last and one that may not be it; the announced ones have one part with its checksum.
        for number, body in ((1, b"small"), (2, b"end")):
            self.names[f"part{number}"] = client.put_part(BUCKET, "upload", self.names["upload"], number, body).etag
        sha256 = base64.b64encode(hashlib.sha256(b"end").digest()).decode()
        for name, headers in (
            ("composite", {"x-amz-checksum-sha256": sha256}),
            ("full", {"x-amz-checksum-crc32": sigv4.crc32_base64(b"end")}),
        ):
            query = [("partNumber", "1"), ("uploadId", self.names[name])]
            answer = client.request("PUT", f"/{BUCKET}/{name}", b"end", query, headers)
            assert answer.status == 200, answer
            self.names[f"{name}_part"] = answer.etag
        self.names["sha256"] = sha256

    def start(self, key: str, algorithm: str, kind: str) -> str:
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        answer = self.client.request("POST", f"/{BUCKET}/{key}", query=[("uploads", "")], headers=headers)
        assert answer.status == 200, answer
        return answer.field("UploadId")

    def of(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return text

    def ask(self, row: Row) -> Response:
        method, target = self.of(row.asked).split(" ", 1)
        parts = urlsplit(target)
        pairs = [piece.partition("=") for piece in parts.query.split("&") if piece]
        query = [(unquote(name), unquote(value)) for name, _, value in pairs]
        headers = {name: self.of(value) for name, value in row.headers.items()}
        body = self.of(row.body.decode("latin-1")).encode("latin-1")
        return self.client.request(method, parts.path, body, query, headers)


@pytest.fixture(scope="module")
def shared(scratch):
    """A server that is in one region, as S3's endpoints are."""
    with Server(Path(tempfile.mkdtemp(prefix="tables-", dir=scratch)) / "data", args=["--region", "us-east-1"]) as server:
        server.client().create_bucket(BUCKET)
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


@pytest.fixture(scope="module")
def state(shared):
    state = State(shared.client())
    yield state
    for key, body in (("old", b"old"), ("empty", b"")):
        read = state.client.get(BUCKET, key)
        assert (read.status, read.body, read.etag) == (200, body, f'"{hashlib.md5(body).hexdigest()}"')
    listed = state.client.request("GET", f"/{BUCKET}", query=[("prefix", "never")])
    assert b"<Key>" not in listed.body, listed


def check(row: Row, response: Response) -> None:
    method = row.asked.split(" ", 1)[0]
    assert response.status == row.status, response
    if method == "HEAD" or row.status in (200, 204, 206, 304):
        assert response.code is None, response
        return
    assert response.code == row.code, response
    assert response.headers["content-type"] == "application/xml"
    assert response.field("RequestId") == response.headers["x-amz-request-id"]
    assert response.field("Message"), response
    for name, value in row.fields.items():
        assert html.unescape(response.field(name) or "") == value, (name, response.body)


def part(number, etag="{part1}", more="") -> bytes:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{more}</Part>".encode()


def complete(*parts: bytes) -> bytes:
    return b"<CompleteMultipartUpload>" + b"".join(parts) + b"</CompleteMultipartUpload>"


def delete_objects(body: bytes, **headers) -> dict:
    return {"Content-MD5": md5_base64(body)} | headers


def argument(name: str, value: str) -> dict:
    return {"ArgumentName": name, "ArgumentValue": value}


NEVER = "/bucket/never"
PART_MESSAGE = "Part number must be an integer between 1 and 10000, inclusive"
CONSTRAINT = "<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>"

TABLES: dict[str, list[Row]] = {}

# ErrorResponses.html: MethodNotAllowed, NotImplemented, InvalidURI, KeyTooLongError; RFC 9110 section 15.5.6.
TABLES["any operation"] = [
    Row("the service takes no POST", "POST /", 405, "MethodNotAllowed", fields={"Method": "POST", "ResourceType": "SERVICE"}),
    Row("the service takes no PUT", "PUT /", 405, "MethodNotAllowed"),
    Row("the service takes no DELETE", "DELETE /", 405, "MethodNotAllowed"),
    Row("the service takes no HEAD", "HEAD /", 405),
    Row("no PATCH", "PATCH /bucket/old", 405, "MethodNotAllowed", fields={"Method": "PATCH", "ResourceType": "OBJECT"}),
    Row("an object takes no plain POST", "POST /bucket/old", 405, "MethodNotAllowed"),
    Row("two sub-resources at once", "GET /bucket?uploads&acl", 400, "InvalidArgument"),
    Row("two sub-resources at once, one with a value", f"GET /bucket?uploads&uploadId={UNKNOWN_ID}", 400, "InvalidArgument"),
    Row("two sub-resources of a DELETE", "DELETE /bucket/old?tagging&uploadId={gone}", 400, "InvalidArgument"),
    Row("broken escape in the key", "GET /bucket/%zz", 400, "InvalidURI"),
    Row("broken escape at the end", "GET /bucket/%", 400, "InvalidURI"),
    Row("a key that is not UTF-8", "GET /bucket/%FF", 400, "InvalidURI"),
    # No file is called so. Amazon has such keys; no XML document can name them.
    Row("NUL in a key", "PUT /bucket/never%00", 400, "InvalidURI"),
    Row("key of 1025 bytes", "PUT /bucket/" + "k" * 1025, 400, "KeyTooLongError", fields={"Size": "1025", "MaxSizeAllowed": "1024"}),
    Row("key of 1025 bytes, read", "GET /bucket/" + "k" * 1025, 400, "KeyTooLongError"),
    Row("key of 1026 bytes in 513 characters", "PUT /bucket/" + "%C3%BC" * 513, 400, "KeyTooLongError"),
    Row("another account's bucket", "GET /bucket/old", 403, "AccessDenied", {"x-amz-expected-bucket-owner": "000000000000"}),
    Row("no account", "GET /bucket/old", 400, "InvalidBucketOwnerAWSAccountID", {"x-amz-expected-bucket-owner": "me"}),
    # What is asked of the writer and not built must not look done.
    Row("encryption", f"PUT {NEVER}", 501, "NotImplemented", {"x-amz-server-side-encryption": "aws:kms"}),
    Row("tags", f"PUT {NEVER}", 501, "NotImplemented", {"x-amz-tagging": "a=b"}),
    Row("append", f"PUT {NEVER}", 501, "NotImplemented", {"x-amz-write-offset-bytes": "0"}, fields={"Header": "x-amz-write-offset-bytes"}),
    Row("rename", f"PUT {NEVER}?renameObject", 501, "NotImplemented", {"x-amz-rename-source": "/old"}),
    Row("legal hold", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-object-lock-legal-hold": "ON"}),
    Row("a public ACL", f"PUT {NEVER}", 400, "AccessControlListNotSupported", {"x-amz-acl": "public-read"}),
    Row("a grant", f"PUT {NEVER}", 400, "AccessControlListNotSupported", {"x-amz-grant-read": "id=1"}),
    Row("no ACL", f"PUT {NEVER}", 400, "InvalidArgument", {"x-amz-acl": "everybody"}, fields=argument("x-amz-acl", "everybody")),
    Row("a copy's header on a read", "GET /bucket/old", 400, "InvalidArgument", {"x-amz-copy-source": "/bucket/old"}),
    Row("MFA", "DELETE /bucket/old", 501, "NotImplemented", {"x-amz-mfa": "1 2"}),
]

# sig-v4-authenticating-requests.html and sigv4-auth-using-authorization-header.html are walked in test_auth.py and
# test_presigned.py; here is one row for each code.
TABLES["ListBuckets"] = [
    Row("max-buckets of none", "GET /?max-buckets=0", 400, "InvalidArgument", fields=argument("max-buckets", "0")),
    Row("max-buckets over 10,000", "GET /?max-buckets=10001", 400, "InvalidArgument"),
    Row("max-buckets that is negative", "GET /?max-buckets=-1", 400, "InvalidArgument"),
    Row("max-buckets that is no number", "GET /?max-buckets=abc", 400, "InvalidArgument"),
    Row("a region that is none", "GET /?bucket-region=abc", 400, "InvalidArgument", fields={"ArgumentName": "bucket-region"}),
    Row("another region", "GET /?bucket-region=eu-west-1", 200),
]

TABLES["CreateBucket"] = [
    *(
        Row(f"name {name[:12]}", f"PUT /{name}", 400, "InvalidBucketName", fields={"BucketName": name})
        for name in ("ab", "a" * 64, "Upper", "under_score", "-dash", "a..b", "192.168.0.1", "xn--a", "a-s3alias", "sthree-a")
    ),
    Row("again in us-east-1", "PUT /bucket", 200),
    Row("another region's constraint", "PUT /never", 400, "IllegalLocationConstraintException", body=(CONSTRAINT % "eu-west-1").encode()),
    Row("a constraint that is no region", "PUT /never", 400, "InvalidLocationConstraint", body=(CONSTRAINT % "nowhere").encode()),
    Row("a constraint with spaces inside", "PUT /never", 400, "InvalidLocationConstraint", body=(CONSTRAINT % "eu west").encode()),
    Row("not XML", "PUT /never", 400, "MalformedXML", body=b"eu-west-1"),
    Row("another document", "PUT /never", 400, "MalformedXML", body=b"<Delete/>"),
    Row("cut off", "PUT /never", 400, "MalformedXML", body=b"<CreateBucketConfiguration>"),
    Row("a directory bucket", "PUT /never", 501, "NotImplemented", body=b"<CreateBucketConfiguration><Bucket/></CreateBucketConfiguration>"),
    Row("Object Lock", "PUT /never", 501, "NotImplemented", {"x-amz-bucket-object-lock-enabled": "true"}),
    Row("an ownership that is none", "PUT /never", 400, "InvalidArgument", {"x-amz-object-ownership": "Mine"}, fields={"ArgumentName": "x-amz-object-ownership"}),
    Row("an ownership with ACLs", "PUT /never", 501, "NotImplemented", {"x-amz-object-ownership": "ObjectWriter"}),
    Row("wrong Content-MD5", "PUT /never", 400, "BadDigest", {"Content-MD5": md5_base64(b"x")}),
    Row("invalid Content-MD5", "PUT /never", 400, "InvalidDigest", {"Content-MD5": "x"}),
]

TABLES["HeadBucket, DeleteBucket, GetBucketLocation"] = [
    Row("HEAD of none", "HEAD /none", 404),
    # arrow asks for such a name and wants 404 (Amazon says 400).
    Row("HEAD of a name that none can have", "HEAD /%24extremelyunlikelytoexist%24", 404),
    Row("DELETE of none", "DELETE /none", 404, "NoSuchBucket", fields={"BucketName": "none"}),
    Row("DELETE of one with objects", "DELETE /bucket", 409, "BucketNotEmpty", fields={"BucketName": "bucket"}),
    Row("location of none", "GET /none?location", 404, "NoSuchBucket"),
    Row("another account's", "HEAD /bucket", 403, None, {"x-amz-expected-bucket-owner": "000000000000"}),
]


def of_a_list(operation: str, sub: str, number: str) -> list[Row]:
    """What the four listings of a bucket share: the page size, the encoding, the bucket."""
    message = f"Argument {number} must be an integer between 0 and 2147483647"
    asked = f"GET /bucket?{sub}"
    return [
        Row("of no bucket", f"GET /none?{sub}", 404, "NoSuchBucket", fields={"BucketName": "none"}),
        Row(f"{number} negative", f"{asked}&{number}=-1", 400, "InvalidArgument", fields={"Message": message} | argument(number, "-1")),
        Row(f"{number} no number", f"{asked}&{number}=abc", 400, "InvalidArgument", fields=argument(number, "abc")),
        Row(f"{number} over 32 bits", f"{asked}&{number}=2147483648", 400, "InvalidArgument"),
        Row(f"{number} over 64 bits", f"{asked}&{number}=99999999999999999999", 400, "InvalidArgument"),
        Row(f"{number} with a fraction", f"{asked}&{number}=1.5", 400, "InvalidArgument"),
        Row(f"{number} over the page", f"{asked}&{number}=2147483647", 200),
        Row(f"{number} of none", f"{asked}&{number}=0", 200),
        Row("an encoding that is none", f"{asked}&encoding-type=base64", 400, "InvalidArgument", fields=argument("encoding-type", "base64")),
        Row("the encoding in capitals", f"{asked}&encoding-type=URL", 400, "InvalidArgument"),
        Row("delimiter and encoding", f"{asked}&encoding-type=url&delimiter=%2F%20", 200),
    ]


TABLES["ListObjects"] = of_a_list("ListObjects", "prefix=old", "max-keys")
TABLES["ListObjectsV2"] = [
    *of_a_list("ListObjectsV2", "list-type=2", "max-keys"),
    Row("another list type", "GET /bucket?list-type=3", 400, "InvalidArgument", fields=argument("list-type", "3")),
    Row("no list type", "GET /bucket?list-type=", 400, "InvalidArgument"),
    Row("a token that is none", "GET /bucket?list-type=2&continuation-token=%21", 400, "InvalidArgument", fields={"ArgumentName": "continuation-token"}),
    Row("an empty token", "GET /bucket?list-type=2&continuation-token=", 400, "InvalidArgument", fields={"ArgumentName": "continuation-token"}),
    Row("fetch-owner", "GET /bucket?list-type=2&fetch-owner=maybe", 400, "InvalidArgument", fields=argument("fetch-owner", "maybe")),
    Row("an attribute that is none", "GET /bucket?list-type=2", 400, "InvalidArgument", {"x-amz-optional-object-attributes": "Size"}),
]
TABLES["ListObjectVersions"] = [
    *of_a_list("ListObjectVersions", "versions", "max-keys"),
    Row("a version marker alone", "GET /bucket?versions&version-id-marker=null", 400, "InvalidArgument", fields=argument("version-id-marker", "null")),
    Row("both markers", "GET /bucket?versions&key-marker=old&version-id-marker=null", 200),
]
TABLES["ListMultipartUploads"] = [
    *of_a_list("ListMultipartUploads", "uploads", "max-uploads"),
    # API_ListMultipartUploads.html: without a key-marker the upload-id-marker is ignored.
    Row("an upload marker alone", "GET /bucket?uploads&upload-id-marker=x", 200),
    Row("an upload marker that is no id", "GET /bucket?uploads&key-marker=upload&upload-id-marker=x", 400, "InvalidArgument", fields=argument("upload-id-marker", "x")),
    Row("both markers", "GET /bucket?uploads&key-marker=upload&upload-id-marker={upload}", 200),
]

TABLES["PutObject"] = [
    Row("no bucket", "PUT /none/never", 404, "NoSuchBucket", fields={"BucketName": "none"}, body=b"x"),
    *(
        Row(f"Content-MD5 {text!r}", f"PUT {NEVER}", 400, "InvalidDigest", {"Content-MD5": text}, b"x", {"Content-MD5": text})
        for text in ("x", "AAAA", "not base64", md5_base64(b"x")[:-1], hashlib.md5(b"x").hexdigest())
    ),
    Row("an empty Content-MD5", f"PUT {NEVER}", 400, "InvalidDigest", {"Content-MD5": ""}, b"x"),
    Row(
        "another Content-MD5",
        f"PUT {NEVER}",
        400,
        "BadDigest",
        {"Content-MD5": md5_base64(b"y")},
        b"x",
        {"ExpectedDigest": hashlib.md5(b"y").hexdigest(), "CalculatedDigest": md5_base64(b"x")},
    ),
    *(
        Row(f"another {name}", f"PUT {NEVER}", 400, "BadDigest", {f"x-amz-checksum-{name}": value}, b"x", {"Message": f"The {name.upper()} you specified did not match the calculated checksum."})
        for name, value in WRONG.items()
    ),
    *(
        Row(f"{name} {what}", f"PUT {NEVER}", 400, "InvalidRequest", {f"x-amz-checksum-{name}": text}, b"x", {"Message": f"Value for x-amz-checksum-{name} header is invalid."})
        for name, value in WRONG.items()
        for what, text in (("is no base64", "*" + value[1:]), ("of another length", "AAAA"), ("without padding", value.rstrip("=")), ("as of parts", value + "-1"))
    ),
    Row("two checksums", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-checksum-crc32": WRONG["crc32"], "x-amz-checksum-sha1": WRONG["sha1"]}, b"x"),
    Row("an unknown checksum", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-checksum-crc16": "AAA="}, b"x"),
    # In S3 since 2026 and not built: never taken for verified.
    Row("a checksum that is not built", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-checksum-xxhash64": "AAAAAAAAAAA="}, b"x"),
    Row("an algorithm announced alone", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "CRC32"}, b"x"),
    Row("an algorithm announced alone beside Content-MD5", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "SHA256", "Content-MD5": md5_base64(b"x")}, b"x"),
    # The page says BadDigest, the servers InvalidRequest (versitygw#1598).
    Row("another algorithm announced", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": sigv4.crc32_base64(b"x")}, b"x"),
    Row("an unknown algorithm announced", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "CRC16"}, b"x"),
    Row("a type that is none", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-checksum-type": "PARTIAL"}, b"x"),
    Row("metadata over 2 KB", f"PUT {NEVER}", 400, "MetadataTooLarge", {"x-amz-meta-a": "v" * 2048}, b"x", {"MaxSizeAllowed": "2048"}),
    Row("other metadata over 2 KB", f"PUT {NEVER}", 400, "MetadataTooLarge", {"Content-Disposition": "v" * 2048}, b"x", {"MaxSizeAllowed": "2048"}),
    Row("a storage class that is none", f"PUT {NEVER}", 400, "InvalidStorageClass", {"x-amz-storage-class": "COLD"}, b"x"),
    Row("If-Match of another", "PUT /bucket/old", 412, "PreconditionFailed", {"If-Match": '"x"'}, b"x", {"Condition": "If-Match"}),
    Row("If-Match of nothing", f"PUT {NEVER}", 404, "NoSuchKey", {"If-Match": "{etag}"}, b"x", {"Key": "never"}),
    Row("If-None-Match: *", "PUT /bucket/old", 412, "PreconditionFailed", {"If-None-Match": "*"}, b"x", {"Condition": "If-None-Match"}),
    # S3 has If-None-Match for `*` alone. A tag is honoured as RFC 9110 section 13.1.2 says, which ceph's suite asks for.
    Row("If-None-Match of the same", "PUT /bucket/old", 412, "PreconditionFailed", {"If-None-Match": "{etag}"}, b"x"),
    Row("a date as condition", "PUT /bucket/old", 501, "NotImplemented", {"If-Unmodified-Since": "{date}"}, b"x", {"Header": "If-Unmodified-Since"}),
    Row("an empty copy source", f"PUT {NEVER}", 400, "InvalidArgument", {"x-amz-copy-source": ""}, b"x"),
    Row("a version id", f"PUT {NEVER}?versionId=null", 400, "InvalidArgument", body=b"x", fields={"ArgumentName": "versionId"}),
    Row("parts alone", f"PUT {NEVER}?partNumber=1", 400, "InvalidArgument", body=b"x", fields={"ArgumentName": "partNumber"}),
]

READS = [
    Row("no bucket", "GET /none/old", 404, "NoSuchBucket"),
    Row("no key", f"GET {NEVER}", 404, "NoSuchKey", fields={"Key": "never"}),
    Row("a version that is not there", "GET /bucket/old?versionId=0123456789abcdef0123456789abcdef", 404, "NoSuchVersion", fields={"Key": "old"}),
    Row("what is no version id", "GET /bucket/old?versionId=3sL4kq", 400, "InvalidArgument", fields=argument("versionId", "3sL4kq")),
    Row("an empty version", "GET /bucket/old?versionId=", 400, "InvalidArgument", fields={"ArgumentName": "versionId"}),
    Row("the null version", "GET /bucket/old?versionId=null", 200),
    *(
        Row(f"part {number}", f"GET /bucket/old?partNumber={number}", 400, "InvalidArgument", fields={"ArgumentName": "partNumber", "Message": PART_MESSAGE})
        for number in ("0", "-1", "abc", "10001", "1.0", "99999999999")
    ),
    Row("part 2 of one", "GET /bucket/old?partNumber=2", 416, "InvalidPartNumber", fields={"PartNumberRequested": "2", "ActualPartCount": "1"}),
    Row("part 3 of two", "GET /bucket/two-parts?partNumber=3", 416, "InvalidPartNumber", fields={"PartNumberRequested": "3", "ActualPartCount": "2"}),
    Row("part and range", "GET /bucket/old?partNumber=1", 400, "InvalidRequest", {"Range": "bytes=0-0"}),
    Row("behind the end", "GET /bucket/old", 416, "InvalidRange", {"Range": "bytes=3-"}, fields={"RangeRequested": "bytes=3-", "ActualObjectSize": "3"}),
    Row("no suffix", "GET /bucket/old", 416, "InvalidRange", {"Range": "bytes=-0"}),
    # RFC 9110 section 14.2: what is no range, or of another unit, is ignored, and so are several, which S3 has not.
    *(Row(f"Range {text}", "GET /bucket/old", 200, None, {"Range": text}) for text in ("bytes=2-1", "bytes=a-b", "lines=0-1", "bytes=0-0,2-2")),
    Row("a header that cannot be overridden", "GET /bucket/old?response-etag=x", 400, "InvalidArgument", fields={"ArgumentName": "response-etag"}),
    Row("a header that can", "GET /bucket/old?response-content-type=text%2Fplain", 200),
    Row("encryption", "GET /bucket/old", 501, "NotImplemented", {"x-amz-server-side-encryption-customer-algorithm": "AES256"}),
    Row("a checksum mode that is none", "GET /bucket/old", 400, "InvalidArgument", {"x-amz-checksum-mode": "on"}),
]
TABLES["GetObject"] = READS
TABLES["HeadObject"] = [row._replace(asked=row.asked.replace("GET", "HEAD")) for row in READS]

TABLES["GetObjectAttributes"] = [
    Row("none asked for", "GET /bucket/old?attributes", 400, "InvalidRequest"),
    Row("none in the list", "GET /bucket/old?attributes", 400, "InvalidRequest", {"x-amz-object-attributes": ""}),
    Row("one that is none", "GET /bucket/old?attributes", 400, "InvalidArgument", {"x-amz-object-attributes": "ETag,Owner"}, fields={"ArgumentName": "x-amz-object-attributes"}),
    Row("no key", f"GET {NEVER}?attributes", 404, "NoSuchKey", {"x-amz-object-attributes": "ETag"}),
    Row("no bucket", "GET /none/old?attributes", 404, "NoSuchBucket", {"x-amz-object-attributes": "ETag"}),
    *(
        Row(f"{name} {text}", "GET /bucket/two-parts?attributes", 400, "InvalidArgument", {"x-amz-object-attributes": "ObjectParts", name: text}, fields={"ArgumentName": name})
        for name in ("x-amz-max-parts", "x-amz-part-number-marker")
        for text in ("-1", "abc", "2147483648", "1.5")
    ),
    Row("more parts than a page has", "GET /bucket/two-parts?attributes", 200, None, {"x-amz-object-attributes": "ObjectParts", "x-amz-max-parts": "2147483647"}),
    Row("a version that is not there", "GET /bucket/old?attributes&versionId=0123456789abcdef0123456789abcdef", 404, "NoSuchVersion", {"x-amz-object-attributes": "ETag"}),
]

SOURCE_FORM = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
COPIES = [
    Row("a source without a key", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket"}, fields={"ArgumentName": "x-amz-copy-source"}),
    Row("a source with an empty key", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/"}),
    Row("a source with an empty bucket", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "//old"}),
    Row("a source with a broken escape", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/%zz"}),
    Row("a source that is not UTF-8", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/%ff"}),
    Row("a source with an empty version", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old?versionId="}),
    Row("a source key of 1025 bytes", "PUT {to}", 400, "KeyTooLongError", {"x-amz-copy-source": "bucket/" + "k" * 1025}),
    Row("no source bucket", "PUT {to}", 404, "NoSuchBucket", {"x-amz-copy-source": "none/old"}, fields={"BucketName": "none"}),
    Row("no source key", "PUT {to}", 404, "NoSuchKey", {"x-amz-copy-source": "bucket/gone"}, fields={"Key": "gone"}),
    Row("no source version", "PUT {to}", 404, "NoSuchVersion", {"x-amz-copy-source": "bucket/old?versionId=0123456789abcdef0123456789abcdef"}),
    Row("what is no source version", "PUT {to}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old?versionId=abc"}),
    Row("another account's source", "PUT {to}", 403, "AccessDenied", {"x-amz-copy-source": "bucket/old", "x-amz-source-expected-bucket-owner": "000000000000"}),
    Row("an encrypted source", "PUT {to}", 501, "NotImplemented", {"x-amz-copy-source": "bucket/old", "x-amz-copy-source-server-side-encryption-customer-algorithm": "AES256"}),
    Row("a body", "PUT {to}", 400, "InvalidRequest", {"x-amz-copy-source": "bucket/old"}, b"x"),
]
TABLES["CopyObject"] = [
    *(row._replace(asked=f"PUT {NEVER}") for row in COPIES),
    Row("to no bucket", "PUT /none/never", 404, "NoSuchBucket", {"x-amz-copy-source": "bucket/old"}, fields={"BucketName": "none"}),
    Row("onto itself", "PUT /bucket/old", 400, "InvalidRequest", {"x-amz-copy-source": "bucket/old"}),
    Row("onto itself, said twice", "PUT /bucket/old", 400, "InvalidRequest", {"x-amz-copy-source": "bucket/old", "x-amz-metadata-directive": "COPY"}),
    Row("a directive that is none", f"PUT {NEVER}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old", "x-amz-metadata-directive": "KEEP"}, fields=argument("x-amz-metadata-directive", "KEEP")),
    Row("a tagging directive that is none", f"PUT {NEVER}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old", "x-amz-tagging-directive": "KEEP"}),
    Row("a range", f"PUT {NEVER}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old", "x-amz-copy-source-range": "bytes=0-0"}, fields={"ArgumentName": "x-amz-copy-source-range"}),
    Row("an unknown checksum", f"PUT {NEVER}", 400, "InvalidRequest", {"x-amz-copy-source": "bucket/old", "x-amz-checksum-algorithm": "CRC16"}),
    Row("If-Match of another", "PUT /bucket/old", 412, "PreconditionFailed", {"x-amz-copy-source": "bucket/empty", "If-Match": '"x"'}, fields={"Condition": "If-Match"}),
    Row("If-Match of nothing", f"PUT {NEVER}", 404, "NoSuchKey", {"x-amz-copy-source": "bucket/old", "If-Match": '"x"'}),
    Row("If-None-Match: *", "PUT /bucket/old", 412, "PreconditionFailed", {"x-amz-copy-source": "bucket/empty", "If-None-Match": "*"}, fields={"Condition": "If-None-Match"}),
    Row("metadata over 2 KB", f"PUT {NEVER}", 400, "MetadataTooLarge", {"x-amz-copy-source": "bucket/old", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-a": "v" * 2048}),
    Row("a version id", f"PUT {NEVER}?versionId=null", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old"}),
]

UPLOAD = "/bucket/upload?partNumber=3&uploadId={upload}"
COPY_RANGE = {"ArgumentName": "x-amz-copy-source-range"}
TABLES["UploadPartCopy"] = [
    *(row._replace(asked=f"PUT {UPLOAD}") for row in COPIES),
    # The form is `bytes=first-last`, and it must lie inside the source.
    *(
        Row(f"range {text!r}", f"PUT {UPLOAD}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old", "x-amz-copy-source-range": text}, fields=COPY_RANGE)
        for text in ("0-2", "bytes=0-", "bytes=-1", "bytes=2-1", "bytes=0-0,1-1", "bytes=a-b", "byte=0-1", "bytes=0-3", "bytes= 0-1", "bytes=0-18446744073709551616")
    ),
    # Programs know both answers of S3: this one where the range begins behind the source's end, that above where it only ends there.
    *(
        Row(f"range {text!r}", f"PUT {UPLOAD}", 400, "InvalidRequest", {"x-amz-copy-source": "bucket/old", "x-amz-copy-source-range": text})
        for text in ("bytes=3-4", "bytes=100-200")
    ),
    Row("no upload", f"PUT /bucket/upload?partNumber=1&uploadId={UNKNOWN_ID}", 404, "NoSuchUpload", {"x-amz-copy-source": "bucket/old"}, fields={"UploadId": UNKNOWN_ID}),
    *(Row(f"part {text!r}", f"PUT /bucket/upload?partNumber={text}&uploadId={{upload}}", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old"}, fields=argument("partNumber", text)) for text in ("0", "10001", "-1", "x")),
    Row("no part", "PUT /bucket/upload?uploadId={upload}", 405, "MethodNotAllowed", {"x-amz-copy-source": "bucket/old"}),
    Row("no upload id", "PUT /bucket/upload?partNumber=1", 400, "InvalidArgument", {"x-amz-copy-source": "bucket/old"}, fields={"ArgumentName": "partNumber"}),
    Row("a condition on the upload", f"PUT {UPLOAD}", 501, "NotImplemented", {"x-amz-copy-source": "bucket/old", "If-None-Match": "*"}),
]

CREATE = "POST /bucket/never?uploads"
TABLES["CreateMultipartUpload"] = [
    Row("no bucket", "POST /none/never?uploads", 404, "NoSuchBucket"),
    Row("a type without an algorithm", CREATE, 400, "InvalidRequest", {"x-amz-checksum-type": "COMPOSITE"}),
    Row("a type that is none", CREATE, 400, "InvalidRequest", {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "PARTS"}),
    Row("an algorithm that is none", CREATE, 400, "InvalidRequest", {"x-amz-checksum-algorithm": "CRC16"}),
    # checking-object-integrity.html has the table of algorithms and types.
    *(
        Row(f"{algorithm} as {kind}", CREATE, 400, "InvalidRequest", {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind})
        for algorithm, kind in (("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"))
    ),
    Row("metadata over 2 KB", CREATE, 400, "MetadataTooLarge", {"x-amz-meta-a": "v" * 2048}),
    Row("a condition", CREATE, 501, "NotImplemented", {"If-None-Match": "*"}),
    Row("a storage class that is none", CREATE, 400, "InvalidStorageClass", {"x-amz-storage-class": "COLD"}),
    Row("encryption", CREATE, 501, "NotImplemented", {"x-amz-server-side-encryption": "AES256"}),
    Row("a version id", f"{CREATE}&versionId=null", 400, "InvalidArgument", fields={"ArgumentName": "versionId"}),
]

TABLES["UploadPart"] = [
    Row("no upload", f"PUT /bucket/upload?partNumber=1&uploadId={UNKNOWN_ID}", 404, "NoSuchUpload", body=b"x", fields={"UploadId": UNKNOWN_ID}),
    Row("an upload that was completed", "PUT /bucket/two-parts?partNumber=1&uploadId={gone}", 404, "NoSuchUpload", body=b"x"),
    Row("another key's upload", "PUT /bucket/old?partNumber=1&uploadId={upload}", 404, "NoSuchUpload", body=b"x"),
    Row("an empty upload id", "PUT /bucket/upload?partNumber=1&uploadId=", 404, "NoSuchUpload", body=b"x"),
    *(
        Row(f"part {text!r}", f"PUT /bucket/upload?partNumber={text}&uploadId={{upload}}", 400, "InvalidArgument", body=b"x", fields={"Message": PART_MESSAGE} | argument("partNumber", text))
        for text in ("0", "10001", "-1", "x", "", "1.0", "4294967297", "99999999999999999999")
    ),
    Row("no part", "PUT /bucket/upload?uploadId={upload}", 405, "MethodNotAllowed", body=b"x"),
    Row("no upload id", "PUT /bucket/upload?partNumber=1", 400, "InvalidArgument", body=b"x", fields={"ArgumentName": "partNumber"}),
    Row("wrong Content-MD5", f"PUT {UPLOAD}", 400, "BadDigest", {"Content-MD5": md5_base64(b"y")}, b"x"),
    Row("invalid Content-MD5", f"PUT {UPLOAD}", 400, "InvalidDigest", {"Content-MD5": "y"}, b"x"),
    *(Row(f"another {name}", f"PUT {UPLOAD}", 400, "BadDigest", {f"x-amz-checksum-{name}": value}, b"x") for name, value in WRONG.items()),
    Row("two checksums", f"PUT {UPLOAD}", 400, "InvalidRequest", {"x-amz-checksum-crc32": WRONG["crc32"], "x-amz-checksum-sha1": WRONG["sha1"]}, b"x"),
    # checking-object-integrity.html: a COMPOSITE upload needs the announced checksum with each part, of FULL_OBJECT S3 computes it.
    Row(
        "without the announced checksum",
        "PUT /bucket/composite?partNumber=2&uploadId={composite}",
        400,
        "InvalidRequest",
        body=b"x",
        fields={"Message": "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: null"},
    ),
    Row(
        "another checksum than the announced one",
        "PUT /bucket/composite?partNumber=2&uploadId={composite}",
        400,
        "InvalidRequest",
        {"x-amz-checksum-crc32": sigv4.crc32_base64(b"x")},
        b"x",
        {"Message": "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: crc32"},
    ),
    Row("another checksum than the whole object's", "PUT /bucket/full?partNumber=2&uploadId={full}", 400, "InvalidRequest", {"x-amz-checksum-sha1": base64.b64encode(hashlib.sha1(b"x").digest()).decode()}, b"x"),
    Row("none where the whole object's is announced", "PUT /bucket/full?partNumber=2&uploadId={full}", 200, body=b"x"),
    Row("one where none is announced", "PUT /bucket/upload?partNumber=3&uploadId={upload}", 200, None, {"x-amz-checksum-crc32": sigv4.crc32_base64(b"x")}, b"x"),
    Row("a condition", f"PUT {UPLOAD}", 501, "NotImplemented", {"If-None-Match": "*"}, b"x"),
    Row("an announced algorithm alone", f"PUT {UPLOAD}", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "CRC32"}, b"x"),
]

COMPLETE = "POST /bucket/upload?uploadId={upload}"
COMPOSITE = "POST /bucket/composite?uploadId={composite}"
FULL = "POST /bucket/full?uploadId={full}"
ITS_SHA256 = "<ChecksumSHA256>{sha256}</ChecksumSHA256>"
ONE = complete(part(1))
TABLES["CompleteMultipartUpload"] = [
    Row("no upload", f"POST /bucket/upload?uploadId={UNKNOWN_ID}", 404, "NoSuchUpload", body=ONE, fields={"UploadId": UNKNOWN_ID}),
    Row("another key's upload", "POST /bucket/old?uploadId={upload}", 404, "NoSuchUpload", body=ONE),
    Row("no body", COMPLETE, 400, "InvalidRequest", fields={"Message": "You must specify at least one part"}),
    Row("no parts", COMPLETE, 400, "MalformedXML", body=complete()),
    Row("not XML", COMPLETE, 400, "MalformedXML", body=b"parts"),
    Row("cut off", COMPLETE, 400, "MalformedXML", body=ONE[:-5]),
    Row("another document", COMPLETE, 400, "MalformedXML", body=b"<Delete/>"),
    Row("a part without its number", COMPLETE, 400, "MalformedXML", body=complete(b"<Part><ETag>{part1}</ETag></Part>")),
    Row("a part without its tag", COMPLETE, 400, "MalformedXML", body=complete(b"<Part><PartNumber>1</PartNumber></Part>")),
    Row("a number that is none", COMPLETE, 400, "MalformedXML", body=complete(part("one"))),
    Row("more than 10,000 parts", COMPLETE, 400, "MalformedXML", body=complete(*(part(number) for number in range(1, 10_002)))),
    Row("part 0", COMPLETE, 400, "InvalidArgument", body=complete(part(0)), fields={"Message": "PartNumber must be >= 1"} | argument("PartNumber", "0")),
    Row("part -4", COMPLETE, 400, "InvalidArgument", body=complete(part(-4)), fields=argument("PartNumber", "-4")),
    Row("part 0 behind others", COMPLETE, 400, "InvalidArgument", body=complete(part(1), part(0))),
    Row("part 10,001", COMPLETE, 400, "InvalidArgument", body=complete(part(10_001)), fields=argument("PartNumber", "10001")),
    Row("a part that is not there", COMPLETE, 400, "InvalidPart", body=complete(part(9)), fields={"UploadId": "{upload}", "PartNumber": "9"}),
    Row("another tag", COMPLETE, 400, "InvalidPart", body=complete(part(1, '"' + "0" * 32 + '"')), fields={"PartNumber": "1"}),
    Row("a tag that is none", COMPLETE, 400, "InvalidPart", body=complete(part(1, "x"))),
    Row("not in order", COMPLETE, 400, "InvalidPartOrder", body=complete(part(2, "{part2}"), part(1)), fields={"UploadId": "{upload}"}),
    Row("twice", COMPLETE, 400, "InvalidPartOrder", body=complete(part(1), part(1))),
    Row("a small part before another", COMPLETE, 400, "EntityTooSmall", body=complete(part(1), part(2, "{part2}")), fields={"ProposedSize": "5", "MinSizeAllowed": str(5 * MIB), "PartNumber": "1"}),
    Row("another size", COMPLETE, 400, "InvalidRequest", {"x-amz-mp-object-size": "6"}, ONE),
    Row("a negative size", COMPLETE, 400, "InvalidRequest", {"x-amz-mp-object-size": "-1"}, ONE),
    Row("a size that is none", COMPLETE, 400, "InvalidRequest", {"x-amz-mp-object-size": "six"}, ONE),
    Row("wrong Content-MD5", COMPLETE, 400, "BadDigest", {"Content-MD5": md5_base64(b"y")}, ONE),
    Row("If-Match of nothing", COMPLETE, 404, "NoSuchKey", {"If-Match": "{etag}"}, ONE, {"Key": "upload"}),
    Row("two checksums of the object", COMPLETE, 400, "InvalidRequest", {"x-amz-checksum-crc32": WRONG["crc32"], "x-amz-checksum-sha1": WRONG["sha1"]}, ONE),
    Row("a checksum that is none", COMPOSITE, 400, "InvalidRequest", {"x-amz-checksum-sha256": "x"}, complete(part(1, "{composite_part}", ITS_SHA256))),
    Row("a checksum of no number of parts", COMPOSITE, 400, "InvalidRequest", {"x-amz-checksum-sha256": WRONG["sha256"] + "-x"}, complete(part(1, "{composite_part}", ITS_SHA256))),
    Row("another checksum of the object", COMPOSITE, 400, "BadDigest", {"x-amz-checksum-sha256": WRONG["sha256"]}, complete(part(1, "{composite_part}", ITS_SHA256))),
    Row("another checksum of the whole object", FULL, 400, "BadDigest", {"x-amz-checksum-crc32": WRONG["crc32"]}, complete(part(1, "{full_part}"))),
    Row("another algorithm than the announced", FULL, 400, "InvalidRequest", {"x-amz-checksum-sha256": "{sha256}"}, complete(part(1, "{full_part}"))),
    Row("a type that is none", FULL, 400, "InvalidRequest", {"x-amz-checksum-type": "PARTS"}, complete(part(1, "{full_part}"))),
    # The page says BadDigest; the servers are known for InvalidRequest. The page is what there is to hold on to.
    Row("another type than the announced", FULL, 400, "BadDigest", {"x-amz-checksum-type": "COMPOSITE"}, complete(part(1, "{full_part}"))),
    Row("another type than the parts'", COMPOSITE, 400, "BadDigest", {"x-amz-checksum-type": "FULL_OBJECT"}, complete(part(1, "{composite_part}", ITS_SHA256))),
    Row(
        "a part without the announced checksum",
        COMPOSITE,
        400,
        "InvalidRequest",
        body=complete(part(1, "{composite_part}")),
        fields={"Message": "The upload was created using a sha256 checksum. The complete request must include the checksum for each part. It was missing for part 1 in the request."},
    ),
    Row("a part with another checksum", COMPOSITE, 400, "InvalidPart", body=complete(part(1, "{composite_part}", f"<ChecksumSHA256>{WRONG['sha256']}</ChecksumSHA256>"))),
    Row("a part with another algorithm", COMPOSITE, 400, "BadDigest", body=complete(part(1, "{composite_part}", f"<ChecksumCRC32>{WRONG['crc32']}</ChecksumCRC32>"))),
    Row("a part with a checksum that is none", COMPOSITE, 400, "InvalidArgument", body=complete(part(1, "{composite_part}", "<ChecksumSHA256>x</ChecksumSHA256>"))),
    Row("a part with two checksums", COMPOSITE, 400, "InvalidArgument", body=complete(part(1, "{composite_part}", ITS_SHA256 + f"<ChecksumCRC32>{WRONG['crc32']}</ChecksumCRC32>"))),
    # What was refused is still all there.
    Row("as it was uploaded, composite", COMPOSITE, 200, body=complete(part(1, "{composite_part}", ITS_SHA256))),
    Row("as it was uploaded, whole", FULL, 200, None, {"x-amz-checksum-type": "FULL_OBJECT"}, complete(part(1, "{full_part}"))),
]

TABLES["AbortMultipartUpload, ListParts"] = [
    Row("abort of none", f"DELETE /bucket/upload?uploadId={UNKNOWN_ID}", 404, "NoSuchUpload", fields={"UploadId": UNKNOWN_ID}),
    Row("abort of another key's", "DELETE /bucket/old?uploadId={upload}", 404, "NoSuchUpload"),
    Row("abort of an empty id", "DELETE /bucket/upload?uploadId=", 404, "NoSuchUpload"),
    # API_AbortMultipartUpload.html: of directory buckets alone.
    Row("abort with a condition", "DELETE /bucket/upload?uploadId={upload}", 501, "NotImplemented", {"x-amz-if-match-initiated-time": "{date}"}),
    Row("parts of none", f"GET /bucket/upload?uploadId={UNKNOWN_ID}", 404, "NoSuchUpload"),
    *(
        Row(f"{name}={text}", f"GET /bucket/upload?uploadId={{upload}}&{name}={text}", 400, "InvalidArgument", fields=argument(name, text))
        for name in ("max-parts", "part-number-marker")
        for text in ("-1", "abc", "2147483648", "1.5")
    ),
    Row("more than a page", "GET /bucket/upload?uploadId={upload}&max-parts=2147483647", 200),
    Row("behind all parts", "GET /bucket/upload?uploadId={upload}&part-number-marker=10001", 200),
]

TABLES["DeleteObject"] = [
    Row("no bucket", "DELETE /none/old", 404, "NoSuchBucket"),
    Row("no key", f"DELETE {NEVER}", 204),
    Row("a version that is not there", "DELETE /bucket/old?versionId=0123456789abcdef0123456789abcdef", 204),
    Row("what is no version id", "DELETE /bucket/old?versionId=abc", 400, "InvalidArgument"),
    Row("an empty version", "DELETE /bucket/old?versionId=", 400, "InvalidArgument"),
    Row("another tag", "DELETE /bucket/old", 412, "PreconditionFailed", {"If-Match": '"x"'}),
    # The guide (conditional-deletes.html): 404 where no object is. Other servers say 204.
    Row("a tag of nothing", f"DELETE {NEVER}", 404, "NoSuchKey", {"If-Match": '"x"'}),
    Row("any tag of nothing", f"DELETE {NEVER}", 404, "NoSuchKey", {"If-Match": "*"}),
    Row("If-None-Match", "DELETE /bucket/old", 501, "NotImplemented", {"If-None-Match": "*"}),
    Row("If-Unmodified-Since", "DELETE /bucket/old", 501, "NotImplemented", {"If-Unmodified-Since": "{date}"}),
    # API_DeleteObject.html has these two for directory buckets alone. Here they hold of any bucket: none that asks for one of them
    # loses an object by it. Of what is gone neither can be wrong.
    Row("another size", "DELETE /bucket/old", 412, "PreconditionFailed", {"x-amz-if-match-size": "4"}),
    Row("a size that is none", "DELETE /bucket/old", 400, "InvalidArgument", {"x-amz-if-match-size": "three"}),
    Row("another date", "DELETE /bucket/old", 412, "PreconditionFailed", {"x-amz-if-match-last-modified-time": "Sun, 06 Nov 1994 08:49:37 GMT"}),
    Row("a date that is none", "DELETE /bucket/old", 400, "InvalidArgument", {"x-amz-if-match-last-modified-time": "yesterday"}),
    Row("a size of nothing", f"DELETE {NEVER}", 204, None, {"x-amz-if-match-size": "4"}),
]


def deletes(why, body: bytes, status: int, code: str | None = None, **fields) -> Row:
    return Row(why, "POST /bucket?delete", status, code, {"Content-MD5": md5_base64(body)}, body, fields)


ONE_KEY = b"<Delete><Object><Key>never</Key></Object></Delete>"
TABLES["DeleteObjects"] = [
    deletes("no body", b"", 400, "MissingRequestBodyError"),
    deletes("no objects", b"<Delete></Delete>", 400, "MalformedXML"),
    deletes("not XML", b"keys", 400, "MalformedXML"),
    deletes("cut off", ONE_KEY[:-3], 400, "MalformedXML"),
    deletes("another element", b"<Delete><Object><Name>never</Name></Object></Delete>", 400, "MalformedXML"),
    deletes("an empty key", b"<Delete><Object><Key></Key></Object></Delete>", 400, "MalformedXML"),
    deletes("two keys in one", b"<Delete><Object><Key>never</Key><Key>never</Key></Object></Delete>", 400, "MalformedXML"),
    deletes("Quiet that is no boolean", b"<Delete><Quiet>perhaps</Quiet><Object><Key>never</Key></Object></Delete>", 400, "MalformedXML"),
    deletes("1,001 keys", b"<Delete>" + b"<Object><Key>never</Key></Object>" * 1001 + b"</Delete>", 400, "MalformedXML"),
    deletes("1,000 keys", b"<Delete>" + b"<Object><Key>never</Key></Object>" * 1000 + b"</Delete>", 200),
    deletes("a key of 1025 bytes", b"<Delete><Object><Key>" + b"k" * 1025 + b"</Key></Object></Delete>", 400, "KeyTooLongError", MaxSizeAllowed="1024"),
    Row("no digest", "POST /bucket?delete", 400, "InvalidRequest", body=ONE_KEY, fields={"Message": "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"}),
    # What only announces a digest is none.
    Row("an algorithm alone", "POST /bucket?delete", 400, "InvalidRequest", {"x-amz-checksum-algorithm": "CRC32"}, ONE_KEY),
    Row("an SDK's algorithm alone", "POST /bucket?delete", 400, "InvalidRequest", {"x-amz-sdk-checksum-algorithm": "CRC32"}, ONE_KEY),
    Row("wrong Content-MD5", "POST /bucket?delete", 400, "BadDigest", {"Content-MD5": md5_base64(b"y")}, ONE_KEY),
    Row("invalid Content-MD5", "POST /bucket?delete", 400, "InvalidDigest", {"Content-MD5": "y"}, ONE_KEY),
    Row("another checksum", "POST /bucket?delete", 400, "BadDigest", {"x-amz-checksum-crc32": WRONG["crc32"]}, ONE_KEY),
    Row("no bucket", "POST /none?delete", 404, "NoSuchBucket", {"Content-MD5": md5_base64(ONE_KEY)}, ONE_KEY),
    Row("a condition", "POST /bucket?delete", 501, "NotImplemented", {"Content-MD5": md5_base64(ONE_KEY), "If-Match": "*"}, ONE_KEY),
]

ROWS = [pytest.param(row, id=f"{operation}: {row.why}") for operation, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize("row", ROWS)
def test_row(state, row):
    expected = row._replace(fields={name: state.of(value) for name, value in row.fields.items()})
    check(expected, state.ask(row))


# DeleteObjects refuses single keys in a 200.

OF_KEYS = [
    ("a version that is not there", "<VersionId>abc</VersionId>", "NoSuchVersion"),
    ("another tag", "<ETag>x</ETag>", "PreconditionFailed"),
    ("another size", "<Size>4</Size>", "PreconditionFailed"),
    ("another date", "<LastModifiedTime>1994-11-06T08:49:37Z</LastModifiedTime>", "PreconditionFailed"),
    ("a date that is none", "<LastModifiedTime>yesterday</LastModifiedTime>", "InvalidArgument"),
]


@pytest.mark.parametrize("quiet", ["true", "false"])
@pytest.mark.parametrize(("why", "element", "code"), OF_KEYS)
def test_delete_objects_refuses_a_key(state, why, element, code, quiet):
    keys = f"<Object><Key>old</Key>{element}</Object><Object><Key>never</Key></Object>"
    body = f"<Delete><Quiet>{quiet}</Quiet>{keys}</Delete>".encode()
    answer = state.client.request("POST", f"/{BUCKET}", body, [("delete", "")], {"Content-MD5": md5_base64(body)})
    assert (answer.status, answer.code, answer.field("Key")) == (200, code, "old" if quiet == "true" else answer.field("Key")), answer
    assert answer.body.count(b"<Error>") == 1 and answer.body.count(b"<Deleted>") == (quiet == "false"), answer
    assert "<Error><Key>old</Key>" in answer.body.decode(), answer


# Conditions. Each field true, false or absent: RFC 9110 section 13.2.2, and the combinations that API_GetObject.html and
# API_CopyObject.html spell out are among them.


def preconditions(state, prefix: str = ""):
    """All 81 combinations: headers, and whether the request goes on, is not modified (304) or has failed (412)."""
    day = state.modified_s - DAY_S
    before = email.utils.formatdate(day, usegmt=True)
    values = {
        "if-match": {True: state.names["etag"], False: '"x"'},
        "if-none-match": {True: '"x"', False: state.names["etag"]},
        "if-modified-since": {True: before, False: state.names["date"]},
        "if-unmodified-since": {True: state.names["date"], False: before},
    }
    for chosen in itertools.product((None, True, False), repeat=4):
        match, none_match, modified, unmodified = chosen
        headers = {prefix + name: values[name][holds] for name, holds in zip(values, chosen) if holds is not None}
        # Step 1 or, without If-Match, step 2; then step 3 or, without If-None-Match, step 4.
        first = match if match is not None else unmodified
        second = none_match if none_match is not None else modified
        yield headers, 412 if first is False else 304 if second is False else 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_of_reads(state, method):
    for headers, expected in preconditions(state):
        answer = state.client.request(method, f"/{BUCKET}/old", headers=headers)
        assert answer.status == expected, (headers, answer)
        if expected == 304:
            assert (answer.headers["etag"], answer.body) == (state.names["etag"], b"")
        if expected == 412 and method == "GET":
            assert answer.code == "PreconditionFailed"
            assert answer.field("Condition") == ("If-Match" if "if-match" in headers else "If-Unmodified-Since")


COPY_TARGETS = {"CopyObject": ("copied", []), "UploadPartCopy": ("upload", [("partNumber", "4"), ("uploadId", "{upload}")])}


@pytest.mark.parametrize("operation", COPY_TARGETS)
def test_preconditions_of_copies(state, operation):
    """The same rules; what would not be modified is 412 (API_CopyObject.html, API_UploadPartCopy.html)."""
    key, query = COPY_TARGETS[operation]
    query = [(name, state.of(value)) for name, value in query]
    for headers, expected in preconditions(state, "x-amz-copy-source-"):
        headers |= {"x-amz-copy-source": f"{BUCKET}/old"}
        answer = state.client.request("PUT", f"/{BUCKET}/{key}", query=query, headers=headers)
        assert answer.status == (200 if expected == 200 else 412), (headers, answer)
        if expected == 200:
            assert answer.field("ETag"), answer
        else:
            assert answer.code == "PreconditionFailed"
            assert answer.field("Condition").lower() in headers


# Dates. RFC 9110 section 5.6.7 has three forms; section 13.1.3: what is no date is ignored. A date that lies ahead of the server's
# clock is none to If-Modified-Since (RFC 7232 section 3.3 refers to RFC 2616 section 14.25, which says so), as in S3.

FORMS = {
    "IMF-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "RFC 850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %e %H:%M:%S %Y",
}
NO_DATES = ["yesterday", "0", "2026-01-01T00:00:00Z", "20260101T000000Z", "Sun, 32 Nov 2020 08:49:37 GMT", "Sun, 08 Nov 2020 25:49:37 GMT", "Sun, 08 Nov 2020 08:49:37 CET", "Sun, 08 Nov 2020 08:49:37", ""]


def written(form: str, seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(FORMS[form])


def dated(state, name: str, text: str) -> int:
    """The status of a GET with this condition, and of a copy with its twin, which must agree."""
    read = state.client.get(BUCKET, "old", **{name: text}).status
    headers = {"x-amz-copy-source": f"{BUCKET}/old", f"x-amz-copy-source-{name}": text}
    copied = state.client.request("PUT", f"/{BUCKET}/copied", headers=headers).status
    assert copied == (200 if read == 200 else 412), (name, text, copied)
    return read


@pytest.mark.parametrize("form", FORMS)
def test_dates_to_the_second_in_each_form(state, form):
    def at(offset_s: int) -> str:
        return written(form, state.modified_s + offset_s)

    assert dated(state, "if-modified-since", at(0)) == 304
    assert dated(state, "if-modified-since", at(-1)) == 200
    assert dated(state, "if-modified-since", at(-DAY_S)) == 200
    assert dated(state, "if-unmodified-since", at(0)) == 200
    assert dated(state, "if-unmodified-since", at(-1)) == 412
    assert dated(state, "if-unmodified-since", at(-DAY_S)) == 412
    ahead = written(form, time.time() + DAY_S)
    assert dated(state, "if-modified-since", ahead) == 200
    assert dated(state, "if-unmodified-since", ahead) == 200


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_ignored(state, text):
    assert dated(state, "if-modified-since", text) == 200
    assert dated(state, "if-unmodified-since", text) == 200


def test_two_digits_of_a_year_are_at_most_fifty_years_ahead(state):
    """RFC 9110 section 5.6.7, of the form of RFC 850: the century is chosen by the clock."""
    year = datetime.date.today().year
    assert dated(state, "if-unmodified-since", f"Friday, 01-Jan-{(year + 49) % 100:02} 00:00:00 GMT") == 200
    assert dated(state, "if-unmodified-since", f"Friday, 01-Jan-{(year + 52) % 100:02} 00:00:00 GMT") == 412


# Signatures, a row for each code of the list of errors; test_auth.py and test_presigned.py bend every part of one.


def bent(client: Client, **changes: str) -> Request:
    request = client.signed("GET", f"/{BUCKET}/old")
    for name, value in changes.items():
        name = name.replace("_", "-")
        name = next((known for known in request.headers if known.lower() == name), name)
        request.headers[name] = value
    return request


def replaced(client: Client, old: str, new: str) -> Request:
    request = client.signed("GET", f"/{BUCKET}/old")
    request.headers["Authorization"] = request.headers["Authorization"].replace(old, new)
    return request


def without(client: Client, name: str) -> Request:
    request = client.signed("GET", f"/{BUCKET}/old")
    del request.headers[name]
    return request


def dated_request(client: Client, offset_s: int) -> Request:
    request = Request("GET", f"/{BUCKET}/old")
    sigv4.sign(request, CREDENTIALS, client.host, date=sigv4.amz_date(offset_s))
    return request


def linked(client: Client, **changes: str) -> Request:
    """A pre-signed URL with other parameters than the signed ones; an empty value leaves one out."""
    request = client.presigned("GET", f"/{BUCKET}/old")
    changes = {"X-Amz-" + name: value for name, value in changes.items()}
    request.query = [(name, changes.get(name, value)) for name, value in request.query if changes.get(name, value)]
    return request


def expired(client: Client) -> Request:
    request = Request("GET", f"/{BUCKET}/old")
    sigv4.presign(request, CREDENTIALS, client.host, 60, sigv4.amz_date(-120))
    return request


SIGNATURES = [
    ("none", lambda c: Request("GET", f"/{BUCKET}/old", headers={"Host": c.host}), 403, "AccessDenied", {}),
    ("another scheme", lambda c: bent(c, authorization="Basic eDp5"), 400, "InvalidArgument", {"ArgumentName": "Authorization"}),
    ("version 2", lambda c: bent(c, authorization="AWS a:b"), 400, "InvalidRequest", {}),
    ("no credential", lambda c: bent(c, authorization="AWS4-HMAC-SHA256 Signature=0"), 400, "AuthorizationHeaderMalformed", {}),
    ("another service", lambda c: replaced(c, "/s3/", "/ec2/"), 400, "AuthorizationHeaderMalformed", {}),
    ("another end", lambda c: replaced(c, "aws4_request", "aws5_request"), 400, "AuthorizationHeaderMalformed", {}),
    ("no date in the scope", lambda c: replaced(c, f"/{sigv4.amz_date()[:8]}/", "/today/"), 400, "AuthorizationHeaderMalformed", {}),
    ("an unknown key", lambda c: replaced(c, CREDENTIALS.access_key, "nobody"), 403, "InvalidAccessKeyId", {"AWSAccessKeyId": "nobody"}),
    ("another signature", lambda c: replaced(c, "Signature=", "Signature=0"), 403, "SignatureDoesNotMatch", {"AWSAccessKeyId": CREDENTIALS.access_key}),
    ("no date", lambda c: without(c, "x-amz-date"), 403, "AccessDenied", {}),
    ("a date that is none", lambda c: bent(c, x_amz_date="today"), 403, "AccessDenied", {}),
    ("16 minutes ago", lambda c: dated_request(c, -960), 403, "RequestTimeTooSkewed", {"MaxAllowedSkewMilliseconds": "900000"}),
    ("in 16 minutes", lambda c: dated_request(c, 960), 403, "RequestTimeTooSkewed", {"MaxAllowedSkewMilliseconds": "900000"}),
    ("14 minutes ago", lambda c: dated_request(c, -840), 200, None, {}),
    ("in 14 minutes", lambda c: dated_request(c, 840), 200, None, {}),
    ("no hash", lambda c: without(c, "x-amz-content-sha256"), 400, "InvalidRequest", {}),
    ("a hash that is none", lambda c: c.signed("GET", f"/{BUCKET}/old", payload_hash="x"), 400, "InvalidArgument", argument("x-amz-content-sha256", "x")),
    (
        "another hash",
        lambda c: c.signed("PUT", f"/{BUCKET}/never", b"x", payload_hash=sigv4.EMPTY_SHA256),
        400,
        "XAmzContentSHA256Mismatch",
        {"ClientComputedContentSHA256": sigv4.EMPTY_SHA256, "S3ComputedContentSHA256": sigv4.sha256_hex(b"x")},
    ),
    ("a session token", lambda c: c.signed("GET", f"/{BUCKET}/old", headers={"x-amz-security-token": "t"}), 400, "InvalidToken", {}),
    ("a link without a date", lambda c: linked(c, Date=""), 400, "AuthorizationQueryParametersError", {}),
    ("a link for no time", lambda c: linked(c, Expires="0"), 400, "AuthorizationQueryParametersError", {}),
    ("a link until before", lambda c: linked(c, Expires="-1"), 400, "AuthorizationQueryParametersError", {}),
    ("a link for over a week", lambda c: linked(c, Expires="604801"), 400, "AuthorizationQueryParametersError", {}),
    ("a link for ever", lambda c: linked(c, Expires="ever"), 400, "AuthorizationQueryParametersError", {}),
    ("a link with another date", lambda c: linked(c, Date="today"), 400, "AuthorizationQueryParametersError", {}),
    ("a link that has expired", expired, 403, "AccessDenied", {"Message": "Request has expired", "X-Amz-Expires": "60"}),
    ("a link with another signature", lambda c: linked(c, Signature="0" * 64), 403, "SignatureDoesNotMatch", {}),
]


@pytest.mark.parametrize(("why", "asked", "status", "code", "fields"), SIGNATURES, ids=[row[0] for row in SIGNATURES])
def test_signatures(state, why, asked, status, code, fields):
    check(Row(why, "GET /", status, code, fields=fields), state.client.exchange(asked(state.client)))


# What HTTP says of errors.


def test_an_error_of_a_head_has_no_body_and_the_connection_lives(state):
    with state.client.connect() as connection:
        for target, status in ((f"/{BUCKET}/never", 404), ("/none", 404), (f"/{BUCKET}/old?partNumber=2", 416), ("/", 405)):
            path, _, query = target.partition("?")
            pairs = [tuple(query.split("="))] if query else []
            connection.send(state.client.signed("HEAD", path, query=pairs).encode())
            assert connection.response("HEAD").status == status
        connection.send(state.client.signed("GET", f"/{BUCKET}/old").encode())
        assert connection.response().body == b"old"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [("/", {"GET"}), (f"/{BUCKET}", {"GET", "HEAD", "PUT", "DELETE"}), (f"/{BUCKET}/old", {"GET", "HEAD", "PUT", "DELETE"}), (f"/{BUCKET}/old?uploadId=x", {"GET", "PUT", "POST", "DELETE"})],
)
def test_what_is_not_allowed_names_what_is(state, asked, allowed):
    """RFC 9110 section 15.5.6."""
    path, _, query = asked.partition("?")
    answer = state.client.request("PATCH", path, query=[tuple(query.split("="))] if query else [])
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed, answer.headers


@pytest.mark.parametrize(("method", "target", "query"), [("PUT", "never", []), ("PUT", "upload", [("partNumber", "3"), ("uploadId", "{upload}")])])
def test_a_length_is_asked_for(state, method, target, query):
    """ErrorResponses.html: MissingContentLength, 411. A document may be missing, an object's bytes may not."""
    request = state.client.signed(method, f"/{BUCKET}/{target}", query=[(name, state.of(value)) for name, value in query])
    del request.headers["Content-Length"]
    check(Row("", "PUT /", 411, "MissingContentLength"), state.client.exchange(request))


@pytest.mark.parametrize(("target", "query"), [("never", []), ("upload", [("partNumber", "3"), ("uploadId", "{upload}")])])
def test_more_than_one_put_takes(state, target, query):
    request = state.client.signed("PUT", f"/{BUCKET}/{target}", query=[(name, state.of(value)) for name, value in query], payload_hash=sigv4.UNSIGNED)
    request.headers |= {"Content-Length": str(5 * 1024 * MIB + 1), "Expect": "100-continue"}
    fields = {"ProposedSize": str(5 * 1024 * MIB + 1), "MaxSizeAllowed": str(5 * 1024 * MIB)}
    check(Row("", "PUT /", 400, "EntityTooLarge", fields=fields), state.client.exchange(request))


def test_the_same_bucket_again_elsewhere(scratch, tmp_path_factory):
    """BucketAlreadyOwnedByYou everywhere but in us-east-1 (API_CreateBucket.html)."""
    with Server(tmp_path_factory.mktemp("region") / "data", args=["--region", "eu-west-1"]) as server:
        credentials = sigv4.Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, "eu-west-1")
        client = Client(server.port, credentials)
        # Without a constraint it is made here: rclone and `mc mb` name none.
        assert client.request("PUT", "/mine").status == 200
        assert client.request("PUT", "/here", (CONSTRAINT % "eu-west-1").encode()).status == 200
        check(Row("", "PUT /", 409, "BucketAlreadyOwnedByYou", fields={"BucketName": "mine"}), client.request("PUT", "/mine"))
        answer = client.request("PUT", "/there", (CONSTRAINT % "us-west-2").encode())
        check(Row("", "PUT /", 400, "IllegalLocationConstraintException"), answer)
