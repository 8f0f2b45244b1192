// What the two benchmarks called s3-bench put on the wire, for places where neither can be fetched: uploads of aws-sdk-go v1
// with an unsigned payload, which wait for 100 Continue from 2 MiB on, and requests of Signature Version 2 whose only date is an
// x-amz-date in the form of Version 4.
//
// Usage: shape ENDPOINT ACCESS_KEY SECRET_KEY BUCKET
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/s3"
)

var errors int

func check(what string, err error) {
	if err != nil {
		errors++
		fmt.Printf("%s: %v\n", what, err)
	}
}

func main() {
	endpoint, accessKey, secretKey, bucket := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	config := aws.Config{
		Credentials:      credentials.NewStaticCredentials(accessKey, secretKey, ""),
		Region:           aws.String("us-east-1"),
		Endpoint:         aws.String(endpoint),
		S3ForcePathStyle: aws.Bool(true),
		MaxRetries:       aws.Int(0),
	}
	client := s3.New(session.Must(session.NewSession(&config)))
	_, err := client.CreateBucket(&s3.CreateBucketInput{Bucket: &bucket})
	check("create bucket", err)
	for _, size := range []int{0, 1 << 20, 2<<20 - 1, 2 << 20, 9 << 20} {
		sdk(client, bucket, size)
		versionTwo(endpoint, accessKey, secretKey, bucket, size)
	}
	listed, err := client.ListObjectVersions(&s3.ListObjectVersionsInput{Bucket: &bucket, MaxKeys: aws.Int64(1000)})
	check("list versions", err)
	batch := &s3.Delete{Quiet: aws.Bool(true)}
	for _, version := range listed.Versions {
		batch.Objects = append(batch.Objects, &s3.ObjectIdentifier{Key: version.Key, VersionId: version.VersionId})
	}
	_, err = client.DeleteObjects(&s3.DeleteObjectsInput{Bucket: &bucket, Delete: batch})
	check("delete objects", err)
	_, err = client.DeleteBucket(&s3.DeleteBucketInput{Bucket: &bucket})
	check("delete bucket", err)
	fmt.Printf("%d objects, %d errors\n", len(listed.Versions), errors)
}

func body(size int) []byte {
	return bytes.Repeat([]byte("sluice"), size/6+1)[:size]
}

// As s3bench: the header is set before signing, so that the SDK hashes nothing.
func sdk(client *s3.S3, bucket string, size int) {
	key := fmt.Sprintf("sdk-%d", size)
	put, _ := client.PutObjectRequest(&s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body(size))})
	put.HTTPRequest.Header.Add("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	check("put "+key, put.Send())
	if expects := put.HTTPRequest.Header.Get("Expect") != ""; expects != (size >= 2<<20) {
		check("put "+key, fmt.Errorf("expects 100 Continue: %v", expects))
	}
	got, err := client.GetObject(&s3.GetObjectInput{Bucket: &bucket, Key: &key})
	check("get "+key, err)
	if err == nil {
		compare(key, got.Body, size)
	}
}

func compare(key string, reader io.ReadCloser, size int) {
	defer reader.Close()
	received, err := io.ReadAll(reader)
	check("read "+key, err)
	if !bytes.Equal(received, body(size)) {
		check("read "+key, fmt.Errorf("%d bytes, and not those that were put", len(received)))
	}
}

// As s3-benchmark: Content-MD5, no Date, the path as the resource.
func versionTwo(endpoint, accessKey, secretKey, bucket string, size int) {
	key := fmt.Sprintf("old-%d", size)
	for _, method := range []string{"PUT", "GET", "DELETE", "PUT"} {
		payload := []byte{}
		if method == "PUT" {
			payload = body(size)
		}
		request, err := http.NewRequest(method, endpoint+"/"+bucket+"/"+key, bytes.NewReader(payload))
		check("new request", err)
		if method == "PUT" {
			sum := md5.Sum(payload)
			request.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
		}
		sign(request, accessKey, secretKey)
		response, err := http.DefaultClient.Do(request)
		check(method+" "+key, err)
		if err != nil {
			continue
		}
		if response.StatusCode/100 != 2 {
			check(method+" "+key, fmt.Errorf("%s", response.Status))
		}
		if method == "GET" {
			compare(key, response.Body, size)
		} else {
			response.Body.Close()
		}
	}
}

func sign(request *http.Request, accessKey, secretKey string) {
	request.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	var lines []string
	for name := range request.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			lines = append(lines, lower+":"+request.Header.Get(name)+"\n")
		}
	}
	sort.Strings(lines)
	text := request.Method + "\n" + request.Header.Get("Content-MD5") + "\n\n\n" + strings.Join(lines, "") + request.URL.EscapedPath()
	mac := hmac.New(sha1.New, []byte(secretKey))
	mac.Write([]byte(text))
	request.Header.Set("Authorization", "AWS "+accessKey+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
