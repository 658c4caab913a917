package pget

/*
#include <pget.h>
#include <stdlib.h>

// They keep no pointer. Only pget_shared_wait calls a function of Go's.
#cgo noescape pget_shared_begin
#cgo nocallback pget_shared_begin
#cgo noescape pget_shared_open
#cgo nocallback pget_shared_open
#cgo noescape pget_shared_wait
*/
import "C"

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"sync"
	"unsafe"
)

// Shared is an object in shared memory, whole or arriving, in the process that fetches it or in one
// that has attached: one process fetches, and any number of the same host read, also while it
// arrives. Linux only.
//
// Any number of goroutines may use it at once. It must be closed: the collector does not do that,
// because it cannot see who still has a slice of the memory.
type Shared struct {
	shared *C.pget_shared
	name   string
	size   int64
	// revision is known from the first reply on.
	revision string
	// download stops what Begin started; its cancel handle is nil elsewhere.
	download stopper

	// mu keeps the memory while it is looked at.
	mu     sync.RWMutex
	closed bool
}

// GetShared reads the object at url straight into new shared memory, and waits until all of it is
// there. The context governs the call, not the memory.
//
// name is a POSIX name ("dataset"), which must be free: until Close, processes of
// the same user attach to it by [OpenShared], and any program may map /dev/shm/dataset. Without a
// name, [Shared.Name] is what to attach by, and nothing is left of the memory when the last
// process has let go of it.
func GetShared(ctx context.Context, url, name string, options ...Option) (*Shared, error) {
	return share(ctx, url, name, options, true)
}

// BeginShared is GetShared, but returns as soon as the first reply has said how long the object is.
// The download goes on on the library's threads; [Shared.Wait] waits for its bytes and its end. The
// context governs the download; progress is not reported.
func BeginShared(ctx context.Context, url, name string, options ...Option) (*Shared, error) {
	return share(ctx, url, name, options, false)
}

// WithReuse has [GetShared] or [BeginShared] put the object into the pages of old, whose object was
// complete and in this process: pages that were used before cost about a third of new ones, the
// first time two thirds. The name must be empty or that of old. old is closed by the call, however
// that ends; with nil, the memory is new.
//
// If another process is attached to old (it keeps what it has), or old has no name and its first
// object was shorter, the memory is new, of the same kind. Programs that map /dev/shm without this
// package are not seen: reuse memory when they are done.
func WithReuse(old *Shared) Option {
	return func(s *settings) { s.reuse = old }
}

func share(ctx context.Context, url, name string, options []Option, whole bool) (*Shared, error) {
	settings := collect(options)
	var old *C.pget_shared
	if settings.reuse != nil {
		if old = settings.reuse.give(); old == nil {
			return nil, failure(ErrInvalidArgument, "the shared memory to be used again", fs.ErrClosed)
		}
		// If the call does not take it; else this does nothing.
		defer C.pget_shared_close(old)
		if name != "" && strings.TrimPrefix(name, "/") != settings.reuse.name {
			return nil, failure(ErrInvalidArgument, "the shared memory to be used again has another name: "+settings.reuse.name, nil)
		}
		// It keeps its name.
		name = ""
	}
	c, err := begin(ctx, url, settings)
	if err != nil {
		return nil, err
	}
	text, err := nameOf(name)
	if err != nil {
		c.end(false)
		return nil, err
	}
	defer C.free(unsafe.Pointer(text))
	var shared *C.pget_shared
	var e *C.pget_error
	var status C.pget_status
	if whole {
		defer c.end(false)
		end := c.watch(settings.progress)
		status = C.pget_shared_begin(c.url, c.options, text, old, &shared, &e)
		if status == C.PGET_OK {
			status = C.pget_shared_wait(shared, math.MaxUint64, math.MaxUint64, nil, nil, &e)
		}
		if status != C.PGET_OK {
			C.pget_shared_close(shared)
			shared = nil
		}
		defer func() {
			// If the function has panicked, no caller gets the memory.
			if reason := recover(); reason != nil {
				C.pget_shared_close(shared)
				panic(reason)
			}
		}()
		end()
	} else {
		status = C.pget_shared_begin(c.url, c.options, text, old, &shared, &e)
		c.end(status == C.PGET_OK)
	}
	if status != C.PGET_OK {
		return nil, c.failed(status, e, false)
	}
	s := attached(shared)
	if !whole {
		s.download = c.stopper
	}
	return s, nil
}

// nameOf is a name for C, nil for none.
func nameOf(name string) (*C.char, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, failure(ErrInvalidArgument, "the name has a zero byte", nil)
	}
	if name == "" {
		return nil, nil
	}
	return C.CString(name), nil
}

