package pget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// children are the functions that this program runs when a test starts it again.
var children = map[string]func() int{
	"reads": func() int {
		if _, err := Get(context.Background(), os.Getenv("PGET_TEST_URL"), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	},
	"digests": func() int {
		if err := digests(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	},
	"attaches": func() int {
		if err := attaches(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	},
	"leaks": func() int {
		if err := leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	},
	"peers close": func() int {
		base := os.Getenv("PGET_TEST_URL")
		for i := range 1600 {
			path := [...]string{"/closes-reused", "/resets", "/closes"}[i%3]
			if n, err := Get(context.Background(), base+path, io.Discard, WithRetries(20)); n != small || err != nil {
				fmt.Fprintln(os.Stderr, i, n, err)
				return 1
			}
		}
		return 0
	},
}

func child(t *testing.T, what, url string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(deadline(t), os.Args[0])
	command.Env = append(os.Environ(), "PGET_TEST_CHILD="+what, "PGET_TEST_URL="+url)
	return command
}

// A process that has used the library can start programs, and they can use the library too.
func TestProgramsThatAreStarted(t *testing.T) {
	r := open(t, "/good")
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got, err := child(t, "reads", servers.hostile+"/good").CombinedOutput()
	if err != nil || !bytes.Equal(got, pattern(0, good)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != good-1 {
		t.Error(len(rest), err)
	}
}

// The program installs no handler. SIGPIPE would kill it in the places where Go lets the signal
// act.
func TestPeersThatCloseDoNotKillTheProgram(t *testing.T) {
	paths := []string{"/closes", "/resets", "/closes-reused"}
	count := func() (n int) {
		for _, path := range paths {
			n += served(t, path)
		}
		return n
	}
	before := count()
	if output, err := child(t, "peers close", servers.hostile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if met := count() - before; met < 1000 {
		t.Errorf("only %d connections were closed", met)
	}
}

// footprint is the number of resources that a process holds.
type footprint struct{ goroutines, threads, descriptors, mib int }

func measure() (now footprint, err error) {
	runtime.GC()
	debug.FreeOSMemory()
	for folder, count := range map[string]*int{"/proc/self/task": &now.threads, "/proc/self/fd": &now.descriptors} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return now, err
		}
		*count = len(entries)
	}
	sizes, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return now, err
	}
	var all, resident int
	_, err = fmt.Sscan(string(sizes), &all, &resident)
	now.goroutines, now.mib = runtime.NumGoroutine(), resident*os.Getpagesize()>>20
	return now, err
}

// opensAndCancels opens readers and cancels them at all stages.
func opensAndCancels(base string, times int) error {
	for i := range times {
		if err := openAndCancel(base, i); err != nil {
			return err
		}
	}
	return nil
}

func openAndCancel(base string, i int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if i%5 == 4 {
		time.AfterFunc(time.Duration(i%7)*time.Millisecond, cancel)
		if _, err := Open(ctx, base+"/silent"); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("open: %w", err)
		}
		return nil
	}
	r, err := Open(ctx, base+"/stalls", WithChunkSize(1<<20))
	if err != nil {
		return err
	}
	switch i % 5 {
	case 0:
		cancel()
		return r.Close()
	case 1:
		return r.Close()
	case 2:
		time.AfterFunc(time.Duration(i%3)*time.Millisecond, cancel)
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("copy: %w", err)
		}
		return r.Close()
	}
	// The reader is not closed, so the collector must do it.
	return nil
}

// leaks is the child that opens and cancels readers, and fails if it then holds more than before.
func leaks() error {
	base := os.Getenv("PGET_TEST_URL")
	if err := opensAndCancels(base, 200); err != nil {
		return err
	}
	before, err := measure()
	if err != nil {
		return err
	}
	if err := opensAndCancels(base, 1000); err != nil {
		return err
	}
	var after footprint
	// A cancelled read ends soon, but not immediately. Go keeps threads that it has used. The library
	// keeps a connection or two, and memory comes in large pieces.
	for range 100 {
		if after, err = measure(); err != nil {
			return err
		}
		if after.goroutines <= before.goroutines && after.threads <= before.threads+4 && after.descriptors <= before.descriptors+4 && (raceDetector || after.mib <= before.mib+12) {
			fmt.Printf("before %+v, after %+v", before, after)
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("before %+v, after %+v", before, after)
}

func TestAThousandOpensAndCancelsLeakNothing(t *testing.T) {
	output, err := child(t, "leaks", servers.hostile).CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Error(err)
	}
}

func TestForgottenReadersAreFreed(t *testing.T) {
	r := open(t, "/stalls")
	h := r.held
	r = &Reader{held: h}
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	func() {
		forgotten, err := Open(deadline(t), servers.hostile+"/stalls")
		if err != nil {
			t.Fatal(err)
		}
		h = forgotten.held
	}()
	r = &Reader{held: h}
	for range 100 {
		runtime.GC()
		if _, err := r.ask(); errors.Is(err, ErrInvalidArgument) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it is still there")
}
