package pget

/*
#include <pget.h>
#include <stdlib.h>

// They call no function of Go's, and keep no pointer.
#cgo noescape pget_ring_create
#cgo nocallback pget_ring_create
#cgo noescape pget_ring_open
#cgo nocallback pget_ring_open
#cgo noescape pget_ring_next_object
#cgo nocallback pget_ring_next_object
#cgo noescape pget_ring_next
#cgo nocallback pget_ring_next
*/
import "C"

import (
	"context"
	"io"
	"io/fs"
	"math"
	"sync"
	"unsafe"
)

// Ring is a ring in shared memory, through which one other process reads objects as they arrive,
// one after another and at its pace, however long they are. Linux only.
type Ring struct {
	ring *C.pget_ring
	name string

	// mu is held by who puts.
	mu     sync.Mutex
	closed bool
}

// NewRing makes a ring of at least capacity bytes. name is a POSIX name ("feed"), which must be
// free; without one, [Ring.Name] is what to attach by. It must be closed.
func NewRing(name string, capacity int) (*Ring, error) {
	text, err := nameOf(name)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(text))
	if capacity < 0 {
		return nil, failure(ErrInvalidArgument, "a ring of fewer than 0 bytes", nil)
	}
	r := &Ring{}
	var e *C.pget_error
	if status := C.pget_ring_create(text, C.size_t(capacity), &r.ring, &e); status != C.PGET_OK {
		return nil, taken(status, e)
	}
	r.name = C.GoString(C.pget_ring_name(r.ring))
	return r, nil
}

// Name is what the process that reads attaches by.
func (r *Ring) Name() string { return r.name }

// Put puts the object at url into the ring, as its next one, and waits until the process that reads
// the ring has taken all of it. That process hears of a failure, but not of one before the ring has
// begun with the object (ErrNotFound, say). Another object may be put after either. If the process
// that reads has gone or died it is ErrDestination. One goroutine at a time may put: a second one
// gets ErrInvalidArgument.
func (r *Ring) Put(ctx context.Context, url string, options ...Option) error {
	settings := collect(options)
	c, err := begin(ctx, url, settings)
	if err != nil {
		return err
	}
	defer c.end(false)
	if !r.mu.TryLock() {
		return failure(ErrInvalidArgument, "the ring is busy: another goroutine uses it", nil)
	}
	defer r.mu.Unlock()
	if r.closed {
		return failure(ErrInvalidArgument, "the ring", fs.ErrClosed)
	}
	end := c.watch(settings.progress)
	var e *C.pget_error
	status := C.parallel_get_ring(c.url, c.options, r.ring, &e)
	end()
	if status != C.PGET_OK {
		return c.failed(status, e, false)
	}
	return nil
}

// Close closes the ring: who reads hears that no more objects come. It waits for a [Ring.Put] that
// runs, which its context ends. Later calls do nothing. It never fails.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	C.pget_ring_close(r.ring)
	return nil
}

// RingReader is the reading end of a ring in shared memory, which has one: [RingReader.NextObject],
// then [RingReader.Next] or Read until io.EOF, and so on. One goroutine at a time may use it, but
// Close from any. It must be closed. Linux only.
type RingReader struct {
	reader *C.pget_ring_reader

	// mu is held by who reads.
	mu sync.Mutex
	// rest is what Read has not given yet of what it was lent.
	rest []byte

	// closing is held by who closes, and by who copies what was lent.
	closing sync.Mutex
	closed  bool
}

// OpenRing attaches to the ring of that name, which this or another process of the same user has
// made: what [Ring.Name] returns there, or the name that was given. It does not wait: ErrNotFound
// if there is no such name, or not yet; ErrUnavailable if the ring has a reader, or had one.
func OpenRing(name string) (*RingReader, error) {
	text, err := nameOf(name)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(text))
	r := &RingReader{}
	var e *C.pget_error
	if status := C.pget_ring_open(text, &r.reader, &e); status != C.PGET_OK {
		return nil, taken(status, e)
	}
	return r, nil
}

