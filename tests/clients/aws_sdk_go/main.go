// The AWS SDK for Go, version 2: lists that it sends on several lines, sources of copies as Go escapes them, a region of its own,
// metadata in Unicode, and what it reads of all that.
//
//	aws_sdk_go ENDPOINT BUCKET     with AWS_* and AWS_CA_BUNDLE
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

const region = "eu-central-1"

var ctx = context.Background()

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func equal(what string, found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%s: %#v, not %#v", what, found, expected))
	}
}

func client(endpoint string) *s3.Client {
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("AWS_CA_BUNDLE"))))
	keys := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	return s3.New(s3.Options{
		BaseEndpoint:     &endpoint,
		Region:           region,
		UsePathStyle:     true,
		Credentials:      aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil }),
		RetryMaxAttempts: 1,
		HTTPClient: &http.Client{
			Timeout:   time.Minute,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}},
		},
	})
}

func code(err error) string {
	var refusal smithy.APIError
	if errors.As(err, &refusal) {
		return refusal.ErrorCode()
	}
	return fmt.Sprint(err)
}

func main() {
	c, bucket := client(os.Args[1]), os.Args[2]
	regionOfBucket(c, bucket)
	attributes(c, bucket)
	copies(c, bucket)
	metadata(c, bucket)
	uploads(c, bucket)
	empty(c, bucket)
	var objects []types.ObjectIdentifier
	listed := must(c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket}))
	for _, object := range listed.Contents {
		objects = append(objects, types.ObjectIdentifier{Key: object.Key})
	}
	must(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: objects}}))
}

func put(c *s3.Client, bucket, key, body string) {
	must(c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte(body))}))
}

func get(c *s3.Client, bucket, key string) string {
	got := must(c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key}))
	defer got.Body.Close()
	return string(must(io.ReadAll(got.Body)))
}

// A program with a fixed region is told that the bucket is there.
func regionOfBucket(c *s3.Client, bucket string) {
	head := must(c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket}))
	equal("HeadBucket", aws.ToString(head.BucketRegion), region)
	location := must(c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &bucket}))
	equal("GetBucketLocation", string(location.LocationConstraint), region)
}

func attributes(c *s3.Client, bucket string) {
	key, sum := "attributed", types.ChecksumAlgorithmSha256
	body := bytes.Repeat([]byte("x"), 1000)
	put := must(c.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: bytes.NewReader(body), ChecksumAlgorithm: sum, StorageClass: types.StorageClassStandardIa,
	}))
	var all types.ObjectAttributes
	told := must(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &bucket, Key: &key, ObjectAttributes: all.Values()}))
	equal("ObjectSize", aws.ToInt64(told.ObjectSize), int64(1000))
	equal("StorageClass", told.StorageClass, types.StorageClassStandardIa)
	equal("ETag", `"`+aws.ToString(told.ETag)+`"`, aws.ToString(put.ETag))
	if told.Checksum == nil {
		panic("GetObjectAttributes: no checksum")
	}
	equal("Checksum", told.Checksum.ChecksumSHA256, put.ChecksumSHA256)
	head := must(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key}))
	equal("StorageClass of HeadObject", head.StorageClass, types.StorageClassStandardIa)
}

// The SDK sends the source as it is given; programs escape it with what Go has.
func copies(c *s3.Client, bucket string) {
	put(c, bucket, "a b", "space")
	put(c, bucket, "a+b", "plus")
	for source, body := range map[string]string{
		bucket + "/" + url.QueryEscape("a b"): "space",
		bucket + "/" + url.QueryEscape("a+b"): "plus",
		url.QueryEscape(bucket + "/a+b"):      "plus",
		bucket + "/" + url.PathEscape("a b"):  "space",
	} {
		must(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copied"), CopySource: &source}))
		equal("copy of "+source, get(c, bucket, "copied"), body)
	}
}

func metadata(c *s3.Client, bucket string) {
	key, kept := "described", map[string]string{"name": "日本語 ü", "plain": "plain", "sent": "=?UTF-8?B?w7w=?="}
	must(c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Metadata: kept}))
	head := must(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key}))
	equal("sent", head.Metadata["sent"], kept["sent"])
	name := must(new(mime.WordDecoder).DecodeHeader(head.Metadata["name"]))
	equal("name", name, kept["name"])
	equal("plain", head.Metadata["plain"], kept["plain"])
}

func uploads(c *s3.Client, bucket string) {
	key := "in parts"
	started := must(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}))
	complete := func(numbers ...int32) error {
		var parts []types.CompletedPart
		for _, number := range numbers {
			part := must(c.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: &bucket, Key: &key, UploadId: started.UploadId, PartNumber: &number, Body: bytes.NewReader([]byte("part")),
			}))
			parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: part.ETag})
		}
		input := &s3.CompleteMultipartUploadInput{
			Bucket: &bucket, Key: &key, UploadId: started.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		}
		if _, err := c.CompleteMultipartUpload(ctx, input); err != nil {
			return err
		}
		// Its connection broke, and it asks again; then with parts that were never in it.
		must(c.CompleteMultipartUpload(ctx, input))
		other := int32(9)
		input.MultipartUpload.Parts[0].PartNumber = &other
		_, err := c.CompleteMultipartUpload(ctx, input)
		return err
	}
	equal("a Complete with another list", code(complete(1)), "NoSuchUpload")
	missing, id := "missing-"+bucket, "0"
	_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &missing, Key: &key, UploadId: &id})
	equal("an abort without a bucket", code(err), "NoSuchBucket")
}

// Readers of Parquet and zip begin with the tail.
func empty(c *s3.Client, bucket string) {
	put(c, bucket, "empty", "")
	tail := must(c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("empty"), Range: aws.String("bytes=-8")}))
	defer tail.Body.Close()
	equal("the tail of nothing", len(must(io.ReadAll(tail.Body))), 0)
}
