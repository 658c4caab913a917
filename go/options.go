package pget

// #include <pget.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"
)

// Option says how to read. The names are those of the library in Rust and C. An unusable value is
// found by the call that is given the option: ErrInvalidArgument.
type Option func(*settings)

// settings is what options say, until a call puts it into the library's form.
type settings struct {
	offset, length int64
	progress       func(delivered, total int64)
	reuse          *Shared
	steps          []step
}

// step is one option: what it is, for an error, and how it is set.
type step struct {
	what string
	set  func(*C.pget_options) C.pget_status
}

// toTheEnd stands for no length.
const toTheEnd = -1

func collect(options []Option) *settings {
	s := &settings{length: toTheEnd}
	for _, option := range options {
		option(s)
	}
	return s
}

// setNumber is an option that is a number, which the library checks as far as it fits into most.
func setNumber(name string, value int64, most uint64, set func(*C.pget_options, uint64) C.pget_status) Option {
	return func(s *settings) {
		s.steps = append(s.steps, step{fmt.Sprintf("%s %d is out of range", name, value), func(o *C.pget_options) C.pget_status {
			if value < 0 || uint64(value) > most {
				return C.PGET_ERR_INVALID_ARGUMENT
			}
			return set(o, uint64(value))
		}})
	}
}

// setDuration is an option that is a time, in whole milliseconds and at least one.
func setDuration(name string, value time.Duration, set func(*C.pget_options, uint64) C.pget_status) Option {
	return func(s *settings) {
		s.steps = append(s.steps, step{fmt.Sprintf("%s %v is out of range", name, value), func(o *C.pget_options) C.pget_status {
			if value <= 0 {
				return C.PGET_ERR_INVALID_ARGUMENT
			}
			return set(o, uint64(max(value.Milliseconds(), 1)))
		}})
	}
}

// texts is an option that is a name and a value; the value may be a secret and is not shown.
func texts(what, name, value string, set func(o *C.pget_options, name, value *C.char) C.pget_status) Option {
	return func(s *settings) {
		s.steps = append(s.steps, step{fmt.Sprintf("%s %q is not usable", what, name), func(o *C.pget_options) C.pget_status {
			// C would take the part before it.
			if strings.IndexByte(name, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
				return C.PGET_ERR_INVALID_ARGUMENT
			}
			n, v := C.CString(name), C.CString(value)
			defer C.free(unsafe.Pointer(n))
			defer C.free(unsafe.Pointer(v))
			return set(o, n, v)
		}})
	}
}

// Verify says whether bytes are compared with the checksum of the whole object that the server
// publishes.
type Verify string

const (
	// VerifyAuto is the default: if all of the object is read and there is such a checksum.
	VerifyAuto Verify = "auto"
	// VerifyRequire fails with ErrUnverifiable, before the first byte, without one; a part of an
	// object is ErrInvalidArgument.
	VerifyRequire Verify = "require"
	// VerifyOff does not.
	VerifyOff Verify = "off"
)

// WithVerify sets whether bytes are verified. Those that do not fit are ErrChecksum: in order
// before the last of them is delivered, else at the end. Stats.Verification is the outcome.
func WithVerify(verify Verify) Option {
	return texts("verify", string(verify), "", func(o *C.pget_options, v, _ *C.char) C.pget_status {
		return C.pget_options_set_verify(o, v)
	})
}

// WithResume has [GetFile] go on with what an earlier one of the same address and range has left
// beside the file, if the object still has the same revision (else ErrObjectChanged, and what is
// there stays), and read only what is missing. With nothing to go on from, it starts from nothing.
func WithResume() Option {
	return flag("resume", func(o *C.pget_options) C.pget_status { return C.pget_options_set_resume(o, 1) })
}

// WithSync has [GetFile] return only when the file and its name are on the disk (fsync of both).
func WithSync() Option {
	return flag("sync", func(o *C.pget_options) C.pget_status { return C.pget_options_set_sync(o, 1) })
}

// flag is an option that is there or not.
func flag(name string, set func(*C.pget_options) C.pget_status) Option {
	return func(s *settings) { s.steps = append(s.steps, step{name + " cannot be set", set}) }
}

// WithOffset sets the first byte to read; default 0. One at the object's end reads nothing, one
// beyond it is ErrRange.
func WithOffset(bytes int64) Option {
	return func(s *settings) { s.offset = bytes }
}

// WithLength sets how many bytes to read from the offset on, cut at the object's end; -1, the
// default, means to the end.
func WithLength(bytes int64) Option {
	return func(s *settings) { s.length = bytes }
}

// WithProperty sets a setting of the transport by its name ("ais.endpoint", "aws.region", ...), in
// place of an earlier one of that name; it goes before the environment.
func WithProperty(key, value string) Option {
	return texts("property", key, value, func(o *C.pget_options, k, v *C.char) C.pget_status {
		return C.pget_options_set_property(o, k, v)
	})
}

// WithHeader adds a header to the requests of http and https addresses; never sent to another
// origin than the address's. Those that pget writes itself (Host, Range, ...) are refused.
func WithHeader(name, value string) Option {
	return texts("header", name, value, func(o *C.pget_options, k, v *C.char) C.pget_status {
		return C.pget_options_set_header(o, k, v)
	})
}

// WithProgress sets a function that is called with the bytes delivered so far, and how many there
// will be in all (-1 while that is not known).
//
// It is called by one goroutine at a time. A [Reader] and [Get] call it on the reading goroutine,
// after each piece that was received; [GetInto], [GetRanges], [GetFile], [GetShared] and [Ring.Put]
// on one of its own, about ten times a second, and wait for it; [BeginShared] reports nothing. A
// panic in it goes on in the goroutine that made the call, when nothing writes to its memory any
// more.
func WithProgress(told func(delivered, total int64)) Option {
	return func(s *settings) { s.progress = told }
}

// put passes all options to the library.
func (s *settings) put(o *C.pget_options) error {
	if s.offset < 0 || s.length < toTheEnd {
		return failure(ErrInvalidArgument, fmt.Sprintf("offset %d and length %d are no range", s.offset, s.length), nil)
	}
	length := C.uint64_t(math.MaxUint64)
	if s.length != toTheEnd {
		length = C.uint64_t(s.length)
	}
	if status := C.pget_options_set_range(o, C.uint64_t(s.offset), length); status != C.PGET_OK {
		return failure(Status(status), "the range is not usable", nil)
	}
	for _, step := range s.steps {
		if status := step.set(o); status != C.PGET_OK {
			return failure(Status(status), step.what, nil)
		}
	}
	return nil
}
