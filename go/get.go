package pget

/*
#include <pget.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"io"
	"strings"
	"unsafe"
)

// Get writes the object at url to w, in order, and returns how many bytes w took. Several ranges
// are fetched at the same time; what is held is bounded by the window. What w must not do with the
// slices that it gets, and what its errors become, is as for [Reader.WriteTo].
func Get(ctx context.Context, url string, w io.Writer, options ...Option) (int64, error) {
	r, err := Open(ctx, url, options...)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.WriteTo(w)
}

// GetInto reads the object at url straight into buf: each range is received where it belongs,
// without a copy. It returns how many bytes were read.
//
// When it has returned, however it went, nothing writes to buf any more. If buf is too small that
// is ErrBufferTooSmall, with the needed size in Error.Needed if that is known, and nothing has been
// written then; if it is not, and after any other error, the content of buf is unspecified.
func GetInto(ctx context.Context, url string, buf []byte, options ...Option) (int, error) {
	settings := collect(options)
	c, err := begin(ctx, url, settings)
	if err != nil {
		return 0, err
	}
	defer c.end(false)
	defer c.watch(settings.progress)()
	var length C.size_t
	var e *C.pget_error
	var status C.pget_status
	// As an argument, the slice's memory stays where it is until the library has returned.
	if len(buf) == 0 {
		status = C.parallel_get_into(c.url, c.options, nil, 0, &length, &e)
	} else {
		status = C.parallel_get_into(c.url, c.options, unsafe.Pointer(&buf[0]), C.size_t(len(buf)), &length, &e)
	}
	if status != C.PGET_OK {
		return 0, c.failed(status, e, false)
	}
	return int(length), nil
}

// GetFile reads the object at url into the file path, which appears under that name only when it is
// complete (until then it is path.pget-part), in place of what was there before. It returns how
// many bytes were read (less than the file has if it went on with an earlier one: [WithResume]). If
// it fails, what was there before stays. A part is beside it only if it is complete or can be gone
// on from, and the error says so. (With [WithSync], a folder or file that cannot be synced is an
// error after the file is there, complete.) A file that is replaced passes on its mode, owner,
// group and access list to the new one where allowed. A file that cannot be replaced (a mount
// point, a sticky folder) is overwritten when the part is complete. What is open already
// (/dev/stdout, /dev/fd/N and their like) is written to in order, from where it stands.
// [ErrDestination] is also a path that ends as a part's or a journal's does (.pget-part,
// .pget-journal), and a part that is being written by another process (where a file system has no
// locks: that is there), or was removed or replaced during the read.
func GetFile(ctx context.Context, url, path string, options ...Option) (int64, error) {
	settings := collect(options)
	c, err := begin(ctx, url, settings)
	if err != nil {
		return 0, err
	}
	defer c.end(false)
	defer c.watch(settings.progress)()
	if strings.IndexByte(path, 0) >= 0 {
		return 0, failure(ErrInvalidArgument, "the path has a zero byte", nil)
	}
	place := C.CString(path)
	defer C.free(unsafe.Pointer(place))
	var length C.uint64_t
	var e *C.pget_error
	if status := C.parallel_get_file(c.url, c.options, place, &length, &e); status != C.PGET_OK {
		return 0, c.failed(status, e, false)
	}
	return int64(length), nil
}

// Stat returns size and revision of an object without reading it. Info.Length is what a read with
// these options would return.
func Stat(ctx context.Context, url string, options ...Option) (Info, error) {
	c, err := begin(ctx, url, collect(options))
	if err != nil {
		return Info{}, err
	}
	defer c.end(false)
	info := C.pget_info{struct_size: C.sizeof_pget_info}
	var e *C.pget_error
	if status := C.pget_stat(c.url, c.options, &info, &e); status != C.PGET_OK {
		return Info{}, c.failed(status, e, false)
	}
	return infoOf(&info), nil
}

// Version is the version of the library that is loaded, as in "0.1.0".
func Version() string { return C.GoString(C.pget_version()) }
