package pget

/*
#include <pget.h>
#include <stdint.h>
#include <stdlib.h>

void pgetProgress(uintptr_t handle, uint64_t delivered, uint64_t total);

static void pget_go_progress(void *context, uint64_t delivered, uint64_t total) {
  pgetProgress((uintptr_t)context, delivered, total);
}

// A handle is a number: made a pointer here, where no collector looks.
static pget_status pget_go_set_progress(pget_options *options, uintptr_t handle) {
  return pget_options_set_progress(options, pget_go_progress, (void *)handle);
}
*/
import "C"

import (
	"context"
	"io/fs"
	"math"
	"runtime/cgo"
	"strings"
	"unsafe"
)

// call is what each call into the library needs: its address and options, and a way for a context
// to stop it. All of it is C's, so it stays where it is and may be reached from a clean-up.
type call struct {
	url     *C.char
	options *C.pget_options
	stopper
}

// stopper is a cancel handle that a context triggers. No goroutine waits for that.
type stopper struct {
	ctx    context.Context
	cancel *C.pget_cancel
	// detach takes it off the context.
	detach func() bool
}

// begin readies a call; unless it fails, end ends it.
func begin(ctx context.Context, url string, settings *settings) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, failure(ErrCancelled, url, causeOf(ctx))
	}
	if C.pget_abi_version() < C.PGET_ABI_VERSION {
		return nil, failure(ErrUnsupported, "libpget is older than its header that this program was built with: "+C.GoString(C.pget_version()), nil)
	}
	// C would take the part before it.
	if strings.IndexByte(url, 0) >= 0 {
		return nil, failure(ErrInvalidArgument, "the address has a zero byte", nil)
	}
	c := &call{options: C.pget_options_new()}
	if err := settings.put(c.options); err != nil {
		C.pget_options_free(c.options)
		return nil, err
	}
	c.url = C.CString(url)
	c.stopper = newStopper(ctx)
	C.pget_options_set_cancel(c.options, c.cancel)
	return c, nil
}

// end frees what the call had; what was opened with it keeps the stopper.
func (c *call) end(keepStopper bool) {
	if !keepStopper {
		c.free()
	}
	C.pget_options_free(c.options)
	C.free(unsafe.Pointer(c.url))
}

// newStopper makes a cancel handle that ctx triggers.
func newStopper(ctx context.Context) stopper {
	s := stopper{ctx: ctx, cancel: C.pget_cancel_new(), detach: func() bool { return true }}
	if ctx.Done() != nil {
		cancel := s.cancel
		// Triggering a handle that was freed does nothing, so this may come late.
		s.detach = context.AfterFunc(ctx, func() { C.pget_cancel_trigger(cancel) })
	}
	return s
}

func (s *stopper) free() {
	s.detach()
	C.pget_cancel_free(s.cancel)
}

// failed makes the error of a call, with the context's error if that was why.
func (s *stopper) failed(status C.pget_status, e *C.pget_error, closed bool) *Error {
	err := taken(status, e)
	if err.Status != ErrCancelled {
		return err
	}
	if s.ctx.Err() != nil {
		err.cause = causeOf(s.ctx)
	} else if closed {
		err.cause = fs.ErrClosed
	}
	if err.cause != nil {
		err.message += ": " + err.cause.Error()
	}
	return err
}

// cause is a context's error together with the reason that was given for it.
type cause struct{ err, reason error }

func (c cause) Error() string   { return c.err.Error() + ": " + c.reason.Error() }
func (c cause) Unwrap() []error { return []error{c.err, c.reason} }

// causeOf returns the error of a context that is done.
func causeOf(ctx context.Context) error {
	if reason := context.Cause(ctx); reason != ctx.Err() {
		return cause{ctx.Err(), reason}
	}
	return ctx.Err()
}

// watcher passes on to a caller's function what the library reports of a call that waits in C.
type watcher struct {
	// One of them.
	progress func(delivered, total int64)
	each     func(index int)
	cancel   *C.pget_cancel
	// panicked is what the function panicked with, if it did.
	panicked *any
}

// watch has the library report this call to the function; the result ends that.
func (c *call) watch(told func(delivered, total int64)) (end func()) {
	if told == nil {
		return func() {}
	}
	handle, end := c.handle(&watcher{progress: told})
	C.pget_go_set_progress(c.options, C.uintptr_t(handle))
	return end
}

// handle makes a handle by which the library reports this call to w; the result ends that, and
// panics if w's function did.
func (c *call) handle(w *watcher) (handle cgo.Handle, end func()) {
	w.cancel = c.cancel
	handle = cgo.NewHandle(w)
	return handle, func() {
		handle.Delete()
		if w.panicked != nil {
			panic(*w.panicked)
		}
	}
}

//export pgetProgress
func pgetProgress(handle C.uintptr_t, delivered, total C.uint64_t) {
	w := cgo.Handle(handle).Value().(*watcher)
	w.report(func() { w.progress(int64(delivered), known(total)) })
}

// report calls the function on a goroutine of its own, because C lies below this one: a
// panic or a runtime.Goexit must not pass it, or the library would go on writing to memory whose
// owner has left.
func (w *watcher) report(call func()) {
	if w.panicked != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if reason := recover(); reason != nil {
				w.panicked = &reason
				C.pget_cancel_trigger(w.cancel)
			}
		}()
		call()
	}()
	<-done
}

// known is a number of the library's, or -1 for one that it does not know.
func known(n C.uint64_t) int64 {
	if n > math.MaxInt64 {
		return -1
	}
	return int64(n)
}
