"""Files beside S3: what S3 writes is a file, what POSIX does shows in S3, and nothing leads out of a bucket."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
import threading
import time

import pytest

from conftest import BUCKET, need
from harness.server import Server
from harness.wire import ConnectionGone


@pytest.fixture
def folder(server, client):
    return server.data / BUCKET


def keys(client, prefix: str = "") -> list[str]:
    import re

    body = client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", prefix)]).body.decode()
    return re.findall(r"<Key>([^<]*)</Key>", body)


def test_what_s3_writes_cat_reads(client, folder):
    client.put(BUCKET, "a/b/c.txt", b"written by s3")
    assert subprocess.check_output(["cat", folder / "a/b/c.txt"]) == b"written by s3"
    client.put(BUCKET, "a/b/c.txt", b"again")
    assert (folder / "a/b/c.txt").read_bytes() == b"again"
    client.delete(BUCKET, "a/b/c.txt")
    assert not (folder / "a").exists(), "a DELETE removes the parents that a PUT had made"


def test_cp_mv_rm_and_touch_show_at_once(client, folder):
    original = folder.parent.parent / "original"
    original.write_bytes(b"copied in")
    shutil.copy(original, folder / "in.txt")
    read = client.get(BUCKET, "in.txt")
    assert read.body == b"copied in" and keys(client) == ["in.txt"]
    os.rename(folder / "in.txt", folder / "moved.txt")
    assert client.get(BUCKET, "in.txt").status == 404 and client.get(BUCKET, "moved.txt").body == b"copied in"
    assert keys(client) == ["moved.txt"]
    (folder / "moved.txt").write_bytes(b"written over by hand")
    changed = client.head(BUCKET, "moved.txt")
    assert changed.headers["content-length"] == "20" and changed.etag != read.etag
    os.utime(folder / "moved.txt", (1_000_000_000, 1_000_000_000))
    assert client.head(BUCKET, "moved.txt").headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    os.remove(folder / "moved.txt")
    assert client.head(BUCKET, "moved.txt").status == 404 and keys(client) == []


def test_an_entity_tag_and_a_checksum_are_sent_only_while_true(client, folder):
    body, other = b"a" * 5000, b"b" * 5000
    put = client.request("PUT", f"/{BUCKET}/edited", body, headers={"x-amz-checksum-sha256": sha256(body)})
    assert put.status == 200
    for edited in (other, b"c" * 5000, b"short"):
        with open(folder / "edited", "r+b") as file:
            file.write(edited)
            file.truncate()
        for response in (client.get(BUCKET, "edited", x_amz_checksum_mode="ENABLED"), client.head(BUCKET, "edited", x_amz_checksum_mode="ENABLED")):
            assert response.etag != put.etag, "the old ETag over new bytes"
            assert not [name for name in response.headers if name.startswith("x-amz-checksum-")], "a stale checksum"
        tag = client.head(BUCKET, "edited").etag.strip('"')
        assert "-" in tag or tag == hashlib.md5(edited).hexdigest(), "an ETag that looks like an MD5 is one"
        assert client.get(BUCKET, "edited").body == edited
    listed = client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).body.decode()
    assert put.etag.strip('"') not in listed


def sha256(body: bytes) -> str:
    import base64

    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def test_every_edit_changes_the_entity_tag(client, folder):
    """Also two edits of one size within a tick of the file clock, before and after a read."""
    seen = set()
    for n in range(50):
        (folder / "quick").write_bytes(b"%02d" % n)
        response = client.get(BUCKET, "quick")
        assert response.body == b"%02d" % n
        assert response.etag not in seen, f"edit {n} kept an ETag"
        seen.add(response.etag)


def test_a_mixture_is_never_sent(client, folder):
    """A file that changes under a download: the answer is one version, or it is cut off."""
    size = 32 * 1024 * 1024
    (folder / "torn").write_bytes(b"a" * size)
    # Two changes within a second leave the same times on a filesystem of whole seconds, which the README says.
    time.sleep(1.1)
    with client.connect(receive_buffer=64 * 1024) as connection:
        connection.send(client.signed("GET", f"/{BUCKET}/torn").encode())
        time.sleep(0.2)
        with open(folder / "torn", "r+b") as file:
            file.seek(size // 2)
            file.write(b"b" * (size // 2))
        try:
            body = connection.response().body
            assert len(set(body)) == 1, "old and new bytes under one ETag"
        except ConnectionGone:
            pass


def test_symlinks_do_not_lead_out(client, folder):
    outside = folder.parent.parent / "outside"
    outside.mkdir()
    contents = b"what nobody may read"
    (outside / "secret").write_bytes(contents)
    (folder / "sub").mkdir()
    os.symlink(outside / "secret", folder / "file-link")
    os.symlink(outside, folder / "dir-link")
    os.symlink("/etc", folder / "sub/etc")
    os.symlink("../../..", folder / "up")
    os.symlink("loop", folder / "loop")
    for key in ("file-link", "dir-link/secret", "sub/etc/hostname", "sub/etc/passwd", "up/outside/secret", "loop", "loop/x"):
        for response in (client.get(BUCKET, key), client.head(BUCKET, key)):
            assert response.status in (403, 404) and contents not in response.body, (key, response)
        copied = client.request("PUT", f"/{BUCKET}/copy", headers={"x-amz-copy-source": f"/{BUCKET}/{key}"})
        assert copied.status in (403, 404), (key, copied)
    for key in ("dir-link/new", "sub/etc/new", "up/outside/new"):
        assert client.put(BUCKET, key, b"x").status >= 400 or (folder / key).is_file() and not (outside / "new").exists()
        client.delete(BUCKET, key)
    client.delete(BUCKET, "dir-link/secret")
    assert (outside / "secret").read_bytes() == contents and os.listdir(outside) == ["secret"]
    assert not os.path.exists("/etc/new")
    assert not [key for key in keys(client) if "link" in key or "etc" in key or "up" in key]


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/../secret",
        "/bucket/%2e%2e/secret",
        "/bucket/..%2fsecret",
        "/bucket/%2e%2e%2fsecret",
        "/bucket/a/../../secret",
        "/bucket/..%5csecret",
        "/bucket/%c0%ae%c0%ae/secret",
        "/../secret",
        "/%2e%2e/secret",
        "/.sluice/config",
        "/bucket/../.sluice/config",
        "/bucket//../secret",
        "/bucket/%252e%252e/secret",
        "/./bucket/../../secret",
    ],
)
def test_dots_and_encoded_separators_stay_inside(server, client, target):
    (server.data.parent / "secret").write_bytes(b"secret")
    (server.data / "secret").write_bytes(b"secret")
    before = sorted(path for path in server.data.parent.rglob("*") if ".sluice" not in path.parts and BUCKET not in path.parts)
    for method in ("GET", "PUT", "DELETE"):
        response = client.request(method, target, b"changed" if method == "PUT" else b"")
        assert response.body != b"secret", response
    after = sorted(path for path in server.data.parent.rglob("*") if ".sluice" not in path.parts and BUCKET not in path.parts)
    assert [path for path in after if path not in before and path.suffix != ".log"] == []
    assert (server.data / "secret").read_bytes() == b"secret" and (server.data.parent / "secret").read_bytes() == b"secret"


def test_a_user_who_swaps_symlinks_gets_nothing_out(server, client, folder):
    """A directory of the bucket becomes a link to elsewhere and back, hundreds of times, under reads and writes."""
    outside = server.data.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    (folder / "real").mkdir()
    (folder / "real/file").write_bytes(b"public")
    os.symlink(outside, folder / "link")
    stop = threading.Event()

    def swap():
        exchange = renameat2_exchange()
        while not stop.is_set():
            exchange(folder / "real", folder / "link")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        deadline = time.monotonic() + 4
        statuses = set()
        while time.monotonic() < deadline:
            read = client.get(BUCKET, "real/file")
            assert b"secret" not in read.body
            written = client.put(BUCKET, "real/new", b"x")
            client.delete(BUCKET, "real/new")
            statuses |= {read.status, written.status}
            assert os.listdir(outside) == ["file"]
    finally:
        stop.set()
        swapper.join()
    assert 200 in statuses, "the swap was never lost, so nothing was tried"
    assert (outside / "file").read_bytes() == b"secret"


def renameat2_exchange():
    import ctypes

    libc, at_fdcwd, rename_exchange = ctypes.CDLL(None, use_errno=True), -100, 2
    return lambda a, b: libc.renameat2(at_fdcwd, bytes(a), at_fdcwd, bytes(b), rename_exchange)


def test_pipes_devices_and_sockets_are_no_objects(client, folder):
    import socket

    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
    if os.geteuid() == 0:
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
    for key in ("pipe", "socket", "null", "pipe/x"):
        for method in ("GET", "HEAD"):
            assert client.request(method, f"/{BUCKET}/{key}").status in (403, 404), (method, key)
    client.put(BUCKET, "regular", b"x")
    assert keys(client) == ["regular"]


def test_a_file_where_a_directory_is_needed_and_the_reverse(client, folder):
    (folder / "file").write_bytes(b"file")
    (folder / "directory").mkdir()
    (folder / "directory/inside").write_bytes(b"x")
    assert client.get(BUCKET, "file/below").code == "NoSuchKey"
    assert client.get(BUCKET, "directory").code == "NoSuchKey"
    assert client.delete(BUCKET, "directory").status == 204
    assert (folder / "directory/inside").exists(), "deleting a key that is a directory deletes nothing"
    assert client.put(BUCKET, "file/below", b"y").status in (200, 409)
    assert client.get(BUCKET, "file").body == b"file"


def test_empty_directories_of_others_stay(client, folder):
    (folder / "empty").mkdir()
    (folder / "hers/deep").mkdir(parents=True)
    client.put(BUCKET, "hers/deep/x", b"x")
    client.delete(BUCKET, "hers/deep/x")
    assert (folder / "hers/deep").is_dir() and (folder / "empty").is_dir()
    assert keys(client) == []


def test_directories_deeper_than_any_key_do_no_harm(server, client, folder):
    """Somebody with a shell makes a tree of any depth; a DeleteBucket must not follow it to its end."""
    make = "import os\nfor _ in range(9000):\n    os.mkdir('d')\n    os.chdir('d')"
    subprocess.run([sys.executable, "-c", make], cwd=folder, check=True)
    try:
        assert client.request("DELETE", f"/{BUCKET}").code == "BucketNotEmpty"
        assert client.put(BUCKET, "object", b"still served").status == 200
        assert keys(client) == ["object"]
    finally:
        subprocess.run(["rm", "-rf", folder / "d"], check=True)


def test_an_overwrite_keeps_owner_mode_and_drops_setuid(client, folder):
    need(None if os.geteuid() == 0 else "changing owners needs root")
    (folder / "owned").write_bytes(b"old")
    os.chown(folder / "owned", 1234, 2345)
    os.chmod(folder / "owned", 0o4751)
    assert client.put(BUCKET, "owned", b"new").status == 200
    found = os.stat(folder / "owned")
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 2345, 0o751)


def test_hard_links_are_not_written_through(client, folder):
    """An overwrite makes a new file: the other name keeps the old bytes."""
    (folder / "one").write_bytes(b"old")
    os.link(folder / "one", folder / "two")
    client.put(BUCKET, "one", b"new")
    assert (client.get(BUCKET, "one").body, client.get(BUCKET, "two").body) == (b"new", b"old")


def test_a_reader_keeps_the_version_it_began(client, folder):
    old = os.urandom(24 * 1024 * 1024)
    client.put(BUCKET, "held", old)
    with client.connect(receive_buffer=64 * 1024) as connection:
        connection.send(client.signed("GET", f"/{BUCKET}/held").encode())
        time.sleep(0.1)
        client.put(BUCKET, "held", b"new")
        response = connection.response()
        assert response.body == old
    assert client.get(BUCKET, "held").body == b"new"


def test_a_posix_tree_is_served_as_it_is(server, client, folder):
    """Extended attributes of a stranger are not believed, names that are no keys are not listed."""
    (folder / "forged").write_bytes(b"forged")
    try:
        os.setxattr(folder / "forged", "user.sluice", b"\x01" * 40)
        os.setxattr(folder / "forged", "user.etag", b"0" * 32)
    except OSError as error:
        need(f"no extended attributes here: {error}")
    response = client.get(BUCKET, "forged")
    assert response.body == b"forged" and "01" * 16 not in response.etag
    with open(os.fsencode(folder) + b"/\xff\xfe", "wb") as file:
        file.write(b"not utf-8")
    assert keys(client) == ["forged"]


def test_another_filesystem_at_the_top_is_no_bucket(server, client):
    """DESIGN section 4: nothing is published across a mount. So its name is no bucket's, to every request alike."""
    mounted = server.data / "mounted"
    mounted.mkdir()
    (mounted / "beneath").write_bytes(b"x")
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mounted)], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("this user may not mount")
    try:
        (mounted / "object").write_bytes(b"x")
        assert b"<Name>mounted</Name>" not in client.request("GET", "/").body
        assert client.request("HEAD", "/mounted").status == 404
        assert client.request("PUT", "/mounted").status in (403, 409), "the name is taken, and by no bucket"
        for method, path in (("GET", "/mounted"), ("GET", "/mounted/object"), ("DELETE", "/mounted/object"), ("DELETE", "/mounted")):
            answer = client.request(method, path)
            assert (answer.status, answer.code) == (404, "NoSuchBucket"), (method, path, answer)
        for key in ("object", "a/object", "a/"):
            assert client.put("mounted", key, b"" if key.endswith("/") else b"y").code == "NoSuchBucket", key
        assert client.put("mounted", "large", bytes(3_000_000)).code == "NoSuchBucket"
        assert client.request("POST", "/mounted/object", query=[("uploads", "")]).code == "NoSuchBucket"
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    # What the mount had hidden is a bucket again.
    assert b"<Name>mounted</Name>" in client.request("GET", "/").body
    assert client.get("mounted", "beneath").body == b"x"