func attached(shared *C.pget_shared) *Shared {
	return &Shared{
		shared:   shared,
		name:     C.GoString(C.pget_shared_name(shared)),
		size:     int64(C.pget_shared_length(shared)),
		revision: C.GoString(C.pget_shared_revision(shared)),
	}
}

// OpenShared attaches to shared memory that this or another process of the same user has made, also
// while it is being filled. name is what [Shared.Name] returns there, or the name that was given.
// It does not wait: ErrNotFound if there is no such name, or not yet.
func OpenShared(name string) (*Shared, error) {
	text, err := nameOf(name)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(text))
	var shared *C.pget_shared
	var e *C.pget_error
	if status := C.pget_shared_open(text, &shared, &e); status != C.PGET_OK {
		return nil, taken(status, e)
	}
	return attached(shared), nil
}

// Size is the bytes that are read, there or not.
func (s *Shared) Size() int64 { return s.size }

// Name is what other processes attach by.
func (s *Shared) Name() string { return s.name }

// Revision is the identity of the object's content, for people.
func (s *Shared) Revision() string { return s.revision }

// Bytes returns the bytes that are there, from the first on, without waiting; nil after Close. They
// never change, are not to be written to, and are gone with Close: what touches them then crashes.
func (s *Shared) Bytes() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil
	}
	there := C.pget_shared_available(s.shared)
	if there == 0 {
		// The data of an object without bytes has an address that the runtime refuses to see on a stack.
		return []byte{}
	}
	return unsafe.Slice((*byte)(C.pget_shared_data(s.shared)), there)
}

// Wait waits until the first so many bytes are there, and returns all that are, as Bytes does. For
// Size or more, it waits until the whole object is known to be there.
//
// If the download has failed that is its error, and ErrUnavailable if the process that filled the
// memory died (noticed within half a second); what was there before can still be read. The context
// ends the wait and nothing else.
func (s *Shared) Wait(ctx context.Context, bytes int64) ([]byte, error) {
	if bytes < 0 {
		return nil, failure(ErrInvalidArgument, fmt.Sprintf("cannot wait for %d bytes", bytes), nil)
	}
	if ctx.Err() != nil {
		return s.Bytes(), failure(ErrCancelled, "waiting for "+s.name, causeOf(ctx))
	}
	wait := newStopper(ctx)
	defer wait.free()
	var e *C.pget_error
	status := C.pget_shared_wait(s.shared, C.uint64_t(bytes), math.MaxUint64, wait.cancel, nil, &e)
	if status == C.PGET_OK {
		if s.isClosed() {
			return nil, failure(ErrCancelled, "waiting for "+s.name, fs.ErrClosed)
		}
		return s.Bytes(), nil
	}
	if ctx.Err() == nil && s.download.ctx != nil && s.download.ctx.Err() != nil {
		return s.Bytes(), s.download.failed(status, e, false)
	}
	err := wait.failed(status, e, s.isClosed())
	if err.Status == ErrInvalidArgument && s.isClosed() {
		err = failure(ErrInvalidArgument, "the shared memory", fs.ErrClosed)
	}
	return s.Bytes(), err
}

// ReadAt is that of [io.ReaderAt], and waits for the bytes that it wants. It may be used while
// another goroutine closes s.
func (s *Shared) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, failure(ErrInvalidArgument, fmt.Sprintf("cannot read at %d", offset), nil)
	}
	end := s.size
	if rest := s.size - offset; rest > int64(len(p)) {
		end = offset + int64(len(p))
	}
	if _, err := s.Wait(context.Background(), end); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, failure(ErrInvalidArgument, "the shared memory", fs.ErrClosed)
	}
	if offset >= s.size {
		return 0, io.EOF
	}
	n := copy(p, unsafe.Slice((*byte)(C.pget_shared_data(s.shared)), s.size)[offset:end])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *Shared) isClosed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

// Close lets go of the memory: no slice of it may be touched any more. If this process made it, its
// name goes, and a download that still fills it ends; processes that are attached keep what they
// have. Who waits gets ErrCancelled. Later calls do nothing. It never fails.
func (s *Shared) Close() error {
	C.pget_shared_close(s.give())
	return nil
}

// give ends this use of the memory, and returns the handle to the caller that closes it; nil if it
// is closed.
func (s *Shared) give() *C.pget_shared {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.download.cancel != nil {
		s.download.free()
	}
	return s.shared
}

var (
	_ io.ReaderAt = (*Shared)(nil)
	_ io.Closer   = (*Shared)(nil)
)
