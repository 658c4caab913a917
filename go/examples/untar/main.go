// Untar streams a snapshot (.tar, .tar.gz, .tar.zst) from object storage straight into extraction:
// ranges are downloaded in parallel while what came before them is unpacked, in bounded memory, and
// nothing is kept on disk but the files.
//
//	untar ais://bucket/snapshot.tar.zst folder
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"pget"
)

func main() {
	concurrency := flag.Int("concurrency", 8, "requests in flight")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: untar [-concurrency N] URL FOLDER")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), flag.Arg(1), *concurrency); err != nil {
		fmt.Fprintln(os.Stderr, "untar:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, folder string, concurrency int) error {
	r, err := pget.Open(ctx, url, pget.WithConcurrency(concurrency))
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	// Whatever names and links the archive has, nothing outside of this folder is touched.
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	return extract(r, root)
}
