// The AWS SDK for JavaScript v3: bytes, streams of unknown length, multipart, listing, ranges, deletes.
//
//   node aws_sdk_js.mjs ENDPOINT BUCKET     with NODE_EXTRA_CA_CERTS, AWS_* and SLUICE_NODE (a folder with node_modules)

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { Readable } from "node:stream";

const require = createRequire(`${process.env.SLUICE_NODE}/index.js`);
const S3 = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const [endpoint, Bucket] = process.argv.slice(2);
const client = new S3.S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, maxAttempts: 1 });

const FILES = {
  "small.txt": 11,
  empty: 0,
  "deep/er/path/file.bin": 1_000_003,
  "with space.txt": 100,
  "paren(1).txt": 101,
  "plus+sign.txt": 102,
  "ünïcode-日本語.txt": 103,
  "large.bin": 100_000_007,
};

function content(key, size) {
  const seed = createHash("sha512").update(key).digest();
  return Buffer.alloc(size, seed);
}

async function* pieces(buffer, size) {
  for (let at = 0; at < buffer.length; at += size) yield buffer.subarray(at, at + size);
}

async function read(Key, options = {}) {
  const answer = await client.send(new S3.GetObjectCommand({ Bucket, Key, ...options }));
  return Buffer.from(await answer.Body.transformToByteArray());
}

async function list() {
  const found = {};
  for await (const page of S3.paginateListObjectsV2({ client, pageSize: 3 }, { Bucket })) {
    for (const entry of page.Contents ?? []) found[entry.Key] = entry.Size;
  }
  return found;
}

for (const [Key, size] of Object.entries(FILES)) {
  const Body = content(Key, size);
  if (size > 50_000_000) {
    await new Upload({ client, params: { Bucket, Key, Body: Readable.from(pieces(Body, 70_000)) } }).done();
  } else {
    await client.send(new S3.PutObjectCommand({ Bucket, Key, Body, Metadata: { from: "js" } }));
  }
}
assert.deepEqual(Object.entries(await list()).sort(), Object.entries(FILES).sort());
for (const [Key, size] of Object.entries(FILES)) {
  assert.ok((await read(Key)).equals(content(Key, size)), `bytes of ${Key}`);
}

// A stream goes out as aws-chunked with a trailer, also over plain http.
const streamed = content("streamed", 700_000);
await client.send(
  new S3.PutObjectCommand({ Bucket, Key: "streamed", Body: Readable.from(pieces(streamed, 70_000)), ContentLength: streamed.length }),
);
assert.ok((await read("streamed")).equals(streamed));
assert.ok((await read("streamed", { Range: "bytes=100-199" })).equals(streamed.subarray(100, 200)));
assert.equal((await client.send(new S3.HeadObjectCommand({ Bucket, Key: "small.txt" }))).Metadata.from, "js");
await assert.rejects(read("absent"), { name: "NoSuchKey" });

// A link has the metadata in its query, in UTF-8; what is asked of an object goes out as one header.
const link = await getSignedUrl(client, new S3.PutObjectCommand({ Bucket, Key: "linked", Metadata: { name: "日本語 ü" } }));
assert.match(link, /x-amz-meta-name=/);
assert.equal((await fetch(link, { method: "PUT", body: "" })).status, 200);
const described = await client.send(new S3.HeadObjectCommand({ Bucket, Key: "linked" }));
const words = described.Metadata.name.match(/^=\?UTF-8\?B\?(.*)\?=$/);
assert.equal(Buffer.from(words[1], "base64").toString(), "日本語 ü");
assert.equal((await read("linked", { Range: "bytes=-8" })).length, 0);
const ObjectAttributes = ["ETag", "ObjectSize", "StorageClass", "Checksum"];
const told = await client.send(new S3.GetObjectAttributesCommand({ Bucket, Key: "small.txt", ObjectAttributes }));
assert.deepEqual([told.ObjectSize, told.StorageClass, typeof told.Checksum.ChecksumCRC32], [11, "STANDARD", "string"]);

const Objects = Object.keys(await list()).map((Key) => ({ Key }));
await client.send(new S3.DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
assert.deepEqual(await list(), {});