def acl(names: int, mask: int = 0o4) -> bytes:
    """A POSIX ACL as <linux/posix_acl_xattr.h> has it: owner, `names` users who may read, group, mask, others."""
    entries = [(0x01, 6, 0xFFFFFFFF), *((0x02, 4, 5000 + n) for n in range(names)), (0x04, 0, 0xFFFFFFFF), (0x10, mask, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@pytest.fixture
def with_acls(folder):
    try:
        (folder / "probe").write_bytes(b"")
        os.setxattr(folder / "probe", ACCESS, acl(1))
        os.remove(folder / "probe")
    except OSError as error:
        need(f"no ACLs here: {error}")


@pytest.mark.parametrize("names", [1, 100, 130, 300])
@pytest.mark.parametrize("how", ["PUT", "Complete", "CopyObject"])
def test_an_overwrite_keeps_an_acl_of_any_size(client, folder, with_acls, names, how):
    (folder / "shared").write_bytes(b"old")
    os.setxattr(folder / "shared", ACCESS, acl(names))
    before = os.stat(folder / "shared").st_mode
    if how == "PUT":
        answer = client.put(BUCKET, "shared", b"new")
    elif how == "CopyObject":
        client.put(BUCKET, "source", b"new")
        answer = client.put(BUCKET, "shared", **{"x-amz-copy-source": f"/{BUCKET}/source"})
    else:
        upload = client.start_upload(BUCKET, "shared")
        answer = client.complete(BUCKET, "shared", upload, [(1, client.put_part(BUCKET, "shared", upload, 1, b"new").etag)])
    assert answer.status == 200 and (folder / "shared").read_bytes() == b"new"
    assert os.getxattr(folder / "shared", ACCESS) == acl(names) and os.stat(folder / "shared").st_mode == before


def test_an_acl_that_cannot_be_kept_refuses_the_overwrite(client, folder, with_acls):
    """ext4 has one block for all attributes of a file: an ACL that fills it leaves no room for the record of a new object."""
    (folder / "shared").write_bytes(b"old")
    names = next(n for n in range(490, 0, -10) if can_set(folder / "shared", acl(n)))
    answer = client.put(BUCKET, "shared", b"new", **{"x-amz-meta-long": "v" * 1800})
    if answer.status == 200:
        # A filesystem with room for both.
        assert os.getxattr(folder / "shared", ACCESS) == acl(names)
    else:
        assert (answer.status, answer.code) == (403, "AccessDenied") and "ACL" in answer.body.decode()
        assert (folder / "shared").read_bytes() == b"old" and os.getxattr(folder / "shared", ACCESS) == acl(names)
        assert client.put(BUCKET, "other", b"new").status == 200


def can_set(path, value: bytes) -> bool:
    try:
        os.setxattr(path, ACCESS, value)
        return True
    except OSError:
        return False


def test_rights_of_the_directory_do_not_come_to_a_file_that_has_none_of_them(client, folder, with_acls):
    """A file without an ACL in a directory with a default ACL: the new file is born with one, and must not keep it."""
    (folder / "team").mkdir()
    os.setxattr(folder / "team", DEFAULT, acl(150, mask=6))
    (folder / "team/private").write_bytes(b"old")
    os.removexattr(folder / "team/private", ACCESS)
    os.chmod(folder / "team/private", 0o640)
    for body in (b"new", bytes(300_000)):
        assert client.put(BUCKET, "team/private", body).status == 200
        assert ACCESS not in os.listxattr(folder / "team/private") and os.stat(folder / "team/private").st_mode & 0o777 == 0o640
    assert client.put(BUCKET, "team/new", b"x").status == 200
    born = os.getxattr(folder / "team/new", ACCESS)
    assert len(born) == len(acl(150)), "a new file gets what is born there gets"
    upload = client.start_upload(BUCKET, "team/parts")
    part = client.put_part(BUCKET, "team/parts", upload, 1, b"x")
    assert client.complete(BUCKET, "team/parts", upload, [(1, part.etag)]).status == 200
    assert os.getxattr(folder / "team/parts", ACCESS) == born


def test_a_file_that_becomes_a_directory_is_as_if_made_there(client, folder, with_acls):
    need(None if os.geteuid() == 0 else "giving files to a group needs root")
    (folder / "team").mkdir()
    os.setxattr(folder / "team", DEFAULT, acl(150, mask=7))
    os.chown(folder / "team", -1, 4321)
    os.chmod(folder / "team", 0o2775)
    client.put(BUCKET, "team/a", b"object a")
    assert client.put(BUCKET, "team/a/b", b"x").status == 200 and client.put(BUCKET, "team/other/b", b"x").status == 200
    made, turned = folder / "team/other", folder / "team/a"
    for attribute in (ACCESS, DEFAULT):
        assert os.getxattr(turned, attribute) == os.getxattr(made, attribute), attribute
    assert (os.stat(turned).st_gid, os.stat(turned).st_mode) == (os.stat(made).st_gid, os.stat(made).st_mode)
    assert client.get(BUCKET, "team/a").body == b"object a"


def test_an_overwrite_keeps_the_security_label(data):
    """What SELinux and Smack use. Without either, root may set any, as on a filesystem that comes from another machine."""
    with Server(data) as server:
        server.client().create_bucket(BUCKET)
    labels = {"": b"system_u:object_r:data_t:s0\0", "labelled": b"system_u:object_r:" + b"secret" * 300 + b"_t:s0\0"}
    (data / BUCKET / "labelled").write_bytes(b"old")
    try:
        for path, label in ((data, labels[""]), (data / BUCKET / "labelled", labels["labelled"])):
            os.setxattr(path, "security.selinux", label)
    except OSError as error:
        need(f"no labels here: {error}")
    with Server(data) as server:
        client = server.client()
        assert client.put(BUCKET, "labelled", b"new").status == 200 and client.put(BUCKET, "plain", b"new").status == 200
        assert client.put(BUCKET, "plain", b"newer").status == 200
    assert os.getxattr(data / BUCKET / "labelled", "security.selinux") == labels["labelled"]
    assert "security.selinux" not in os.listxattr(data / BUCKET / "plain") and (data / BUCKET / "plain").read_bytes() == b"newer"


def test_a_bucket_that_is_not_empty_says_what_is_in_the_way(client, folder):
    def refused() -> str:
        answer = client.request("DELETE", f"/{BUCKET}")
        assert (answer.status, answer.code) == (409, "BucketNotEmpty")
        return answer.field("Message")

    client.put(BUCKET, "object", b"x")
    plain = refused()
    client.delete(BUCKET, "object")
    (folder / "hers/empty").mkdir(parents=True)
    assert "`hers`" in refused() and "not made through S3" in refused()
    shutil.rmtree(folder / "hers")
    client.put(BUCKET, "made/by/s3", b"x")
    os.symlink("nowhere", folder / "made/by/link")
    client.delete(BUCKET, "made/by/s3")
    assert "symbolic link `made/by/link`" in refused()
    os.remove(folder / "made/by/link")
    os.mkfifo(folder / "pipe")
    assert "special file `pipe`" in refused()
    os.remove(folder / "pipe")
    (folder / ".sluice%x").write_bytes(b"")
    assert "`.sluice%x`" in refused() and "`" not in plain
    os.remove(folder / ".sluice%x")
    assert client.request("DELETE", f"/{BUCKET}").status == 204
