package pget

/*
#include <pget.h>

// They call no function of Go's (readers have no progress function), and keep no pointer.
#cgo noescape pget_open
#cgo nocallback pget_open
#cgo noescape pget_reader_next
#cgo nocallback pget_reader_next
#cgo noescape pget_reader_info
#cgo nocallback pget_reader_info
#cgo noescape pget_reader_stats
#cgo nocallback pget_reader_stats
#cgo noescape pget_stat
#cgo nocallback pget_stat
#cgo nocallback pget_reader_cancel
#cgo nocallback pget_reader_close
*/
import "C"

import (
	"context"
	"io"
	"io/fs"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// The bits of a Reader's state.
const (
	busy   = 1 << iota // a goroutine is in it
	closed             // Close was called; the last to leave frees it
)

// Reader reads one object in order, as far as the caller asks: an [io.Reader], [io.WriterTo] and
// [io.Closer], made by [Open].
//
// One goroutine at a time may read; a second one gets ErrInvalidArgument. Close, Size, Info,
// Revision and Stats may be called at any time, from any goroutine. Close it: what the collector
// does for one that was forgotten comes late.
type Reader struct {
	state atomic.Uint32
	held  held
	// cleanup frees what is held if Close was not called.
	cleanup runtime.Cleanup
	info    Info
	// progress may be nil.
	progress func(delivered, total int64)

	// The rest is for the goroutine that is in it.

	// view is what was not read of the library's memory that it lent; it is valid until the next
	// call into the library. Never kept, never written to.
	view      []byte
	delivered int64
	// err is final: io.EOF or what went wrong.
	err error
}

// held is what a reader has in C.
type held struct {
	reader *C.pget_reader
	stopper
}

func (h held) free() {
	C.pget_reader_close(h.reader)
	h.stopper.free()
}

// Info is what is known of an object. Where the server does not say, a size or length is -1.
type Info struct {
	// Size of the object in bytes.
	Size int64
	// Offset in the object of the first byte that is read.
	Offset int64
	// Length is the bytes to be read in all, from Offset on.
	Length int64
	// ChunkSize is the bytes in a range.
	ChunkSize int64
	// Revision is the identity of the object's content, for people: "etag ...", "version ...", or
	// "unknown".
	Revision string
}

// Stats are the counters of a download.
type Stats struct {
	// Delivered is the bytes that were given to the reader.
	Delivered uint64
	// Received is the bytes that came from the server.
	Received uint64
	// Requests is the requests begun; Retries those of them for what had been asked before.
	Requests, Retries uint64
	// Buffered is the bytes of memory that hold received data now, PeakBuffered the most at any time.
	Buffered, PeakBuffered uint64
	// Concurrency is the requests that should be in flight now, and ChunkSize the bytes per range: as
	// set, as the server asks, or as measuring found.
	Concurrency uint32
	ChunkSize   uint64
	// OneStream says that the object is read as one plain stream.
	OneStream bool
	// Verification is what came of holding the bytes against the published checksum.
	Verification Verification
	// Checksum is the algorithm of that checksum, if Verification is about one: "crc32c", "xxh64",
	// ...; else empty.
	Checksum string
	// Fences is the requests that were far slower than the others and gave way to one over a fresh
	// connection; Stalls those that were given up because nothing came for as long as a timeout
	// allows.
	Fences, Stalls uint64
	// WindowFull is how long more could have been asked for, but what the reader had not taken filled
	// the window; ConsumerWait how long the reader waited for bytes.
	WindowFull, ConsumerWait time.Duration
}

// Verification is what came of verifying. Later versions may add values.
type Verification uint32

// The values of Verification.
const (
	// NotYetVerified: no answer has said whether there is a checksum.
	NotYetVerified Verification = C.PGET_VERIFICATION_UNKNOWN
	// VerificationPending: under way.
	VerificationPending Verification = C.PGET_VERIFICATION_PENDING
	// Verified: all bytes came and have the published checksum.
	Verified Verification = C.PGET_VERIFICATION_VERIFIED
	// VerificationMismatch: all bytes came and do not have it.
	VerificationMismatch Verification = C.PGET_VERIFICATION_MISMATCH
	// VerificationOff: not wanted.
	VerificationOff Verification = C.PGET_VERIFICATION_OFF
	// VerificationOfPart: a part of the object was asked for, and checksums are of the whole.
	VerificationOfPart Verification = C.PGET_VERIFICATION_PART
	// VerificationUnpublished: the server publishes none that is known here.
	VerificationUnpublished Verification = C.PGET_VERIFICATION_UNPUBLISHED
	// VerificationComposite: the published one is of the parts that the object was put in.
	VerificationComposite Verification = C.PGET_VERIFICATION_COMPOSITE
	// VerificationUnreadable: the bytes cannot be read back from where they went.
	VerificationUnreadable Verification = C.PGET_VERIFICATION_UNREADABLE
)

// Open opens the object at url for reading, and waits for the first reply, so that a wrong address,
// missing credentials or a missing object are found here.
//
// The context governs the reader's whole life: when it is done, Read and WriteTo fail with
// ErrCancelled and ctx.Err() in the chain, also those that wait.
func Open(ctx context.Context, url string, options ...Option) (*Reader, error) {
	settings := collect(options)
	c, err := begin(ctx, url, settings)
	if err != nil {
		return nil, err
	}
	var reader *C.pget_reader
	var e *C.pget_error
	if status := C.pget_open(c.url, c.options, &reader, &e); status != C.PGET_OK {
		defer c.end(false)
		return nil, c.failed(status, e, false)
	}
	c.end(true)
	r := &Reader{held: held{reader, c.stopper}, progress: settings.progress}
	r.cleanup = runtime.AddCleanup(r, held.free, r.held)
	if r.info, err = r.ask(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// ask asks the library what it knows.
func (r *Reader) ask() (Info, error) {
	info := C.pget_info{struct_size: C.sizeof_pget_info}
	var e *C.pget_error
	status := C.pget_reader_info(r.held.reader, &info, &e)
	// Until here the handle is needed.
	runtime.KeepAlive(r)
	if status != C.PGET_OK {
		return Info{}, taken(status, e)
	}
	return infoOf(&info), nil
}

func infoOf(info *C.pget_info) Info {
	return Info{
		Size:      known(info.size),
		Offset:    known(info.offset),
		Length:    known(info.length),
		ChunkSize: known(info.chunk_size),
		Revision:  C.GoString(&info.revision[0]),
	}
}

// Info returns what the first reply said of the object.
func (r *Reader) Info() Info { return r.info }

// Size is the size of the whole object in bytes, -1 if the server does not say.
func (r *Reader) Size() int64 { return r.info.Size }

// Revision is the identity of the object's content, for people: "etag ...", "version ...", or
// "unknown".
func (r *Reader) Revision() string { return r.info.Revision }

// Stats returns the counters of the download; those of a closed reader are zero. Does not wait.
func (r *Reader) Stats() Stats {
	stats := C.pget_stats{struct_size: C.sizeof_pget_stats}
	// A call that fails leaves zeroes. It fails only for closed readers.
	C.pget_reader_stats(r.held.reader, &stats, nil)
	runtime.KeepAlive(r)
	return Stats{
		Delivered:    uint64(stats.delivered),
		Received:     uint64(stats.received),
		Requests:     uint64(stats.requests),
		Retries:      uint64(stats.retries),
		Buffered:     uint64(stats.buffered),
		PeakBuffered: uint64(stats.peak_buffered),
		Concurrency:  uint32(stats.concurrency),
		ChunkSize:    uint64(stats.chunk_size),
		OneStream:    stats.one_stream != 0,
		Verification: Verification(stats.verification),
		Checksum:     C.GoString(&stats.checksum[0]),
		Fences:       uint64(stats.fences),
		Stalls:       uint64(stats.stalls),
		WindowFull:   time.Duration(stats.window_full),
		ConsumerWait: time.Duration(stats.consumer_wait),
	}
}

// enter makes the caller the one that reads.
func (r *Reader) enter() error {
	if r.state.CompareAndSwap(0, busy) {
		return nil
	}
	if r.state.Load()&closed != 0 {
		return failure(ErrInvalidArgument, "the reader", fs.ErrClosed)
	}
	return failure(ErrInvalidArgument, "the reader is busy: another goroutine uses it", nil)
}

// leave undoes enter, and frees what is held if Close was called since.
func (r *Reader) leave() {
	if r.state.And(^uint32(busy))&closed != 0 {
		r.view = nil
		r.held.free()
	}
}

// next gets the next view, if nothing is left of the last one.
func (r *Reader) next() error {
	if len(r.view) > 0 || r.err != nil {
		// A view may be returned without asking the library, which would notice.
		if r.err == nil && r.held.ctx.Err() != nil {
			r.err = r.held.failed(C.PGET_ERR_CANCELLED, nil, false)
		}
		return r.err
	}
	var data *C.uint8_t
	var length C.size_t
	var e *C.pget_error
	switch status := C.pget_reader_next(r.held.reader, &data, &length, &e); status {
	case C.PGET_OK:
		r.view = unsafe.Slice((*byte)(data), length)
		r.delivered += int64(length)
		if r.progress != nil {
			r.progress(r.delivered, r.info.Length)
		}
	case C.PGET_END:
		r.err = io.EOF
	default:
		r.err = r.held.failed(status, e, r.state.Load()&closed != 0)
	}
	return r.err
}

// Read reads up to len(p) bytes: as many as were received, at least one. At the end it returns
// io.EOF. An error is final and comes again from every later call.
//
// It calls into C only when all of the memory that the library lent is read, so that small reads
// are cheap.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.view)
	r.view = r.view[n:]
	return n, nil
}

// WriteTo writes the rest of the object to w, as io.Copy(w, r) does. Each Write gets the memory
// that the bytes were received into, without a copy: it must not keep or change the slice, as
// io.Writer says, for that memory is C's and is gone when it has returned.
//
// An error of w is ErrDestination with that error in the chain; what w did not take can still be
// read. Only between two writes does the context stop it.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	var written int64
	for {
		if err := r.next(); err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		n, err := w.Write(r.view)
		if n < 0 || n > len(r.view) {
			return written, failure(ErrDestination, "the writer returned an impossible count", nil)
		}
		written += int64(n)
		if err == nil && n < len(r.view) {
			err = io.ErrShortWrite
		}
		r.view = r.view[n:]
		if err != nil {
			return written, failure(ErrDestination, "the writer failed", err)
		}
	}
}

// Close stops the download if it runs, and frees what it has. It does not wait: a Read or WriteTo
// of another goroutine that waits for bytes fails at once with ErrCancelled, one that is in a
// caller's Write ends with it, and the last one out frees the memory. Later calls do nothing. It
// never fails.
func (r *Reader) Close() error {
	before := r.state.Or(closed)
	if before&closed != 0 {
		return nil
	}
	r.cleanup.Stop()
	if before&busy != 0 {
		// A goroutine that waits does so in the library. If it leaves first, the handle is stale and the
		// cancel has no effect.
		C.pget_reader_cancel(r.held.reader)
		runtime.KeepAlive(r)
		return nil
	}
	r.view = nil
	r.held.free()
	return nil
}

var (
	_ io.ReadCloser = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)
