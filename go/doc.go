// Package pget reads one big object out of object storage, fast: as parallel byte ranges over
// several connections, delivered in order to a reader or writer through a bounded window, or
// straight into memory or a file. The bytes are exactly one revision of the object, complete, or
// the call fails.
//
//	n, err := pget.Get(ctx, "ais://bucket/object", w, pget.WithConcurrency(16))
//
// An address is a text as in "ais://bucket/object", "s3://bucket/key", "gs://bucket/key",
// "az://container/key", "https://host/path", "file:///path" or a path. Settings come from the
// environment under each ecosystem's own names (AIS_ENDPOINT, AWS_REGION, ...), from
// [WithProperty], and from the other options, in rising precedence.
//
// # Which call
//
// [Open] returns a [Reader], an [io.Reader] and [io.WriterTo] that is read at the caller's pace.
// [Get] writes all of it to an [io.Writer], in order. [GetInto] receives each range at its place in
// a slice, [GetRanges] many ranges in their slices, [GetFile] in a file, [GetShared] in shared
// memory that other processes read ([OpenShared]), without a copy; [BeginShared] returns while it
// arrives. [Ring.Put] puts one object after another through a ring of fixed size to another process
// ([OpenRing]).
// [Stat] returns size and revision.
//
// # Contexts
//
// A call returns promptly when its context is done, with an error that has ctx.Err() in its chain.
// The context of [Open] governs the whole life of the reader, as that of an HTTP request governs
// its body. When a call has returned, nothing reads or writes the memory that it was given. Code
// of the caller (a writer, a progress function) is waited for.
//
// # Errors
//
// Every error is an [*Error]; [errors.Is] matches its kind: [ErrNotFound], [ErrObjectChanged] and
// the others. What was written before an error is the right beginning of the object.
//
// # Threads
//
// Everything may be called from any goroutine; one [Reader] by one goroutine at a time (a second
// one gets [ErrInvalidArgument]), but [Reader.Close] from any. The library has one runtime of a
// few threads (PGET_THREADS, or [WithThreads]), and does all socket I/O there. A goroutine that
// waits for bytes waits in C and so holds a thread of its own: N downloads that wait at the same
// time are N threads, and many thousands of them need a limit of the caller's.
//
// # Linking
//
// The package is cgo over libpget, which pkg-config finds as "pget" (make install). The build tag
// pget_static links libpget.a (pkg-config's "pget-static"), so that the program needs no
// libpget.so. The tag pget_workspace takes library and header from this repository as make lib
// leaves them.
package pget
