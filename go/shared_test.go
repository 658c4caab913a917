package pget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// name returns a name that no other process uses.
func name(t *testing.T) string {
	return fmt.Sprintf("pget-go-%d-%s", os.Getpid(), t.Name())
}

// attaches is the child that attaches to shared memory of another process, and waits for it.
func attaches() error {
	s, err := OpenShared(os.Getenv("PGET_TEST_URL"))
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := s.Wait(context.Background(), s.Size())
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(all)
	return err
}

func TestSharedWithOtherProcesses(t *testing.T) {
	for what, make := range map[string]func(context.Context, string, string, ...Option) (*Shared, error){"GetShared": GetShared, "BeginShared": BeginShared} {
		for _, named := range []string{name(t), ""} {
			s, err := make(deadline(t), servers.hostile+"/good", named, WithChunkSize(chunk))
			if err != nil {
				t.Fatal(what, err)
			}
			defer s.Close()
			got, err := child(t, "attaches", s.Name()).CombinedOutput()
			if err != nil || !bytes.Equal(got, pattern(0, good)) {
				t.Errorf("%s: the other one got %d bytes, %v", what, len(got), err)
			}
			all, err := s.Wait(deadline(t), s.Size())
			if err != nil || !bytes.Equal(all, pattern(0, good)) || !bytes.Equal(s.Bytes(), all) || s.Size() != good || s.Revision()[:5] != "etag " {
				t.Errorf("%s: %d bytes, revision %q, %v", what, len(all), s.Revision(), err)
			}
			part := []byte{0, 0, 0}
			if n, err := s.ReadAt(part, 1000); n != 3 || err != nil || !bytes.Equal(part, pattern(1000, 3)) {
				t.Errorf("%s: read %d, %v", what, n, err)
			}
			if n, err := s.ReadAt(part, good-1); n != 1 || err == nil {
				t.Errorf("%s: read %d, %v", what, n, err)
			}
			if named != "" {
				if _, err := GetShared(deadline(t), servers.hostile+"/good", named); !errors.Is(err, ErrDestination) {
					t.Errorf("%s: a name that is taken: %v", what, err)
				}
			}
			s.Close()
			s.Close()
			if _, err := s.ReadAt(part, 0); !errors.Is(err, fs.ErrClosed) || s.Bytes() != nil {
				t.Errorf("%s, closed: %v", what, err)
			}
		}
	}
	if left, err := filepath.Glob("/dev/shm/" + name(t)); err != nil || left != nil {
		t.Error("left:", left, err)
	}
}

func TestSharedReused(t *testing.T) {
	for _, named := range []string{name(t), ""} {
		s, err := GetShared(deadline(t), servers.hostile+"/good", named, WithChunkSize(chunk))
		if err != nil {
			t.Fatal(err)
		}
		first := s.Name()
		for what, make := range map[string]func(context.Context, string, string, ...Option) (*Shared, error){"GetShared": GetShared, "BeginShared": BeginShared} {
			old := s
			if s, err = make(deadline(t), servers.hostile+"/good", named, WithReuse(old), WithChunkSize(chunk)); err != nil {
				t.Fatal(what, err)
			}
			if old.Bytes() != nil || s.Name() != first {
				t.Errorf("%s: the old one has %d bytes, the new one is named %s, not %s", what, len(old.Bytes()), s.Name(), first)
			}
			got, err := child(t, "attaches", s.Name()).CombinedOutput()
			if err != nil || !bytes.Equal(got, pattern(0, good)) {
				t.Errorf("%s: the other one got %d bytes, %v", what, len(got), err)
			}
			if all, err := s.Wait(deadline(t), s.Size()); err != nil || !bytes.Equal(all, pattern(0, good)) {
				t.Errorf("%s: %d bytes, %v", what, len(all), err)
			}
			if _, err := make(deadline(t), servers.hostile+"/good", "", WithReuse(old)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: closed, and used again: %v", what, err)
			}
		}
		// A reader that is attached keeps the old object.
		attached, err := OpenShared(first)
		if err != nil {
			t.Fatal(err)
		}
		next, err := GetShared(deadline(t), servers.hostile+"/327683", named, WithReuse(s))
		if err != nil || !bytes.Equal(next.Bytes(), pattern(0, 5*chunk+3)) || !bytes.Equal(attached.Bytes(), pattern(0, good)) {
			t.Error(err)
		}
		if _, err := GetShared(deadline(t), servers.hostile+"/327683", "", WithReuse(attached)); !errors.Is(err, ErrInvalidArgument) || attached.Bytes() != nil {
			t.Error("another's:", err)
		}
		if _, err := GetShared(deadline(t), servers.hostile+"/327683", "another", WithReuse(next)); !errors.Is(err, ErrInvalidArgument) || next.Bytes() != nil {
			t.Error("another name:", err)
		}
		if s, err = GetShared(deadline(t), servers.hostile+"/327683", named, WithReuse(nil)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if left, err := filepath.Glob("/dev/shm/" + name(t)); err != nil || left != nil {
		t.Error("left:", left, err)
	}
}

func TestSharedCancels(t *testing.T) {
	one, cancelOne := context.WithCancel(deadline(t))
	s, err := BeginShared(one, servers.hostile+"/silent-later", "", WithChunkSize(1<<20), WithConcurrency(2))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	there, err := s.Wait(deadline(t), 1000)
	if err != nil || len(there) < 1000 || !bytes.Equal(there, pattern(0, len(there))) {
		t.Fatal(len(there), err)
	}
	median(t, "a wait", func() time.Duration {
		ctx, cancel := context.WithTimeout(deadline(t), 20*time.Millisecond)
		defer cancel()
		done, _ := ctx.Deadline()
		if _, err := s.Wait(ctx, s.Size()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		return time.Since(done)
	})
	time.AfterFunc(20*time.Millisecond, cancelOne)
	there, err = s.Wait(deadline(t), s.Size())
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrCancelled) || len(there) < 1000 {
		t.Error(len(there), err)
	}
	if _, err := s.Wait(one, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	s, err = BeginShared(deadline(t), servers.hostile+"/silent-later", "", WithChunkSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { s.Close() })
	if _, err := s.Wait(deadline(t), s.Size()); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

func TestSharedThatIsNotToBeHad(t *testing.T) {
	if _, err := OpenShared(name(t)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, wrong := range []string{"", "a\x00", "a/b"} {
		if _, err := OpenShared(wrong); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := GetShared(deadline(t), servers.hostile+"/good", "a/b"); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := GetShared(deadline(t), servers.hostile+"/missing", name(t)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := BeginShared(deadline(t), servers.hostile+"/silent", name(t), WithFirstByteTimeout(50*time.Millisecond), WithRetries(0)); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

func TestAProgressFunctionThatPanicsLeavesNoSharedMemory(t *testing.T) {
	func() {
		defer func() {
			if recover() != "stop" {
				t.Error("no panic")
			}
		}()
		GetShared(deadline(t), servers.hostile+"/silent-later", name(t), WithProgress(func(int64, int64) { panic("stop") }), WithChunkSize(1<<20))
	}()
	if _, err := OpenShared(name(t)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestSharedOfNoBytes(t *testing.T) {
	s, err := GetShared(deadline(t), servers.hostile+"/0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	waited, err := s.Wait(deadline(t), 0)
	there := s.Bytes()
	// The call copies the stack with both slices in it. The runtime checks each address during that.
	if deep(10_000) != 10_000 || err != nil || waited == nil || there == nil || len(waited)+len(there) != 0 {
		t.Error(waited, there, err)
	}
}

func deep(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + deep(n-1)
}
