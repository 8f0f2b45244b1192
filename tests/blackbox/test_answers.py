"""What S3 answers in the corners, by the pages of AWS' API reference: the public ceph suite found these."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from email.utils import format_datetime

import pytest

from conftest import BUCKET

OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'


def test_conditions_on_deletes(shared):
    """API_DeleteObject: what is gone has no wrong size or date (204); an entity tag of nothing is NoSuchKey, as in conditional writes."""
    client = shared.client()
    past = "Mon, 01 Jan 2001 00:00:00 GMT"
    etag = client.put(BUCKET, "leaving", b"body").etag
    for wrong in ({"if_match": OTHER_ETAG}, {"x_amz_if_match_size": "5"}, {"x_amz_if_match_last_modified_time": past}):
        refused = client.delete(BUCKET, "leaving", **wrong)
        assert (refused.status, refused.code) == (412, "PreconditionFailed"), wrong
    assert client.delete(BUCKET, "leaving", if_match=etag, x_amz_if_match_size="4").status == 204
    assert client.delete(BUCKET, "leaving", x_amz_if_match_size="4").status == 204
    assert client.delete(BUCKET, "leaving", x_amz_if_match_last_modified_time=past).status == 204
    for on_nothing in (etag, "*"):
        refused = client.delete(BUCKET, "leaving", if_match=on_nothing)
        assert (refused.status, refused.code) == (404, "NoSuchKey")
