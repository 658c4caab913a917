package pget

// #include <pget.h>
import "C"

import (
	"io/fs"
	"strconv"
)

// Status is a kind of failure. It is an error itself, so that the values below are what errors.Is
// looks for. The numbers are those of the C library and never change; later versions may add some.
type Status int32

// The values that errors.Is finds in an [*Error].
const (
	// ErrInvalidArgument: an address, option or argument is not usable; also a reader that another
	// goroutine is using, or that is closed (then fs.ErrClosed is in the chain, too).
	ErrInvalidArgument Status = C.PGET_ERR_INVALID_ARGUMENT
	// ErrUnsupported: this source, system or build cannot do it.
	ErrUnsupported Status = C.PGET_ERR_UNSUPPORTED
	// ErrNotFound: there is no such object. Is fs.ErrNotExist, too.
	ErrNotFound Status = C.PGET_ERR_NOT_FOUND
	// ErrPermissionDenied: the server refuses the credentials, or their lack. Is fs.ErrPermission,
	// too.
	ErrPermissionDenied Status = C.PGET_ERR_PERMISSION_DENIED
	// ErrObjectChanged: the object was replaced, changed or deleted while it was being read.
	ErrObjectChanged Status = C.PGET_ERR_OBJECT_CHANGED
	// ErrRange: the wanted range starts beyond the object's end, or, of several ranges, one goes
	// beyond it.
	ErrRange Status = C.PGET_ERR_RANGE
	// ErrTimeout: no connection, no first byte or no progress within its time, after retries. Not
	// the context's deadline, which is ErrCancelled and context.DeadlineExceeded.
	ErrTimeout Status = C.PGET_ERR_TIMEOUT
	// ErrUnavailable: the server cannot be reached or refuses work, after retries; or the process that
	// fills shared memory died, or a ring has or had a reader.
	ErrUnavailable Status = C.PGET_ERR_UNAVAILABLE
	// ErrProtocol: the server's response is unusable or cut short, after retries.
	ErrProtocol Status = C.PGET_ERR_PROTOCOL
	// ErrChecksum: the bytes do not have the published checksum.
	ErrChecksum Status = C.PGET_ERR_CHECKSUM
	// ErrDestination: writing to the destination failed (a writer's own error is in the chain), a name
	// is taken, or a ring's reader has gone.
	ErrDestination Status = C.PGET_ERR_DESTINATION
	// ErrBufferTooSmall: the slice is too small for what is to be read; Error.Needed is the size.
	ErrBufferTooSmall Status = C.PGET_ERR_BUFFER_TOO_SMALL
	// ErrCancelled: the context was done (ctx.Err() is in the chain), or the reader was closed by
	// another goroutine (fs.ErrClosed is in the chain).
	ErrCancelled Status = C.PGET_ERR_CANCELLED
	// ErrForked: a handle from before fork was used in the child. Not met by Go programs, which
	// cannot go on after a fork without exec: start other processes by os/exec.
	ErrForked Status = C.PGET_ERR_FORKED
	// ErrUnverifiable: verification is required, and there is no published checksum that it could use.
	ErrUnverifiable Status = C.PGET_ERR_UNVERIFIABLE
	// ErrResources: the process can have no more threads or file descriptors.
	ErrResources Status = C.PGET_ERR_RESOURCES
	// ErrInternal: a defect in the library.
	ErrInternal Status = C.PGET_ERR_INTERNAL
)

// Error returns the kind in a few words.
func (s Status) Error() string {
	// The texts are static.
	name := C.GoString(C.pget_status_name(C.pget_status(s)))
	if name == "unknown status" {
		name += " " + strconv.Itoa(int(s))
	}
	return name
}

// Is lets errors.Is find the standard library's names for the same thing.
func (s Status) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return s == ErrNotFound
	case fs.ErrPermission:
		return s == ErrPermissionDenied
	}
	return false
}

// Error is why a call failed. It never changes, so any number of goroutines may read it.
type Error struct {
	// Status is the kind, for errors.Is and switches.
	Status Status
	// Needed is, with ErrBufferTooSmall, how many bytes the slice must have, if that is known; else 0.
	Needed int64

	message string
	cause   error
}

// Error says in one line what was being read, what failed, why, and how often it was tried. Never
// a credential.
func (e *Error) Error() string {
	return e.message
}

// Unwrap returns the kind and, if there is one, the cause: the context's error, fs.ErrClosed, or
// what the writer said.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Status}
	}
	return []error{e.Status, e.cause}
}

// failure makes an error of this package's own, in the form of the library's.
func failure(status Status, message string, cause error) *Error {
	message = status.Error() + ": " + message
	if cause != nil {
		message += ": " + cause.Error()
	}
	return &Error{Status: status, message: message, cause: cause}
}

// taken makes an error of the library's, which it frees; e may be nil.
func taken(status C.pget_status, e *C.pget_error) *Error {
	if e == nil {
		return &Error{Status: Status(status), message: Status(status).Error()}
	}
	defer C.pget_error_free(e)
	return &Error{
		Status:  Status(status),
		Needed:  int64(C.pget_error_needed(e)),
		message: C.GoString(C.pget_error_message(e)),
	}
}
