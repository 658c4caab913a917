package pget

/*
#include <pget.h>
#include <stdint.h>
#include <stdlib.h>

void pgetRange(uintptr_t handle, size_t index);

static void pget_go_range(void *context, size_t index) { pgetRange((uintptr_t)context, index); }

// A handle is a number: made a pointer here, where no collector looks.
static pget_status pget_go_get_ranges(const char *url, const pget_options *options,
                                      const pget_range *ranges, size_t count, uintptr_t handle,
                                      pget_error **error) {
  return parallel_get_ranges(url, options, ranges, count, handle ? pget_go_range : NULL,
                             (void *)handle, error);
}
*/
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// Range is a part of an object, and where its bytes go.
type Range struct {
	// Offset is that of the first byte in the object.
	Offset int64
	// Bytes is as long as the range.
	Bytes []byte
}

// GetRanges reads many ranges of one revision of the object at url, each straight into its own
// Bytes. Near ranges are fetched together ([WithGap]). Ranges may touch, overlap and be the same,
// in any order; their slices must not share memory (ErrInvalidArgument).
//
// Each, unless it is nil, is called with the index of every range that is complete, one at a time,
// on a goroutine of its own for which the read waits; from then on that range's slice may be used.
// When GetRanges has returned, however it went, nothing writes to any of the slices any more; after
// an error, those that each was not called for have unspecified content. A range that goes beyond
// the object is ErrRange. [WithOffset] and [WithLength] do not go with it.
func GetRanges(ctx context.Context, url string, ranges []Range, each func(index int), options ...Option) error {
	settings := collect(options)
	c, err := begin(ctx, url, settings)
	if err != nil {
		return err
	}
	defer c.end(false)
	defer c.watch(settings.progress)()
	// The call does not pin the memory to which the list points.
	var pinner runtime.Pinner
	defer pinner.Unpin()
	list := make([]C.pget_range, len(ranges)+1)
	for i, r := range ranges {
		if r.Offset < 0 {
			return failure(ErrInvalidArgument, fmt.Sprintf("range %d begins at %d", i, r.Offset), nil)
		}
		list[i].offset = C.uint64_t(r.Offset)
		list[i].length = C.uint64_t(len(r.Bytes))
		if len(r.Bytes) > 0 {
			pinner.Pin(&r.Bytes[0])
			list[i].buffer = unsafe.Pointer(&r.Bytes[0])
		}
	}
	handle, rethrow := c.report(each)
	defer rethrow()
	var e *C.pget_error
	status := C.pget_go_get_ranges(c.url, c.options, &list[0], C.size_t(len(ranges)), C.uintptr_t(handle), &e)
	if status != C.PGET_OK {
		return c.failed(status, e, false)
	}
	return nil
}

// report makes a handle by which the library reports ranges to each (0 for nil); the result ends
// that.
func (c *call) report(each func(index int)) (handle cgo.Handle, end func()) {
	if each == nil {
		return 0, func() {}
	}
	return c.handle(&watcher{each: each})
}

//export pgetRange
func pgetRange(handle C.uintptr_t, index C.size_t) {
	w := cgo.Handle(handle).Value().(*watcher)
	w.report(func() { w.each(int(index)) })
}
