package pget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
)

// ways are all ways to read an object.
var ways = []struct {
	name string
	read func(ctx context.Context, url string, size int, folder string, options []Option) ([]byte, error)
}{
	{"Read of 4 KiB", reading(func(r *Reader) ([]byte, error) {
		var all []byte
		piece := make([]byte, 4096)
		for {
			n, err := r.Read(piece)
			all = append(all, piece[:n]...)
			if err == io.EOF {
				return all, nil
			} else if err != nil {
				return all, err
			}
		}
	})},
	{"ReadAll", reading(func(r *Reader) ([]byte, error) { return io.ReadAll(r) })},
	{"Copy", reading(func(r *Reader) ([]byte, error) {
		var all bytes.Buffer
		_, err := io.Copy(&all, r)
		return all.Bytes(), err
	})},
	{"Read, then Copy", reading(func(r *Reader) ([]byte, error) {
		head := make([]byte, 10)
		n, err := io.ReadFull(r, head)
		if err != nil {
			return head[:n], ignore(err, io.EOF, io.ErrUnexpectedEOF)
		}
		all := bytes.NewBuffer(head)
		_, err = io.Copy(all, r)
		return all.Bytes(), err
	})},
	{"Get", func(ctx context.Context, url string, _ int, _ string, options []Option) ([]byte, error) {
		var all bytes.Buffer
		n, err := Get(ctx, url, &all, options...)
		if n != int64(all.Len()) {
			return nil, fmt.Errorf("reported %d bytes, not %d", n, all.Len())
		}
		return all.Bytes(), err
	}},
	{"GetInto", func(ctx context.Context, url string, size int, _ string, options []Option) ([]byte, error) {
		all := bytes.Repeat([]byte{0xaa}, size+3)
		n, err := GetInto(ctx, url, all[:size], options...)
		if !bytes.Equal(all[size:], []byte{0xaa, 0xaa, 0xaa}) {
			return nil, errors.New("wrote past the slice")
		}
		return all[:n], err
	}},
	{"GetFile", func(ctx context.Context, url string, _ int, folder string, options []Option) ([]byte, error) {
		path := filepath.Join(folder, "object")
		n, err := GetFile(ctx, url, path, options...)
		if err != nil {
			return nil, err
		}
		all, err := os.ReadFile(path)
		if n != int64(len(all)) {
			return nil, fmt.Errorf("reported %d bytes, not %d", n, len(all))
		}
		return all, err
	}},
}

func reading(read func(*Reader) ([]byte, error)) func(context.Context, string, int, string, []Option) ([]byte, error) {
	return func(ctx context.Context, url string, size int, _ string, options []Option) ([]byte, error) {
		r, err := Open(ctx, url, options...)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if r.Size() >= 0 && r.Size() < int64(size) {
			return nil, fmt.Errorf("the reported size is %d", r.Size())
		}
		return read(r)
	}
}

func ignore(err error, these ...error) error {
	for _, this := range these {
		if err == this {
			return nil
		}
	}
	return err
}

func TestEverySizeByEveryWay(t *testing.T) {
	all := transports(t)
	if testing.Short() {
		all = all[:1]
	}
	for _, transport := range all {
		for _, size := range append([]int{good}, sizes...) {
			t.Run(fmt.Sprint(transport.name, "/", size), func(t *testing.T) {
				url, wanted := transport.url(size), pattern(0, size)
				for _, concurrency := range []int{1, 5} {
					options := append([]Option{WithChunkSize(chunk), WithConcurrency(concurrency), WithWindow(7)}, transport.options...)
					for _, way := range ways {
						got, err := way.read(deadline(t), url, size, t.TempDir(), options)
						if err != nil || !bytes.Equal(got, wanted) {
							t.Errorf("%s, concurrency %d: %d of %d bytes, equal: %v, error: %v", way.name, concurrency, len(got), size, bytes.Equal(got, wanted), err)
						}
					}
				}
			})
		}
	}
}

func TestPartsOfAnObject(t *testing.T) {
	for _, part := range []struct{ offset, length, wanted int }{
		{0, 0, 0}, {1, 1, 1}, {chunk - 1, 3, 3}, {good - 1, -1, 1}, {good, -1, 0}, {good - 5, 100, 5}, {12345, 4*chunk + 1, 4*chunk + 1},
	} {
		for _, way := range ways {
			options := []Option{WithChunkSize(chunk), WithOffset(int64(part.offset)), WithLength(int64(part.length))}
			got, err := way.read(deadline(t), servers.hostile+"/good", part.wanted, t.TempDir(), options)
			if err != nil || !bytes.Equal(got, pattern(part.offset, part.wanted)) {
				t.Errorf("%s of %+v: %d bytes, %v", way.name, part, len(got), err)
			}
		}
	}
}

func TestAIStore(t *testing.T) {
	options := []Option{WithProperty("ais.endpoint", servers.aistore), WithChunkSize(chunk), WithRetries(1)}
	for _, way := range ways {
		got, err := way.read(deadline(t), "ais://ranges/good", good, t.TempDir(), options)
		if err != nil || !bytes.Equal(got, pattern(0, good)) {
			t.Errorf("%s: %d bytes, %v", way.name, len(got), err)
		}
		if _, err := way.read(deadline(t), "ais://ranges/damaged", good, t.TempDir(), options); !errors.Is(err, ErrChecksum) {
			t.Errorf("%s of a damaged object: %v", way.name, err)
		}
	}
}

