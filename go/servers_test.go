package pget

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The constants of crates/pget-testkit/examples/serve.rs.
const (
	seed  = 7
	good  = 5*1024*1024 + 123
	small = 1000
	big   = 64*1024*1024 + 5
	chunk = 64 * 1024
)

var sizes = []int{0, 1, chunk - 1, chunk, chunk + 1, 5*chunk + 3}

// servers are the addresses of the testkit's servers, which run in a process of their own.
var servers struct {
	mu     sync.Mutex
	ask    io.Writer
	answer *bufio.Scanner

	hostile, aistore, nginx string
	s3                      []string
}

func TestMain(m *testing.M) {
	if child := os.Getenv("PGET_TEST_CHILD"); child != "" {
		os.Exit(children[child]())
	}
	stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the servers of the tests do not start:", err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

// start builds the servers with cargo, unless they are built, and starts them.
func start() (stop func(), err error) {
	server := exec.Command("cargo", "run", "--quiet", "--locked", "--package", "pget-testkit", "--example", "serve")
	server.Stderr = os.Stderr
	input, err := server.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		input.Close()
		server.Wait()
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "hostile":
			servers.hostile = words[1]
		case "aistore":
			servers.aistore = words[1]
		case "nginx":
			servers.nginx = words[1]
		case "s3":
			servers.s3 = words[1:]
		case "ready":
			servers.ask, servers.answer = input, lines
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("they ended: %v", server.ProcessState)
}

// served returns the number of faults that were put on the wire for a path.
func served(t *testing.T, path string) int {
	t.Helper()
	servers.mu.Lock()
	defer servers.mu.Unlock()
	fmt.Fprintln(servers.ask, "served", path)
	if !servers.answer.Scan() {
		t.Fatal("the servers have ended")
	}
	n, err := strconv.Atoi(servers.answer.Text())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// transport is a way to reach objects of the sizes above and of the size good.
type transport struct {
	name    string
	url     func(size int) string
	options []Option
}

func transports(t *testing.T) []transport {
	all := []transport{{"hostile", func(size int) string {
		if size == good {
			return servers.hostile + "/good"
		}
		return fmt.Sprint(servers.hostile, "/", size)
	}, nil}}
	if servers.nginx != "" {
		all = append(all, transport{"nginx", func(size int) string { return fmt.Sprint(servers.nginx, "/", size) }, nil})
	} else {
		t.Log("without nginx")
	}
	if s3 := servers.s3; s3 != nil {
		all = append(all, transport{"s3", func(size int) string { return fmt.Sprintf("s3://%s/%d", s3[4], size) }, []Option{
			WithProperty("aws.endpoint", s3[0]),
			WithProperty("aws.access_key_id", s3[1]),
			WithProperty("aws.secret_access_key", s3[2]),
			WithProperty("aws.region", s3[3]),
			WithProperty("aws.allow_http", "true"),
		}})
	} else {
		t.Log("without versitygw")
	}
	folder := t.TempDir()
	return append(all, transport{"file", func(size int) string {
		path := fmt.Sprint(folder, "/", size)
		if err := os.WriteFile(path, pattern(0, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}, nil})
}

// byteAt returns the byte at an offset of a test object, as pget-testkit computes it.
func byteAt(offset uint64) byte {
	first := uint64(seed + 1)
	z := first*0xd6e8feb86659fd93 + offset/8*0x9e3779b97f4a7c15
	z = (z ^ z>>32) * 0xbf58476d1ce4e5b9
	z ^= z >> 29
	return byte(z >> (offset % 8 * 8))
}

func pattern(offset, length int) []byte {
	bytes := make([]byte, length)
	for i := range bytes {
		bytes[i] = byteAt(uint64(offset + i))
	}
	return bytes
}

// deadline returns a context that ends a test that hangs.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}
