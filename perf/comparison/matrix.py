"""The rows: what each cell does, who takes part, and the bar."""

from __future__ import annotations

from comparison import bare
from comparison.cells import (
    MILLION,
    UNSIGNED,
    Cell,
    Most,
    Ratio,
    Subject,
    both,
    complete,
    get,
    idle,
    listing,
    middle_page,
    put,
    read,
    served,
    start,
)
from comparison.loads import list_pages, warp_put, wrk
from comparison.trees import KIB, MIB, keys

EVERYBODY = ("nginx", "sluice", "versitygw", "versitygw-odirect", "minio", "rclone")
DIRECT = ("--read-mode", "direct")


def put_10m(streams: int, *options: str, bars: tuple = (), contenders=("nginx", "sluice", "versitygw", "minio")) -> Cell:
    signed = "UNSIGNED-PAYLOAD" if options else "signed chunks"
    about = f"PUT 10 MiB, {signed}, {streams} stream{'s' if streams > 1 else ''} of warp"
    return Cell(about, "cpu_s_per_gib", served(put(10 * MIB, streams, *options), *contenders), bars)


CELLS = {
    "get-4k": Cell(
        "GET 4 KiB, pre-signed, 64 connections", "cpu_us_per_request", served(get("4k", 64), *EVERYBODY), (Ratio("nginx", 1.15),)
    ),
    "get-1m": Cell("GET 1 MiB, warm, 16 connections", "cpu_s_per_gib", served(get("1m", 16), *EVERYBODY), (Ratio("nginx", 1.0),)),
    "get-64m": Cell(
        "GET 64 MiB, warm, 4 connections",
        "cpu_s_per_gib",
        (
            *served(get("64m", 4), *EVERYBODY),
            Subject("bare sendfile", None, bare.loop("sendfile", "64m")),
            Subject("bare pread and send", None, bare.loop("pread", "64m")),
        ),
        (Ratio("nginx", 1.0),),
    ),
    "get-64m-cold": Cell(
        "GET 64 MiB, cold, O_DIRECT, 4 connections",
        "cpu_s_per_gib",
        (
            Subject("{}", "sluice", get("64m", 4, is_cold=True, args=DIRECT)),
            Subject("bare O_DIRECT and send", None, bare.loop("direct", "64m")),
            Subject("fio", None, bare.fio("64m")),
            Subject("versitygw-odirect", "versitygw-odirect", get("64m", 4, is_cold=True)),
        ),
        (Ratio("bare O_DIRECT and send", 1.15), Ratio("fio", least=0.9, figure="mib_per_s")),
    ),
    "get-1m-tls": Cell(
        "GET 1 MiB over TLS, 16 connections",
        "cpu_s_per_gib",
        (Subject("{}", "sluice", get("1m", 16, tls=True)), Subject("{} plain", "sluice", get("1m", 16))),
        (Ratio("{} plain", 1.6),),
    ),
    "put-4k": Cell(
        "PUT 4 KiB, signed chunks, warp with 32",
        "cpu_us_per_request",
        served(put(4 * KIB, 32), *EVERYBODY),
        (Ratio("versitygw", 0.25),),
    ),
    "put-4k-alone": Cell(
        "PUT 4 KiB, signed chunks, warp with 1",
        "p50_ms",
        served(put(4 * KIB, 1), "nginx", "sluice", "versitygw", "minio"),
        (Ratio("versitygw", 1.1),),
    ),
    "put-10m-16": put_10m(16, bars=(Ratio("minio", 0.18),)),
    "put-10m-8": put_10m(8, bars=(Ratio("minio", 0.22),)),
    "put-10m-unsigned-16": put_10m(16, UNSIGNED, bars=(Ratio("minio", 0.10),)),
    "put-10m-unsigned-8": put_10m(8, UNSIGNED, bars=(Ratio("minio", 0.13),)),
    "put-10m-unsigned-1": put_10m(1, UNSIGNED, bars=(Most(2.1),), contenders=("nginx", "sluice")),
    "complete-64": Cell(
        "CompleteMultipartUpload of 64 × 16 MiB",
        "special",
        served(complete(64, 16 * MIB, on_zram=False), "sluice", "versitygw", "minio"),
        (Most(0.05), Most(1, "moved_mib")),
        rounds_max=3,
    ),
    "complete-1000": Cell(
        "CompleteMultipartUpload of 1,000 × 16 MiB of zeros, ext4 on zram",
        "special",
        served(complete(1000, 16 * MIB, on_zram=True), "sluice"),
        (Most(0.05), Most(1, "moved_mib")),
        rounds_max=1,
    ),
    "list-20k": Cell(
        "LIST of 20,000 keys, 1,000 a page, 4 connections",
        "cpu_us_per_key",
        served(listing(20_000, lambda: list_pages(4)), "sluice", "versitygw", "minio"),
        (Most(11),),
    ),
    "start-first": Cell(
        "start to first answer, 10^6 objects, first start", "special", served(start(again=False), "sluice"), (Most(0.3),), rounds_max=3
    ),
    "start-again": Cell(
        "start to first answer, 10^6 objects, started before", "special", served(start(again=True), "sluice"), (Most(0.3),), rounds_max=3
    ),
    "list-1m": Cell(
        "LIST of 10^6 keys, 1,000 a page, 4 connections",
        "cpu_us_per_key",
        served(listing(MILLION, lambda: list_pages(4)), "sluice"),
        (Most(11),),
        rounds_max=3,
    ),
    "list-1m-middle": Cell(
        "LIST, a page of 1,000 in the middle of 10^6 keys",
        "p50_ms",
        served(listing(MILLION, middle_page), "sluice"),
        (Most(20),),
        rounds_max=3,
    ),
    "calls": Cell(
        "system calls per GET of 4 KiB, pre-signed, 64 connections",
        "calls",
        served(read("4k", lambda: wrk(keys("4k"), 64), counting=True), "sluice", "nginx", "versitygw"),
        (Most(5),),
        rounds_max=1,
    ),
    "idle": Cell(
        "resident memory of an idle connection, of 10,000", "kib", served(idle, "sluice", "nginx", "versitygw", "minio"), (Most(4),), rounds_max=1
    ),
    "two-get-4k": Cell(
        "GET 4 KiB, one process on two cores and two of one each",
        "cpu_us_per_request",
        both(lambda at: wrk(keys("4k"), 32, prefix=[]), "4k"),
        (Ratio("{} as two processes", 1.05),),
    ),
    "two-put-4k": Cell(
        "PUT 4 KiB, one process on two cores and two of one each",
        "cpu_us_per_request",
        both(lambda at: warp_put(4 * KIB, 16, bucket=f"bench-{at}", prefix=[])),
        (Ratio("{} as two processes", 1.05),),
    ),
    "two-put-10m": Cell(
        "PUT 10 MiB, one process on two cores and two of one each",
        "cpu_s_per_gib",
        both(lambda at: warp_put(10 * MIB, 8, bucket=f"bench-{at}", prefix=[])),
        (Ratio("{} as two processes", 1.05),),
    ),
}
