package pget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"
)

// prompt is the promised time from the end of a context to the return of the call.
const prompt = 100 * time.Millisecond

// median compares the median of five times with the promise, because the machines of tests are
// busy.
func median(t *testing.T, what string, once func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range 5 {
		took = append(took, once())
	}
	slices.Sort(took)
	t.Logf("%s: %v", what, took)
	if took[2] > prompt {
		t.Errorf("%s: returned %v after the context was done", what, took)
	}
}

func TestCancelAndDeadlineReturnPromptly(t *testing.T) {
	const after = 20 * time.Millisecond
	for _, path := range []string{"/silent", "/stalls"} {
		for _, way := range ways {
			what := way.name + " of " + path
			median(t, what+", deadline", func() time.Duration {
				ctx, cancel := context.WithTimeout(deadline(t), after)
				defer cancel()
				done, _ := ctx.Deadline()
				_, err := way.read(ctx, servers.hostile+path, good, t.TempDir(), nil)
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrCancelled) || errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", what, err)
				}
				return time.Since(done)
			})
			median(t, what+", cancel", func() time.Duration {
				ctx, cancel := context.WithCancel(deadline(t))
				var done time.Time
				timer := time.AfterFunc(after, func() { done = time.Now(); cancel() })
				defer timer.Stop()
				_, err := way.read(ctx, servers.hostile+path, good, t.TempDir(), nil)
				if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
					t.Errorf("%s: %v", what, err)
				}
				return time.Since(done)
			})
		}
	}
}

func TestCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, way := range ways {
		if _, err := way.read(ctx, servers.hostile+"/good", good, t.TempDir(), nil); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: %v", way.name, err)
		}
	}
	if _, err := Stat(ctx, servers.hostile+"/good"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A cancel between two reads takes effect, even if there is a view left. After the end, it changes
// nothing.
func TestCancelledBetweenReadsAndAfter(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	r, err := Open(ctx, servers.hostile+"/good")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	done, err := Open(ctx, servers.hostile+"/good")
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	if _, err := io.Copy(io.Discard, done); err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 2 {
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
			t.Error(n, err)
		}
	}
	if n, err := done.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

func TestCloseFromElsewhereStopsARead(t *testing.T) {
	median(t, "Close", func() time.Duration {
		r := open(t, "/stalls", WithStallTimeout(time.Minute))
		begun, ended := make(chan struct{}), make(chan error)
		go func() {
			once := sync.OnceFunc(func() { close(begun) })
			_, err := io.Copy(writer(func(p []byte) (int, error) { once(); return len(p), nil }), r)
			ended <- err
		}()
		<-begun
		closed := time.Now()
		r.Close()
		if err := <-ended; !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		return time.Since(closed)
	})
}

func TestCloseAndUseAfterIt(t *testing.T) {
	r := open(t, "/good")
	for range 3 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, fs.ErrClosed) || !errors.Is(err, ErrInvalidArgument) {
		t.Error(n, err)
	}
	if n, err := r.WriteTo(io.Discard); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Error(n, err)
	}
	if r.Size() != good || r.Revision() == "" {
		t.Error("what was known is forgotten")
	}
}

// The view that the writer holds stays valid until the writer returns.
func TestCloseWithinAWriterDoesNotWait(t *testing.T) {
	r := open(t, "/good", WithChunkSize(chunk))
	var got []byte
	_, err := io.Copy(writer(func(p []byte) (int, error) {
		r.Close()
		got = bytes.Clone(p)
		return len(p), nil
	}), r)
	if !errors.Is(err, fs.ErrClosed) || !bytes.Equal(got, pattern(0, len(got))) {
		t.Error(len(got), err)
	}
}

func TestASecondGoroutineIsToldThatTheReaderIsBusy(t *testing.T) {
	r := open(t, "/good")
	inside, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		once := sync.OnceFunc(func() { close(inside); <-leave })
		_, err := io.Copy(writer(func(p []byte) (int, error) { once(); return len(p), nil }), r)
		ended <- err
	}()
	<-inside
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, ErrInvalidArgument) || errors.Is(err, fs.ErrClosed) {
		t.Error(n, err)
	}
	if n, err := io.Copy(io.Discard, r); n != 0 || !errors.Is(err, ErrInvalidArgument) {
		t.Error(n, err)
	}
	if r.Size() != good || r.Stats().Requests == 0 {
		t.Error("size or stats are wrong")
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Many goroutines use and close the same readers without any order. Each call must end, with right
// bytes or an error.
func TestMisuseIsNoUndefinedBehaviour(t *testing.T) {
	for range 20 {
		r := open(t, "/good", WithChunkSize(chunk))
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				piece := make([]byte, 1000)
				for n := range 200 {
					if _, err := r.Read(piece); errors.Is(err, fs.ErrClosed) {
						return
					}
					r.Stats()
					if i == 0 && n == 150 {
						r.Close()
					}
				}
			})
		}
		all.Wait()
		r.Close()
	}
}

func TestManyReadersAtOnce(t *testing.T) {
	size := sizes[len(sizes)-1]
	url, wanted := fmt.Sprint(servers.hostile, "/", size), pattern(0, size)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			way := ways[i%len(ways)]
			got, err := way.read(deadline(t), url, size, t.TempDir(), []Option{WithChunkSize(chunk / 4)})
			if err != nil || !bytes.Equal(got, wanted) {
				t.Errorf("%s: %d bytes, %v", way.name, len(got), err)
			}
		})
	}
	all.Wait()
}
