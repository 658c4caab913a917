package pget

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// digests is the child that reads a ring of another process, and prints a line for each object.
func digests() error {
	ring, err := OpenRing(os.Getenv("PGET_TEST_URL"))
	if err != nil {
		return err
	}
	defer ring.Close()
	for {
		size, revision, err := ring.NextObject(context.Background())
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, ring); err != nil {
			return err
		}
		fmt.Printf("%d %.5s %x\n", size, revision, hash.Sum(nil))
	}
}

func TestRingWithAnotherProcess(t *testing.T) {
	for _, named := range []string{name(t), ""} {
		ring, err := NewRing(named, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		defer ring.Close()
		reader := child(t, "digests", ring.Name())
		var said bytes.Buffer
		reader.Stdout, reader.Stderr = &said, &said
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		wanted := ""
		for _, size := range []int{5*chunk + 3, 1, chunk} {
			if err := ring.Put(deadline(t), fmt.Sprintf("%s/%d", servers.hostile, size), WithChunkSize(chunk)); err != nil {
				t.Fatal(size, err)
			}
			wanted += fmt.Sprintf("%d etag  %x\n", size, sha256.Sum256(pattern(0, size)))
			// An object that fails before its first byte does not appear in the ring.
			if err := ring.Put(deadline(t), servers.hostile+"/missing"); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}
		ring.Close()
		ring.Close()
		if err := ring.Put(deadline(t), servers.hostile+"/good"); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if err := reader.Wait(); err != nil || said.String() != wanted {
			t.Errorf("it said %q, not %q: %v", said.String(), wanted, err)
		}
	}
	if left, err := filepath.Glob("/dev/shm/" + name(t)); err != nil || left != nil {
		t.Error("left:", left, err)
	}
}

// ringOfOnePage returns a ring without a name, and its reader. Both are closed with the test.
func ringOfOnePage(t *testing.T) (*Ring, *RingReader) {
	t.Helper()
	ring, err := NewRing("", 4096)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	reader, err := OpenRing(ring.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return ring, reader
}

// readsOne checks that the next object is /1, and reads it.
func readsOne(t *testing.T, reader *RingReader) {
	t.Helper()
	if size, _, err := reader.NextObject(deadline(t)); size != 1 || err != nil {
		t.Error(size, err)
	}
	if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, pattern(0, 1)) {
		t.Error(len(got), err)
	}
}

func TestRingWaitsEnd(t *testing.T) {
	ring, reader := ringOfOnePage(t)
	if _, err := OpenRing(ring.Name()); !errors.Is(err, ErrUnavailable) {
		t.Error("a second reader:", err)
	}
	if _, err := reader.Next(deadline(t)); !errors.Is(err, ErrInvalidArgument) {
		t.Error("before the first object:", err)
	}
	soon, cancel := context.WithTimeout(deadline(t), 10*time.Millisecond)
	defer cancel()
	if _, _, err := reader.NextObject(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// The writer waits for room until its context is done. The reader then gets ErrCancelled.
	putting, stop := context.WithCancel(deadline(t))
	done := make(chan error)
	go func() { done <- ring.Put(putting, servers.hostile+"/good", WithChunkSize(chunk)) }()
	if size, _, err := reader.NextObject(deadline(t)); size != good || err != nil {
		t.Fatal(size, err)
	}
	first, err := reader.Next(deadline(t))
	if err != nil || !bytes.Equal(first, pattern(0, len(first))) {
		t.Fatal(len(first), err)
	}
	seen := len(first)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	rest, err := io.ReadAll(reader)
	if !errors.Is(err, ErrCancelled) || !bytes.Equal(rest, pattern(seen, len(rest))) {
		t.Error(len(rest), err)
	}
	go func() { done <- ring.Put(deadline(t), servers.hostile+"/1") }()
	readsOne(t, reader)
	if err := <-done; err != nil {
		t.Error(err)
	}
	// A close ends a wait, and the ring.
	go func() { done <- reader.Close() }()
	if _, _, err := reader.NextObject(deadline(t)); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	<-done
	if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if err := ring.Put(deadline(t), servers.hostile+"/good"); !errors.Is(err, ErrDestination) {
		t.Error(err)
	}
}

func TestRingObjectPassedOver(t *testing.T) {
	ring, reader := ringOfOnePage(t)
	done := make(chan error)
	put := func(path string) { done <- ring.Put(deadline(t), servers.hostile+path, WithChunkSize(chunk)) }
	go put("/good")
	if size, _, err := reader.NextObject(deadline(t)); size != good || err != nil {
		t.Fatal(size, err)
	}
	// A call that does not begin leaves the whole object, including the rest of the memory that Read
	// was lent.
	over, cancel := context.WithCancel(deadline(t))
	cancel()
	var got []byte
	for range 2 {
		piece := make([]byte, 10)
		if _, err := io.ReadFull(reader, piece); err != nil {
			t.Fatal(err)
		}
		got = append(got, piece...)
		if _, _, err := reader.NextObject(over); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if !bytes.Equal(got, pattern(0, len(got))) {
		t.Error("bytes are missing within")
	}
	// A call that begins skips the object, even if the call ends before the next object arrives.
	var err error
	for tries := 0; err == nil && tries < 100; tries++ {
		// Repeat if a busy machine ended the context before the call.
		soon, cancel := context.WithTimeout(deadline(t), 10*time.Millisecond)
		if _, _, err := reader.NextObject(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
		_, err = reader.Read(make([]byte, 1))
	}
	if !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if rest, err := reader.Next(deadline(t)); rest != nil || !errors.Is(err, ErrInvalidArgument) {
		t.Error(len(rest), err)
	}
	go func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		put("/1")
	}()
	readsOne(t, reader)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRingThatIsNotToBeHad(t *testing.T) {
	if _, err := OpenRing(name(t)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, wrong := range []string{"a\x00", "a/b"} {
		if _, err := NewRing(wrong, 1); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%q: %v", wrong, err)
		}
		if _, err := OpenRing(wrong); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := NewRing("", -1); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestRingClosedWithBytesLeft(t *testing.T) {
	ring, reader := ringOfOnePage(t)
	done := make(chan error)
	go func() { done <- ring.Put(deadline(t), servers.hostile+"/good", WithChunkSize(chunk)) }()
	if _, _, err := reader.NextObject(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if n, err := reader.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	reader.Close()
	if rest, err := reader.Next(deadline(t)); rest != nil || !errors.Is(err, fs.ErrClosed) {
		t.Error(len(rest), err)
	}
	if err := <-done; !errors.Is(err, ErrDestination) {
		t.Error(err)
	}
	ring.Close()
}
