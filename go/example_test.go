package pget_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"pget"
)

func ExampleGet() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, err := pget.Get(ctx, "ais://bucket/object", os.Stdout, pget.WithConcurrency(16))
	if errors.Is(err, pget.ErrNotFound) {
		log.Fatal("there is no such object")
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, n, "bytes")
}

func ExampleGetInto() {
	ctx, url := context.Background(), "s3://bucket/checkpoint"
	info, err := pget.Stat(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	weights := make([]byte, info.Length)
	if _, err := pget.GetInto(ctx, url, weights); err != nil {
		log.Fatal(err)
	}
}

func ExampleGetFile() {
	file, err := os.CreateTemp("", "object")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	n, err := pget.GetFile(context.Background(), "/etc/hostname", file.Name())
	fmt.Println(n > 0, err)
	// Output: true <nil>
}

func ExampleOpen() {
	r, err := pget.Open(context.Background(), "example_test.go", pget.WithLength(17))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	// Output: package pget_test
}

func ExampleReader_WriteTo() {
	r, err := pget.Open(context.Background(), "https://host/file.iso")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Printf("%d bytes of %s\n", r.Size(), r.Revision())
	// Uses WriteTo: nothing is copied in between.
	if _, err := io.Copy(os.Stdout, r); err != nil {
		log.Fatal(err)
	}
}
