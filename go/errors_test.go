package pget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The table has each kind of failure, which is tested with each way to read. Go cannot cause
// ErrForked and ErrInternal. ErrCancelled and ErrDestination have tests of their own.
func TestEverySentinel(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	soon := WithFirstByteTimeout(50 * time.Millisecond)
	for _, c := range []struct {
		name, url string
		wanted    Status
		options   []Option
	}{
		{"no address", "", ErrInvalidArgument, nil},
		{"no host", "http://", ErrInvalidArgument, nil},
		{"zero byte", servers.hostile + "/good\x00", ErrInvalidArgument, nil},
		{"not UTF-8", "\xff", ErrInvalidArgument, nil},
		{"no object", servers.hostile + "/missing", ErrNotFound, nil},
		{"no file", "/no/such/file", ErrNotFound, nil},
		{"denied", servers.hostile + "/denied", ErrPermissionDenied, nil},
		{"changed", servers.hostile + "/changed", ErrObjectChanged, nil},
		{"past the end", servers.hostile + "/good", ErrRange, []Option{WithOffset(good + 1)}},
		{"silent", servers.hostile + "/silent", ErrTimeout, []Option{soon}},
		{"unavailable", servers.hostile + "/unavailable", ErrUnavailable, nil},
		{"no server", "http://" + nobody.Addr().String(), ErrUnavailable, nil},
		{"nonsense", servers.hostile + "/nonsense", ErrProtocol, nil},
		{"unknown scheme", "gopher://host/object", ErrInvalidArgument, nil},
		{"dots", "ais://bucket/../object", ErrUnsupported, []Option{WithProperty("ais.endpoint", servers.aistore)}},
		{"property", servers.hostile + "/good", ErrInvalidArgument, []Option{WithProperty("a\x00", "")}},
	} {
		for _, way := range ways {
			t.Run(c.name+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				options := append([]Option{WithChunkSize(chunk), WithRetries(1)}, c.options...)
				_, err := way.read(deadline(t), c.url, good, t.TempDir(), options)
				var e *Error
				if !errors.Is(err, c.wanted) || !errors.As(err, &e) || e.Status != c.wanted || len(e.Error()) < 10 {
					t.Errorf("%v", err)
				}
				if errors.Is(err, fs.ErrNotExist) != (c.wanted == ErrNotFound) || errors.Is(err, fs.ErrPermission) != (c.wanted == ErrPermissionDenied) {
					t.Errorf("the standard library's kinds: %v", err)
				}
			})
		}
	}
}