func TestVerification(t *testing.T) {
	wanted := map[Verify]Verification{VerifyAuto: Verified, VerifyRequire: Verified, VerifyOff: VerificationOff}
	for verify, verification := range wanted {
		algorithm := ""
		if verification == Verified {
			algorithm = "xxh64"
		}
		r, err := Open(deadline(t), "ais://bucket/good", WithProperty("ais.endpoint", servers.aistore), WithChunkSize(chunk), WithVerify(verify))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != good || err != nil || r.Stats().Verification != verification || r.Stats().Checksum != algorithm {
			t.Errorf("%s: %d bytes, %v, %+v", verify, n, err, r.Stats())
		}
		r.Close()
	}
	if _, err := Get(deadline(t), servers.hostile+"/good", io.Discard, WithVerify(VerifyRequire)); !errors.Is(err, ErrUnverifiable) {
		t.Errorf("required, of a server that publishes none: %v", err)
	}
	if _, err := Get(deadline(t), servers.hostile+"/good", io.Discard, WithVerify("perhaps")); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("an unknown word: %v", err)
	}
}

func TestReaderKeepsTheRulesOfReaders(t *testing.T) {
	size := sizes[len(sizes)-1]
	r := open(t, fmt.Sprint("/", size), WithChunkSize(chunk))
	if err := iotest.TestReader(r, pattern(0, size)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAReaderTells(t *testing.T) {
	r := open(t, "/good", WithChunkSize(chunk), WithOffset(10))
	info, err := Stat(deadline(t), servers.hostile+"/good", WithOffset(10))
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != good || info.Size != good || info.Length != good-10 || r.Info().Offset != 10 || r.Info().ChunkSize != chunk {
		t.Errorf("%+v, %+v", r.Info(), info)
	}
	if r.Revision() != info.Revision || len(r.Revision()) < 6 || r.Revision()[:5] != "etag " {
		t.Errorf("revisions %q and %q", r.Revision(), info.Revision)
	}
	n, err := io.Copy(io.Discard, r)
	stats := r.Stats()
	if err != nil || n != good-10 || stats.Delivered != good-10 || stats.Received != good-10 || stats.Requests < 80 || stats.OneStream || stats.PeakBuffered == 0 {
		t.Errorf("%d, %v, %+v", n, err, stats)
	}
	r.Close()
	if r.Stats() != (Stats{}) {
		t.Errorf("after Close: %+v", r.Stats())
	}
	if Version() == "" {
		t.Error("no version")
	}
}

// The reader serves small reads from the memory that the library lent. It calls the library once
// for each view.
func TestSmallReadsDoNotCross(t *testing.T) {
	views := 0
	r := open(t, "/good", WithChunkSize(1<<20), WithProgress(func(int64, int64) { views++ }))
	piece, reads := make([]byte, 64), 0
	for {
		if _, err := r.Read(piece); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		reads++
	}
	if views == 0 || views*20 > reads {
		t.Errorf("%d calls for %d reads", views, reads)
	}
}

// The reader copies nothing: the writer's slices are longer than any buffer of io.Copy, and each is
// C memory.
func TestCopyHandsOutTheLibrarysMemory(t *testing.T) {
	if servers.nginx == "" {
		t.Skip("without nginx")
	}
	r, err := Open(deadline(t), fmt.Sprint(servers.nginx, "/", big))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var at, longest int
	n, err := io.Copy(writer(func(p []byte) (int, error) {
		longest = max(longest, len(p))
		for _, i := range []int{0, len(p) / 2, len(p) - 1} {
			if p[i] != byteAt(uint64(at+i)) {
				t.Fatalf("wrong byte at %d", at+i)
			}
		}
		at += len(p)
		return len(p), nil
	}), r)
	if err != nil || n != big || longest <= 32<<10 {
		t.Errorf("%d bytes, at most %d at once, %v", n, longest, err)
	}
}

func TestWritersThatFail(t *testing.T) {
	full := errors.New("the disk is full")
	for name, c := range map[string]struct {
		write func([]byte) (int, error)
		cause error
	}{
		"at once":       {func([]byte) (int, error) { return 0, full }, full},
		"in the middle": {func(p []byte) (int, error) { return len(p) / 2, full }, full},
		"short":         {func(p []byte) (int, error) { return len(p) - 1, nil }, io.ErrShortWrite},
		"impossible":    {func(p []byte) (int, error) { return len(p) + 1, nil }, nil},
	} {
		n, err := Get(deadline(t), servers.hostile+"/good", writer(c.write), WithChunkSize(chunk))
		if !errors.Is(err, ErrDestination) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
		if n >= good {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
	// The bytes that the writer did not take are still there.
	r := open(t, "/good", WithChunkSize(chunk))
	taken := 0
	n, err := r.WriteTo(writer(func(p []byte) (int, error) { taken = len(p) / 2; return taken, full }))
	if n != int64(taken) || !errors.Is(err, full) {
		t.Fatal(n, err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(rest, pattern(taken, good-taken)) {
		t.Errorf("%d bytes after %d, %v", len(rest), taken, err)
	}
}

func TestAWriterThatPanicsLeavesTheReaderUsable(t *testing.T) {
	r := open(t, "/good")
	func() {
		defer func() {
			if recover() != "stop" {
				t.Error("no panic")
			}
		}()
		io.Copy(writer(func([]byte) (int, error) { panic("stop") }), r)
	}()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, pattern(0, good)) {
		t.Error(len(got), err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// open opens an object of the misbehaving server.
func open(t testing.TB, path string, options ...Option) *Reader {
	t.Helper()
	r, err := Open(deadline(t), servers.hostile+path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
