// Bench compares the cost of an in-order copy of one object: through this package, by the Rust
// program, and by net/http with ranged goroutines and a reorder buffer. benches/go.sh runs it.
//
// The server is nginx on loopback in a process of its own. Each run is also a process of its own,
// so that only the client's CPU time counts. The ways run in turn, round after round.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"pget"
)

// connections is the number of connections of each way; chunk is the size of its ranges in bytes.
const (
	connections = 4
	chunk       = 8 << 20
)

func main() {
	program := flag.String("pget", "target/release/pget", "the Rust program")
	rounds := flag.Int("rounds", 9, "rounds; in each, every way runs once")
	mib := flag.Int64("mib", 1024, "size of the object in MiB")
	mostOfRust := flag.Float64("most-of-rust", 0, "fail if Go costs more than this of the Rust program; 0: do not")
	mostOfHTTP := flag.Float64("most-of-http", 0, "fail if Go costs more than this of net/http; 0: do not")
	way := flag.String("way", "", "for its own children: the way to copy")
	url := flag.String("url", "", "for its own children: the object's address")
	flag.Parse()
	var err error
	if *way != "" {
		err = copyBy(*way, *url)
	} else {
		err = compare(*program, *rounds, *mib<<20, *mostOfRust, *mostOfHTTP)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// copyBy copies the object to standard output, which is /dev/null.
func copyBy(way, url string) error {
	switch way {
	case "net/http":
		return overHTTP(url, os.Stdout, false)
	case "net/http, tuned":
		return overHTTP(url, os.Stdout, true)
	}
	_, err := pget.Get(context.Background(), url, os.Stdout, pget.WithConcurrency(connections), pget.WithChunkSize(chunk))
	return err
}

func compare(program string, rounds int, size int64, mostOfRust, mostOfHTTP float64) error {
	url, stop, err := serve(size)
	if err != nil {
		return err
	}
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ways := []struct {
		name    string
		command []string
		costs   []float64
	}{
		{name: "pget cat", command: []string{program, "cat", "--concurrency", fmt.Sprint(connections), "--chunk-size", fmt.Sprint(chunk), url}},
		{name: "Go", command: []string{self, "-way", "pget", "-url", url}},
		{name: "net/http", command: []string{self, "-way", "net/http", "-url", url}},
		{name: "net/http, tuned", command: []string{self, "-way", "net/http, tuned", "-url", url}},
	}
	for round := range rounds + 1 {
		for i := range ways {
			cost, err := run(ways[i].command, size)
			if err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
			// Skip the first round, which warms the page cache and the processor.
			if round > 0 {
				ways[i].costs = append(ways[i].costs, cost)
			}
		}
	}
	fmt.Printf("%d MiB, %d rounds; CPU seconds per GiB\n", size>>20, rounds)
	for _, way := range ways {
		fmt.Printf("%-15s %.3f  (%s)\n", way.name, median(way.costs), strings.Trim(fmt.Sprintf("%.3f", way.costs), "[]"))
	}
	// Compute the ratio of each round, because the machine changes with time.
	ratio := func(other []float64) float64 {
		ratios := slices.Clone(ways[1].costs)
		for i := range ratios {
			ratios[i] /= other[i]
		}
		return median(ratios)
	}
	ofRust, ofHTTP := ratio(ways[0].costs), ratio(ways[2].costs)
	fmt.Printf("figure %.3f go: Go / pget cat\nfigure %.3f go: Go / net/http\nfigure %.3f go: Go / net/http, tuned\n", ofRust, ofHTTP, ratio(ways[3].costs))
	if mostOfRust > 0 && ofRust > mostOfRust || mostOfHTTP > 0 && ofHTTP > mostOfHTTP {
		return errors.New("it costs too much")
	}
	return nil
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// run runs a way and returns its CPU seconds per GiB. Its output goes to /dev/null.
func run(command []string, size int64) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return 0, err
	}
	cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return cpu.Seconds() / (float64(size) / (1 << 30)), nil
}

// serve starts nginx with an object of that size.
func serve(size int64) (url string, stop func(), err error) {
	folder, err := os.MkdirTemp("", "pget-bench-")
	if err != nil {
		return "", nil, err
	}
	clean := func() { os.RemoveAll(folder) }
	defer func() {
		if err != nil {
			clean()
		}
	}()
	if err := object(folder+"/object", size); err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	configuration := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr warn; worker_processes 1;
events {}
http { access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
server { listen 127.0.0.1:%[2]d; root %[1]s; } }
`, folder, port)
	// A root nginx would serve as a user that cannot enter the folder.
	if os.Getuid() == 0 {
		configuration = "user root;\n" + configuration
	}
	if err := os.WriteFile(folder+"/nginx.conf", []byte(configuration), 0o600); err != nil {
		return "", nil, err
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	nginx := exec.Command("nginx", "-e", "stderr", "-c", folder+"/nginx.conf", "-p", folder)
	nginx.Stderr = os.Stderr
	if err := nginx.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		nginx.Process.Signal(os.Interrupt)
		nginx.Wait()
		clean()
	}
	url = fmt.Sprintf("http://127.0.0.1:%d/object", port)
	if err := ready(url); err != nil {
		stop()
		return "", nil, err
	}
	return url, stop, nil
}

// object writes a file that is not sparse.
func object(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i * 7 >> 3)
	}
	for at := int64(0); at < size && err == nil; at += int64(len(piece)) {
		_, err = f.Write(piece)
	}
	return errors.Join(err, f.Close())
}