func TestBufferTooSmall(t *testing.T) {
	for _, length := range []int{0, 1, good - 1} {
		buffer := make([]byte, length)
		n, err := GetInto(deadline(t), servers.hostile+"/good", buffer, WithChunkSize(chunk))
		var e *Error
		if n != 0 || !errors.Is(err, ErrBufferTooSmall) || !errors.As(err, &e) || e.Needed != good {
			t.Errorf("%d bytes: %d, %v", length, n, err)
		}
		if slicesIndexNot(buffer, 0) >= 0 {
			t.Errorf("%d bytes: something was written", length)
		}
	}
	if n, err := GetInto(deadline(t), servers.hostile+"/0", nil); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func slicesIndexNot(s []byte, not byte) int {
	for i, b := range s {
		if b != not {
			return i
		}
	}
	return -1
}

func TestDestinationsThatFail(t *testing.T) {
	folder := t.TempDir()
	if _, err := GetFile(deadline(t), servers.hostile+"/good", filepath.Join(folder, "no", "folder")); !errors.Is(err, ErrDestination) {
		t.Error(err)
	}
	if _, err := GetFile(deadline(t), servers.hostile+"/good", folder+"/a\x00b"); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	if _, err := GetFile(deadline(t), servers.hostile+"/changed", filepath.Join(folder, "object"), WithChunkSize(chunk)); !errors.Is(err, ErrObjectChanged) {
		t.Error(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Error("files remain:", left, err)
	}
}

func TestErrorsAreFinal(t *testing.T) {
	// Read one chunk after another, so that the object is opened before it changes.
	r := open(t, "/changed", WithChunkSize(chunk), WithWindow(1))
	_, first := io.ReadAll(r)
	_, second := r.Read(make([]byte, 1))
	_, third := io.Copy(io.Discard, r)
	if !errors.Is(first, ErrObjectChanged) || second != first || third != first {
		t.Error(first, second, third)
	}
}

func TestStatusTexts(t *testing.T) {
	if ErrRange.Error() != "range not satisfiable" || Status(-77).Error() != "unknown status -77" {
		t.Error(ErrRange, Status(-77))
	}
	all := []Status{
		ErrInvalidArgument, ErrUnsupported, ErrNotFound, ErrPermissionDenied, ErrObjectChanged, ErrRange, ErrTimeout, ErrUnavailable,
		ErrProtocol, ErrChecksum, ErrDestination, ErrBufferTooSmall, ErrCancelled, ErrForked, ErrUnverifiable,
		ErrResources, ErrInternal,
	}
	for i, status := range all {
		wanted := Status(-1 - i)
		if status == ErrInternal {
			wanted = -99
		}
		if status != wanted || strings.HasPrefix(status.Error(), "unknown") {
			t.Errorf("%d: %v", int(status), status)
		}
	}
}

func TestOptionsThatAreNotUsable(t *testing.T) {
	for i, option := range []Option{
		WithChunkSize(-1), WithChunkSize(1 << 40), WithConcurrency(-1), WithConcurrency(1025), WithConcurrency(math.MaxInt),
		WithWindow(-1), WithWindow(65537), WithOffset(-1), WithLength(-2), WithRetries(-1), WithRetries(1001), WithConnectTimeout(0),
		WithConnectTimeout(25 * time.Hour), WithFirstByteTimeout(-1), WithFirstByteTimeout(math.MaxInt64), WithStallTimeout(0), WithRetryTimeout(0), WithMemoryLimit(-1), WithThreads(-1), WithThreads(1025),
		WithProperty("", "x\x00"), WithProperty("\xff", ""), WithHeader("a\x00", "b"), WithHeader("a", "\xff"),
	} {
		if _, err := Open(deadline(t), servers.hostile+"/good", option); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("option %d: %v", i, err)
		}
	}
	// A value may be a secret, so the error must not show it.
	if _, err := Open(deadline(t), servers.hostile+"/good", WithHeader("Authorization", "secret\x00")); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "Authorization") {
		t.Error(err)
	}
	// The library accepts every valid option.
	r := open(t, "/good", WithConcurrency(0), WithChunkSize(1<<20), WithConcurrency(3), WithWindow(5), WithOffset(1), WithLength(7), WithRetries(2), WithConnectTimeout(time.Second),
		WithFirstByteTimeout(time.Second), WithStallTimeout(time.Microsecond+time.Second), WithRetryTimeout(time.Second), WithMemoryLimit(8<<20), WithThreads(2), WithHeader("X-Test", "1"))
	if got, err := io.ReadAll(r); err != nil || string(got) != string(pattern(1, 7)) {
		t.Error(got, err)
	}
	// The library rejects a property of another transport by its name.
	if _, err := Open(deadline(t), servers.hostile+"/good", WithProperty("aws.region", "x")); !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "aws.region") {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	url, options := servers.hostile+"/good", []Option{WithChunkSize(chunk)}
	for _, way := range ways {
		var last, total int64
		calls := 0
		told := WithProgress(func(delivered, all int64) {
			if delivered < last {
				t.Errorf("%s: %d after %d", way.name, delivered, last)
			}
			calls, last, total = calls+1, delivered, all
		})
		if _, err := way.read(deadline(t), url, good, t.TempDir(), append(options, told)); err != nil {
			t.Error(way.name, err)
		}
		// The library reports progress every 100 ms, and at the end. The download may take less time.
		least := 2
		if way.name == "GetFile" {
			least = 1
		}
		if way.name != "GetInto" && (calls < least || last != good || total != good) {
			t.Errorf("%s: %d calls, %d of %d", way.name, calls, last, total)
		}
	}
}

// While GetInto waits in C, the function runs on another thread. Neither its panic nor its Goexit
// may abandon the C frames.
func TestAProgressFunctionThatPanics(t *testing.T) {
	buffer := make([]byte, good)
	var recovered any
	func() {
		defer func() { recovered = recover() }()
		GetInto(deadline(t), servers.hostile+"/stalls", buffer, WithProgress(func(int64, int64) { panic("stop") }))
	}()
	if recovered != "stop" {
		t.Errorf("recovered %v", recovered)
	}
	calls := 0
	ctx, cancel := context.WithCancelCause(deadline(t))
	_, err := GetInto(ctx, servers.hostile+"/stalls", buffer, WithProgress(func(int64, int64) {
		if calls++; calls == 3 {
			cancel(errors.New("enough"))
		}
	}))
	if calls < 3 || !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "enough") {
		t.Error(calls, err)
	}
}