// NextObject waits for the next object, also for the first; io.EOF if no more come. What is left of
// the one before is passed over: that begins with the call, however the call ends, unless the
// context is done before it, and Next and Read give no more of that object (ErrInvalidArgument, or
// what it failed with). size is the number of bytes that come, -1 if that is not known; revision is
// the identity of the content, for people. If the process that puts died it is ErrUnavailable
// (noticed within half a second). The context ends the wait and nothing else.
func (r *RingReader) NextObject(ctx context.Context) (size int64, revision string, err error) {
	if err := r.enter(); err != nil {
		return 0, "", err
	}
	defer r.mu.Unlock()
	var bytes C.uint64_t
	var text *C.char
	err = r.wait(ctx, func(wait *stopper, e **C.pget_error) C.pget_status {
		// From here on it is passed over; with a context that is done already it is not.
		r.rest = nil
		return C.pget_ring_next_object(r.reader, math.MaxUint64, wait.cancel, &bytes, &text, e)
	})
	if err != nil {
		return 0, "", err
	}
	// The text goes with the handle.
	r.closing.Lock()
	defer r.closing.Unlock()
	if r.closed {
		return 0, "", failure(ErrCancelled, "waiting for a ring", fs.ErrClosed)
	}
	return known(bytes), C.GoString(text), nil
}

// Next waits for the next bytes of the object, and lends them without a copy until the next call or
// Close, whichever comes first; io.EOF at its end, which is only reported if the object is
// complete. The bytes must not be written to. The object's failure is the error of every call until
// the next object. The context ends the wait and nothing else.
func (r *RingReader) Next(ctx context.Context) ([]byte, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	return r.next(ctx)
}

// next is Next for who has entered.
func (r *RingReader) next(ctx context.Context) ([]byte, error) {
	if rest := r.rest; len(rest) > 0 {
		r.rest = nil
		if r.isClosed() {
			return nil, failure(ErrInvalidArgument, "the ring", fs.ErrClosed)
		}
		return rest, nil
	}
	var data *C.uint8_t
	var length C.size_t
	err := r.wait(ctx, func(wait *stopper, e **C.pget_error) C.pget_status {
		return C.pget_ring_next(r.reader, math.MaxUint64, wait.cancel, &data, &length, e)
	})
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(data), length), nil
}

// Read is that of [io.Reader], of the object that [RingReader.NextObject] gave; io.EOF at its end.
// It may be used while another goroutine closes r.
func (r *RingReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.mu.Unlock()
	bytes, err := r.next(context.Background())
	if err != nil {
		return 0, err
	}
	r.closing.Lock()
	defer r.closing.Unlock()
	if r.closed {
		return 0, failure(ErrInvalidArgument, "the ring", fs.ErrClosed)
	}
	n := copy(p, bytes)
	r.rest = bytes[n:]
	return n, nil
}

// enter makes this goroutine the one that reads, until it unlocks mu.
func (r *RingReader) enter() error {
	if !r.mu.TryLock() {
		return failure(ErrInvalidArgument, "the ring is busy: another goroutine uses it", nil)
	}
	return nil
}

// wait has C wait until the context is done.
func (r *RingReader) wait(ctx context.Context, call func(*stopper, **C.pget_error) C.pget_status) error {
	if ctx.Err() != nil {
		return failure(ErrCancelled, "waiting for a ring", causeOf(ctx))
	}
	wait := newStopper(ctx)
	defer wait.free()
	var e *C.pget_error
	switch status := call(&wait, &e); status {
	case C.PGET_OK:
		return nil
	case C.PGET_END:
		return io.EOF
	default:
		err := wait.failed(status, e, r.isClosed())
		if err.Status == ErrInvalidArgument && r.isClosed() {
			err = failure(ErrInvalidArgument, "the ring", fs.ErrClosed)
		}
		return err
	}
}

func (r *RingReader) isClosed() bool {
	r.closing.Lock()
	defer r.closing.Unlock()
	return r.closed
}

// Close lets go of the ring, which ends it: no bytes that were lent may be touched any more, and
// who puts gets ErrDestination. Who waits gets ErrCancelled. Later calls do nothing. It never
// fails.
func (r *RingReader) Close() error {
	r.closing.Lock()
	defer r.closing.Unlock()
	r.closed = true
	C.pget_ring_reader_close(r.reader)
	return nil
}

var (
	_ io.Closer = (*Ring)(nil)
	_ io.Reader = (*RingReader)(nil)
	_ io.Closer = (*RingReader)(nil)
)
