"""The rows: what each cell does, who takes part, and the bar."""

from __future__ import annotations

from comparison import bare
from comparison.cells import (
    MILLION,
    Cell,
    Most,
    Ratio,
    Subject,
    bare_loop,
    both,
    complete,
    idle,
    listing,
    middle_page,
    on_core_of,
    put_by_bench,
    put_by_warp,
    read,
    read_load,
    served,
    start,
)
from comparison.loads import bench, list_pages, warp_put
from comparison.trees import KIB, MIB

EVERYBODY = ("nginx", "sluice", "versitygw", "versitygw-odirect", "minio", "rclone")
DIRECT = ("--read-mode", "direct")


def put_10m(streams: int, payload: str, *bars, contenders=("nginx", "sluice", "versitygw", "minio")) -> Cell:
    about = f"PUT 10 MiB, {payload} payload, {streams} stream{'s' if streams > 1 else ''}"
    return Cell(about, "cpu_s_per_gib", served(put_by_bench(10 * MIB, streams, payload), *contenders), bars)


CELLS = {
    "get-4k": Cell(
        "GET 4 KiB, signed, 64 connections", "cpu_us_per_request", served(read("4k", 64), *EVERYBODY), (Ratio("nginx", 1.15),)
    ),
    "head-4k": Cell(
        "HEAD, signed, 64 connections",
        "cpu_us_per_request",
        (
            *served(read("4k", 64, operation="head"), "nginx", "sluice", "versitygw", "minio"),
            Subject("{} GET", "sluice", read("4k", 64)),
        ),
        (Ratio("{} GET", 1.0),),
    ),
    "get-1m": Cell("GET 1 MiB, warm, 16 connections", "cpu_s_per_gib", served(read("1m", 16), *EVERYBODY), (Ratio("nginx", 1.0),)),
    "get-64m": Cell(
        "GET 64 MiB, warm, 4 connections",
        "cpu_s_per_gib",
        (
            *served(read("64m", 4), *EVERYBODY),
            Subject("bare sendfile", None, bare_loop("sendfile", "64m", 4)),
            Subject("bare pread and send", None, bare_loop("pread", "64m", 4)),
        ),
        (Ratio("nginx", 1.0),),
    ),
    "get-64m-cold": Cell(
        "GET 64 MiB, cold, O_DIRECT, 4 connections",
        "cpu_s_per_gib",
        (
            Subject("{}", "sluice", read("64m", 4, is_cold=True, args=DIRECT)),
            Subject("bare O_DIRECT and send", None, bare_loop("direct", "64m", 4)),
            Subject("fio", None, bare.fio("64m")),
            Subject("versitygw-odirect", "versitygw-odirect", read("64m", 4, is_cold=True)),
        ),
        (Ratio("bare O_DIRECT and send", 1.15), Ratio("fio", least=0.9, figure="mib_per_s")),
    ),
    "get-1m-tls": Cell(
        "GET 1 MiB over TLS, 16 connections",
        "cpu_s_per_gib",
        (Subject("{}", "sluice", read("1m", 16, tls=True)), Subject("{} plain", "sluice", read("1m", 16))),
        (Ratio("{} plain", 1.6),),
    ),
    "put-4k": Cell(
        "PUT 4 KiB, signed chunks, warp with 32",
        "cpu_us_per_request",
        served(put_by_warp(4 * KIB, 32), *EVERYBODY),
        (Ratio("versitygw", 0.25),),
    ),
    "put-4k-alone": Cell(
        "PUT 4 KiB, signed chunks, warp with 1",
        "p50_ms",
        served(put_by_warp(4 * KIB, 1), "nginx", "sluice", "versitygw", "minio"),
        (Ratio("versitygw", 1.1),),
    ),
    "put-10m-16": put_10m(16, "streaming", Ratio("minio", 0.18)),
    "put-10m-8": put_10m(8, "streaming", Ratio("minio", 0.22), contenders=("nginx", "sluice", "minio")),
    "put-10m-unsigned-16": put_10m(16, "unsigned", Ratio("minio", 0.10)),
    "put-10m-unsigned-8": put_10m(8, "unsigned", Ratio("minio", 0.13), contenders=("nginx", "sluice", "minio")),
    "put-10m-unsigned-1": put_10m(1, "unsigned", Most(2.1), contenders=("nginx", "sluice")),
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
        "system calls per GET of 4 KiB, signed, 64 connections",
        "calls",
        served(read("4k-few", 64, counting=True), "sluice", "nginx", "versitygw"),
        (Most(5),),
        rounds_max=1,
    ),
    "idle": Cell(
        "resident memory of an idle connection, of 10,000",
        "kib",
        served(idle, "sluice", "nginx", "versitygw", "minio"),
        (Most(4),),
        rounds_max=1,
    ),
    "two-get-4k": Cell(
        "GET 4 KiB, one process on two cores and two of one each",
        "cpu_us_per_request",
        both(lambda at: read_load("4k", 16, prefix=on_core_of(at), warm_up_s=0), "4k"),
        (Ratio("{} as two processes", 1.05),),
    ),
    "two-put-4k": Cell(
        "PUT 4 KiB, one process on two cores and two of one each",
        "cpu_us_per_request",
        both(lambda at: warp_put(4 * KIB, 8, bucket=f"bench-{at}", prefix=on_core_of(at))),
        (Ratio("{} as two processes", 1.05),),
    ),
    "two-put-10m": Cell(
        "PUT 10 MiB, one process on two cores and two of one each",
        "cpu_s_per_gib",
        both(
            lambda at: bench(
                "put", 4, "--payload=streaming", size=10 * MIB, bucket=f"bench-{at}", prefix=on_core_of(at), warm_up_s=0
            ),
            in_memory=True,
        ),
        (Ratio("{} as two processes", 1.05),),
    ),
}
