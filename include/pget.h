/*
 * pget: reads one large object from object storage over several connections at once, in order or
 * straight into its destination.
 *
 * Made from the crate pget-ffi by scripts/header.sh: do not edit.
 *
 * Ownership. The result of a function with "new" or "open" in its name, and what is put to a
 * pget_error **, belongs to the caller, who returns it to the function that the text names. Texts
 * and buffers that go in are lent for the call, no longer: also after an error, a cancel or a
 * defect, nothing touches them once the function has returned.
 *
 * Handles are opaque and must not be followed. A handle that is null, was freed or closed before,
 * or is of another kind is PGET_ERR_INVALID_ARGUMENT; functions without a status ignore it.
 *
 * Errors. Functions that may fail return a pget_status and take a pget_error **, which may be null.
 * Nothing is kept for a thread, so a program whose tasks move between threads may use it. A defect
 * in the library is caught, and is PGET_ERR_INTERNAL.
 *
 * Threads. Every function may be called from any thread; one reader by one thread at a time.
 * Callbacks run on the thread that called the library. The library has one runtime of a few
 * threads, started when something is first read, that ends with the process; dlclose leaves the
 * library in place. It installs no signal handler, and all sockets are its own threads', which
 * block SIGPIPE.
 *
 * Fork. A child made by fork may use the library, whatever its parent did with it: its first call
 * makes threads, connections and a memory budget of its own. Handles from before the fork are the
 * parent's. In the child they are PGET_ERR_FORKED, also options and cancel handles; functions
 * without a status do nothing with them, and freeing them is harmless. Bytes that a view, a reader
 * or shared memory had shown stay readable where they are (those that a ring lent do not). The
 * parent continues as if there had been no fork. A progress function and the function of
 * parallel_get_ranges must not fork.
 */


#ifndef PGET_H
#define PGET_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of the ABI that this header describes; it changes when something is added.
 */
#define PGET_ABI_VERSION 1

/**
 * First number of the version that this header came with.
 */
#define PGET_VERSION_MAJOR 0

/**
 * Second number of the version that this header came with.
 */
#define PGET_VERSION_MINOR 1

/**
 * Third number of the version that this header came with.
 */
#define PGET_VERSION_PATCH 0

/**
 * Bytes of pget_info's revision, its ending zero included.
 */
#define PGET_REVISION_SIZE 256

/**
 * Bytes of pget_stats's checksum, its ending zero included.
 */
#define PGET_ALGORITHM_SIZE 16

/**
 * The values of pget_status. Numbers never change their meaning; later versions may add some, so
 * treat an unknown negative one as a failure.
 */
typedef enum {
  /**
   * Done.
   */
  PGET_OK = 0,
  /**
   * No bytes are left: all of them have been given; or no more objects come (rings).
   */
  PGET_END = 1,
  /**
   * An address, option or argument is not usable: null, a handle that is stale or of another
   * kind, or a reader that another thread is using.
   */
  PGET_ERR_INVALID_ARGUMENT = -1,
  /**
   * This source, system or build cannot do it.
   */
  PGET_ERR_UNSUPPORTED = -2,
  /**
   * There is no such object.
   */
  PGET_ERR_NOT_FOUND = -3,
  /**
   * The server refuses the credentials, or their lack.
   */
  PGET_ERR_PERMISSION_DENIED = -4,
  /**
   * The object was replaced, changed or deleted while it was being read.
   */
  PGET_ERR_OBJECT_CHANGED = -5,
  /**
   * The wanted range starts beyond the object's end, or, of several ranges, one goes beyond it.
   */
  PGET_ERR_RANGE = -6,
  /**
   * No connection, no first byte or no progress within its time, after retries; or the time of a
   * wait is over.
   */
  PGET_ERR_TIMEOUT = -7,
  /**
   * The server cannot be reached or refuses work, after retries; or the process that fills
   * shared memory died, or a ring has or had a reader.
   */
  PGET_ERR_UNAVAILABLE = -8,
  /**
   * The server's response is unusable or cut short, after retries.
   */
  PGET_ERR_PROTOCOL = -9,
  /**
   * The bytes do not have the published checksum.
   */
  PGET_ERR_CHECKSUM = -10,
  /**
   * Writing to the destination failed, the write callback returned something other than 0, a
   * name is taken, or a ring's reader has gone.
   */
  PGET_ERR_DESTINATION = -11,
  /**
   * The caller's buffer is too small for what is to be read.
   */
  PGET_ERR_BUFFER_TOO_SMALL = -12,
  /**
   * A cancel handle was triggered, or the reader was cancelled or closed.
   */
  PGET_ERR_CANCELLED = -13,
  /**
   * A handle from before fork was used in the child. New handles work there.
   */
  PGET_ERR_FORKED = -14,
  /**
   * Verification is required, and there is no published checksum that it could use.
   */
  PGET_ERR_UNVERIFIABLE = -15,
  /**
   * The process can have no more threads or file descriptors.
   */
  PGET_ERR_RESOURCES = -16,
  /**
   * A defect in the library. The handle that was used is unusable from here on; it can only be
   * closed.
   */
  PGET_ERR_INTERNAL = -99,
} pget_status_code;

/**
 * How shared memory stands: what pget_shared_state returns.
 */
typedef enum {
  /**
   * No handle, or one that was closed.
   */
  PGET_SHARED_NONE = 0,
  /**
   * Bytes are arriving.
   */
  PGET_SHARED_FILLING = 1,
  /**
   * All of the object is there.
   */
  PGET_SHARED_COMPLETE = 2,
  /**
   * The rest will not come: the download failed, or the process that filled it died or closed
   * it.
   */
  PGET_SHARED_FAILED = 3,
} pget_shared_state_code;

/**
 * The result of a download's verification. Later versions may add values.
 */
typedef enum {
  /**
   * No answer has arrived yet.
   */
  PGET_VERIFICATION_UNKNOWN = 0,
  /**
   * Under way.
   */
  PGET_VERIFICATION_PENDING = 1,
  /**
   * All bytes came and have the published checksum.
   */
  PGET_VERIFICATION_VERIFIED = 2,
  /**
   * All bytes came and do not have it.
   */
  PGET_VERIFICATION_MISMATCH = 3,
  /**
   * Not wanted.
   */
  PGET_VERIFICATION_OFF = 4,
  /**
   * A part of the object was asked for, and checksums are of the whole.
   */
  PGET_VERIFICATION_PART = 5,
  /**
   * The server publishes none that is known here.
   */
  PGET_VERIFICATION_UNPUBLISHED = 6,
  /**
   * The published one is composite: of the checksums of the parts that the object was put in.
   */
  PGET_VERIFICATION_COMPOSITE = 7,
  /**
   * The bytes came in another order, and could not be read back.
   */
  PGET_VERIFICATION_UNREADABLE = 8,
} pget_verification_code;

/**
 * Stops the calls, readers and background downloads (pget_shared_begin) whose options name it. One
 * handle may stop many; once triggered it stays so, and stops those that begin later too.
 */
typedef struct pget_cancel pget_cancel;

/**
 * Why a call failed. Made by the functions that take a pget_error **, owned by the caller, freed
 * by pget_error_free.
 *
 * It never changes, so any number of threads may read one at the same time.
 */
typedef struct pget_error pget_error;

/**
 * How to read. Where a function takes options, null means the defaults; what it was given is read
 * when it begins, so later changes concern later calls.
 */
typedef struct pget_options pget_options;

/**
 * Reads one object in order, as far as the caller asks. Used by one thread at a time: a second one
 * gets PGET_ERR_INVALID_ARGUMENT. Only pget_reader_cancel, pget_reader_close, pget_reader_info and
 * pget_reader_stats may be called during that call.
 */
typedef struct pget_reader pget_reader;

/**
 * The end of a ring in shared memory that puts objects into it. Used by one thread at a time: a
 * second one gets PGET_ERR_INVALID_ARGUMENT. Only pget_ring_name and pget_ring_close may be called
 * during a call.
 */
typedef struct pget_ring pget_ring;

/**
 * The end of a ring in shared memory that reads. Used by one thread at a time: a second one gets
 * PGET_ERR_INVALID_ARGUMENT. Only pget_ring_reader_close may be called during a call.
 */
typedef struct pget_ring_reader pget_ring_reader;

/**
 * An object in shared memory, whole or arriving, in the process that fetches it or in one that has
 * attached. Several threads may use it at once.
 */
typedef struct pget_shared pget_shared;

/**
 * The result of a function: one of the values of pget_status_code. Errors are negative.
 */
typedef int32_t pget_status;

/**
 * Takes bytes of the object: length of them (at least 1), from offset in the object on. Calls come
 * in order and without a gap. Returns 0 to go on; anything else stops the download.
 *
 * It runs on the thread that called parallel_get, one at a time. The data is valid until it
 * returns. It must return (no longjmp, no exception). It may call anything of this library, and
 * may fork: if it returns in the child, the call fails there with PGET_ERR_FORKED.
 */
typedef int (*pget_write_fn)(void *context, const uint8_t *data, size_t length, uint64_t offset);

/**
 * A range of an object, and where its bytes go.
 */
typedef struct {
  /**
   * Offset in the object of the first byte.
   */
  uint64_t offset;
  /**
   * Bytes in the range, and in the buffer.
   */
  uint64_t length;
  /**
   * Where they go; lent for the call. May be null if length is 0.
   */
  void *buffer;
} pget_range;

/**
 * Reports that all bytes of the range with this place in the list are in its buffer, which from
 * then on may be read and written.
 *
 * It runs on the thread that called parallel_get_ranges, one at a time, once for each range, in
 * the order in which they are complete. It must return (no longjmp, no exception) and must not
 * fork; to stop the call, trigger its cancel handle.
 */
typedef void (*pget_range_fn)(void *context, size_t index);

/**
 * Facts about an object. Before a call, set struct_size to sizeof(pget_info).
 *
 * The call fills no more than that, zeroes the fields that it does not know, and sets struct_size
 * to the size that it filled. A value above 65536 is taken for a size that was not set.
 */
typedef struct {
  /**
   * sizeof(pget_info).
   */
  size_t struct_size;
  /**
   * Size of the object in bytes; UINT64_MAX if the server does not say.
   */
  uint64_t size;
  /**
   * Offset in the object of the first byte that is read.
   */
  uint64_t offset;
  /**
   * Bytes to be read in all, from offset on; UINT64_MAX if that is not known.
   */
  uint64_t length;
  /**
   * Bytes in a range.
   */
  uint64_t chunk_size;
  /**
   * The identity of the object's content, for people: "etag ...", "version ...", or "unknown";
   * cut if it is longer. Ends with a zero.
   */
  char revision[PGET_REVISION_SIZE];
} pget_info;

/**
 * The counters of a download. Before a call, set struct_size to sizeof(pget_stats); the call fills
 * no more than that, zeroes what it does not know, and sets struct_size to what it filled.
 * More than 65536 is taken for a size that was not set.
 */
typedef struct {
  /**
   * sizeof(pget_stats).
   */
  size_t struct_size;
  /**
   * Bytes given to the caller.
   */
  uint64_t delivered;
  /**
   * Bytes received.
   */
  uint64_t received;
  /**
   * Requests begun.
   */
  uint64_t requests;
  /**
   * Requests among these for bytes that had been requested before.
   */
  uint64_t retries;
  /**
   * Bytes of memory that hold received data now.
   */
  uint64_t buffered;
  /**
   * The most of it at any time.
   */
  uint64_t peak_buffered;
  /**
   * 1 if the object is read as one plain stream, else 0.
   */
  uint32_t one_stream;
  /**
   * The result of the comparison of the bytes with the checksum of the whole object that the
   * server publishes: one of the values of pget_verification_code.
   */
  uint32_t verification;
  /**
   * Requests that were far slower than the others and gave way to one over a fresh connection.
   */
  uint64_t fences;
  /**
   * Requests that were given up because nothing came for as long as a deadline allows.
   */
  uint64_t stalls;
  /**
   * Nanoseconds in which more could have been asked for, but what the caller had not taken
   * filled the window.
   */
  uint64_t window_full;
  /**
   * Nanoseconds that the caller waited for bytes, in order.
   */
  uint64_t consumer_wait;
  /**
   * The checksum's algorithm, if verification is about one: "crc32c", "xxh64", ...; else empty.
   * Ends with a zero.
   */
  char checksum[PGET_ALGORITHM_SIZE];
  /**
   * Bytes per range now: as set, as the server asks, or as measuring found.
   */
  uint64_t chunk_size;
  /**
   * Requests that should be in flight now: as set, or as measuring found.
   */
  uint32_t concurrency;
  /**
   * Always 0.
   */
  uint32_t reserved;
} pget_stats;

/**
 * Reports how a call stands: bytes delivered so far, and bytes to be delivered in all (UINT64_MAX
 * while that is not known).
 *
 * It runs on the thread that called the library, one at a time for each call: as bytes are given
 * in pget_reader_next, pget_reader_read, parallel_get and parallel_get_ring, about ten times a
 * second in the other parallel_get functions and in pget_shared_wait; pget_shared_begin reports
 * nothing. It must return (no longjmp, no exception), must not fork, and may call nothing of this
 * library but pget_cancel_trigger and pget_reader_cancel.
 */
typedef void (*pget_progress_fn)(void *context, uint64_t delivered, uint64_t total);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the ABI that the loaded library has: at least PGET_ABI_VERSION of the header that
 * a program was compiled with, or the library is too old for it.
 *
 * Any thread, also after fork. Cannot fail. Since ABI 1.
 */
uint32_t pget_abi_version(void);

/**
 * The version of the loaded library, as in "0.1.0".
 *
 * The text is static: never freed, always valid. Any thread, also after fork. Cannot fail. Since
 * ABI 1.
 */
const char *pget_version(void);

/**
 * A few words for a status, as in "not found"; for any other number, "unknown status".
 *
 * The text is static: never freed, always valid. Any thread, also after fork. Cannot fail. Since
 * ABI 1.
 */
const char *pget_status_name(pget_status status);

/**
 * The status of an error: what the failed call returned. PGET_ERR_INVALID_ARGUMENT if error is
 * null or freed, PGET_ERR_FORKED if it is from before a fork.
 *
 * Any thread. Since ABI 1.
 */
pget_status pget_error_status(const pget_error *error);

/**
 * Returns the error's message, one line of UTF-8: the object that was read, the failure, its
 * cause, and the number of attempts. It never contains a credential.
 *
 * The text belongs to the error and is valid until that is freed; an empty text if error is null
 * or freed. Never null. Any thread. Since ABI 1.
 */
const char *pget_error_message(const pget_error *error);

/**
 * With PGET_ERR_BUFFER_TOO_SMALL, how many bytes the buffer must have; 0 if that is not known,
 * with any other error, or if error is null or freed.
 *
 * Any thread. Since ABI 1.
 */
uint64_t pget_error_needed(const pget_error *error);

/**
 * Frees an error and its message. Does nothing if error is null or was freed before.
 *
 * Any thread, while no other one reads the message. Since ABI 1.
 */
void pget_error_free(pget_error *error);

/**
 * Reads the object at url and passes it to write, in order. Several ranges are fetched at the same
 * time; what is held is bounded by the window.
 *
 * url is a text as in "ais://bucket/object", "s3://bucket/key", "gs://bucket/key",
 * "az://container/key", "https://host/path", "file:///path" or a path. options may be null.
 * context is handed to write as it is. error may be null, else it is set to null or to an error
 * that the caller frees.
 *
 * Waits until all is written or it fails; any thread. If write returned something other than 0,
 * that is PGET_ERR_DESTINATION. What write got before an error is the right beginning of the
 * object.
 *
 * Errors: PGET_ERR_INVALID_ARGUMENT (null url or write, unusable url, option, property or handle),
 * _UNSUPPORTED, _NOT_FOUND, _PERMISSION_DENIED, _OBJECT_CHANGED, _RANGE, _TIMEOUT, _UNAVAILABLE,
 * _PROTOCOL, _CHECKSUM, _DESTINATION, _CANCELLED, _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status parallel_get(const char *url,
                         const pget_options *options,
                         pget_write_fn write,
                         void *context,
                         pget_error **error);

/**
 * Reads the object at url straight into buffer: each range is received where it belongs, without a
 * copy.
 *
 * buffer has capacity bytes and is lent for the call: when the function returns, however it went,
 * nothing writes to it any more. It need not be initialised; it may be null if capacity is 0.
 * length is set to the bytes read; with PGET_ERR_BUFFER_TOO_SMALL, to the bytes that are needed if
 * that is known (pget_error_needed returns it), and nothing has been written then; if it is not,
 * and with any other error, to 0, and the buffer's content is unspecified. url, options and error
 * are as for parallel_get.
 *
 * Waits; any thread. Errors: those of parallel_get but _DESTINATION, _INVALID_ARGUMENT also for a
 * null length, and PGET_ERR_BUFFER_TOO_SMALL. Since ABI 1.
 */
pget_status parallel_get_into(const char *url,
                              const pget_options *options,
                              void *buffer,
                              size_t capacity,
                              size_t *length,
                              pget_error **error);

/**
 * Reads the object at url into the file path, which appears under that name only when it is
 * complete (until then it is path.pget-part). What was there before is replaced.
 *
 * length is set to the bytes that this call read (less than the file has, if it went on with an
 * earlier one: pget_options_set_resume), or to 0 if it fails; then what was there before stays. A
 * part is beside it only if it is complete, or with path.pget-journal, to go on from; the error's
 * message says so. (With pget_options_set_sync, a folder or file that cannot be synced is an error
 * after the file is there, complete.) A file that is replaced passes on its mode, owner, group and
 * access list to the new one where allowed. A file that cannot be replaced (a mount point, a
 * sticky folder) is overwritten when the part is complete. A path that is a device or a pipe is
 * written to in order, and so is what is open already (/dev/stdout, /dev/fd/N and their like),
 * from where it stands; nothing of it is cut. A pipe or socket whose reader goes away raises
 * SIGPIPE as any write to it does, and a pipe whose reader opens it with O_NONBLOCK may be found
 * without a writer until the first bytes. A relative path is taken from the folder that the
 * process is in at the call. url, options and error are as for parallel_get; path is UTF-8.
 *
 * Waits; any thread. Errors: those of parallel_get, PGET_ERR_DESTINATION when the file cannot be
 * written, its path ends as a part's or a journal's does (.pget-part, .pget-journal), its part is
 * being written by another process (where a file system has no locks: is there), or was removed or
 * replaced during the read, _INVALID_ARGUMENT also for a null path or length. Since ABI 1.
 */
pget_status parallel_get_file(const char *url,
                              const pget_options *options,
                              const char *path,
                              uint64_t *length,
                              pget_error **error);

/**
 * Reads count ranges of one revision of the object at url, each straight into its own buffer. Near
 * ranges are fetched together (pget_options_set_gap). Ranges may touch, overlap and be the same,
 * in any order; their buffers must not overlap.
 *
 * each may be null; else it is called for every range that is complete, with context as it is. The
 * buffers are lent for the call: when it returns, however it went, nothing writes to them any
 * more. After an error, the buffers of ranges that each was called for are right, the others'
 * content is unspecified. url, options and error are as for parallel_get, but that options must
 * not have a range of their own.
 *
 * Waits; any thread. Errors: those of parallel_get, PGET_ERR_RANGE if a range goes beyond the
 * object, _INVALID_ARGUMENT also for null ranges (unless count is 0), a null buffer, and buffers
 * that overlap. Since ABI 1.
 */
pget_status parallel_get_ranges(const char *url,
                                const pget_options *options,
                                const pget_range *ranges,
                                size_t count,
                                pget_range_fn each,
                                void *context,
                                pget_error **error);

/**
 * Opens the object at url for reading, and waits for the first reply, so that a wrong address,
 * missing credentials or a missing object are found here.
 *
 * reader is set to a reader that the caller closes with pget_reader_close, or to null if it fails.
 * url, options and error are as for parallel_get; options may be freed at once.
 *
 * Any thread. Errors: those of parallel_get but _DESTINATION, _INVALID_ARGUMENT also for a null
 * reader. Since ABI 1.
 */
pget_status pget_open(const char *url,
                      const pget_options *options,
                      pget_reader **reader,
                      pget_error **error);

/**
 * Stores what the first reply said of the object. Does not wait.
 *
 * info is the caller's. error may be null, else it is set to null or to an error that the caller
 * frees. Any thread, also while another one uses the reader. Errors: PGET_ERR_INVALID_ARGUMENT (no
 * reader, null info, its struct_size too small or large), _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status pget_reader_info(pget_reader *reader, pget_info *info, pget_error **error);

/**
 * Stores the counters of the download. Does not wait.
 *
 * stats is the caller's. error may be null, else it is set to null or to an error that the caller
 * frees. Any thread, also while another one uses the reader. Errors: PGET_ERR_INVALID_ARGUMENT (no
 * reader, null stats, its struct_size too small or large), _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status pget_reader_stats(pget_reader *reader, pget_stats *stats, pget_error **error);

/**
 * Waits for the next bytes of the object and shows them where they were received, without a copy.
 *
 * PGET_OK: data and length (at least 1) describe a view that belongs to the reader and is valid
 * until the next pget_reader_next, pget_reader_read or pget_reader_close on it; it is not to be
 * written to. PGET_END: all has been given, data is null and length 0. Else an error, which every
 * later call returns again; data is null and length 0. error may be null, else it is set to null
 * or to an error that the caller frees.
 *
 * Any thread, one at a time. Errors: those of parallel_get but _DESTINATION;
 * PGET_ERR_INVALID_ARGUMENT for no reader, one that another call uses, or a null data or length;
 * PGET_ERR_CANCELLED after pget_reader_cancel, or if another thread closes the reader during the
 * call. Since ABI 1.
 */
pget_status pget_reader_next(pget_reader *reader,
                             const uint8_t **data,
                             size_t *length,
                             pget_error **error);

/**
 * Waits for bytes of the object and copies up to capacity of them to buffer: as many as there are,
 * like read(2).
 *
 * buffer is lent for the call; it may be null if capacity is 0. PGET_OK: length (at least 1,
 * unless capacity is 0) bytes were copied. PGET_END: all has been given, length is 0. Else an
 * error, as with pget_reader_next; length is 0. May be mixed with pget_reader_next. error may be
 * null, else it is set to null or to an error that the caller frees.
 *
 * Any thread, one at a time. Errors: those of pget_reader_next. Since ABI 1.
 */
pget_status pget_reader_read(pget_reader *reader,
                             void *buffer,
                             size_t capacity,
                             size_t *length,
                             pget_error **error);

/**
 * Stops the download of a reader, which still is to be closed: a call that waits, and every later
 * one, gets PGET_ERR_CANCELLED. It does not wait for that. Does nothing the second time, at the
 * end, or if reader is null or closed.
 *
 * Any thread, also from within callbacks; not from a signal handler. Since ABI 1.
 */
void pget_reader_cancel(pget_reader *reader);

/**
 * Closes a reader: stops its download if it runs, and frees all it has; the last view is gone. A
 * call of another thread that waits on the reader gets PGET_ERR_CANCELLED; close does not wait for
 * it. Does nothing if reader is null or was closed before, and in a child that
 * was forked since it was opened.
 *
 * Any thread. Since ABI 1.
 */
void pget_reader_close(pget_reader *reader);

/**
 * Stores size and revision of an object in info, without reading it. info->length is what a read
 * with these options would give.
 *
 * info is the caller's and filled only if the call succeeds; error may be null, else it is set to
 * null or to an error that the caller frees. Waits; any thread. Errors: those of pget_open. Since
 * ABI 1.
 */
pget_status pget_stat(const char *url,
                      const pget_options *options,
                      pget_info *info,
                      pget_error **error);

/**
 * New options with the defaults, owned by the caller; freed by pget_options_free.
 *
 * Any thread. Since ABI 1.
 */
pget_options *pget_options_new(void);

/**
 * Frees options. Calls and readers that were given them go on. Does nothing if options is null or
 * was freed before.
 *
 * Any thread. Since ABI 1.
 */
void pget_options_free(pget_options *options);

/**
 * Sets the bytes per range, 1 to 1 GiB. The default, 0, is what the source asks for, else what
 * measuring finds.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or bytes is out of range. Any
 * thread. Since ABI 1.
 */
pget_status pget_options_set_chunk_size(pget_options *options, uint64_t bytes);

/**
 * Sets the most requests in flight, 1 to 1024. The default, 0, is what measuring finds. With 1,
 * the object is read as one stream.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or requests is out of range.
 * Any thread. Since ABI 1.
 */
pget_status pget_options_set_concurrency(pget_options *options, uint32_t requests);

/**
 * Sets how many ranges may be fetched or being fetched and not yet consumed, 1 to 65536. The
 * default, 0, is half as many again as requests in flight, within the memory limit.
 * parallel_get_into has no window.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or chunks is out of range. Any
 * thread. Since ABI 1.
 */
pget_status pget_options_set_window(pget_options *options, uint32_t chunks);

/**
 * Sets how many bytes may lie between two ranges of parallel_get_ranges that are fetched by one
 * request. The default is 1 MiB.
 *
 * The bytes between them are discarded. With 0, only adjacent ranges are fetched together.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_gap(pget_options *options, uint64_t bytes);

/**
 * Which part of the object to read: length bytes from offset on, cut at the object's end; a length
 * of UINT64_MAX means to the end. Default: all of it. An offset at the object's end reads nothing,
 * one beyond it is PGET_ERR_RANGE when reading begins.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle, offset is UINT64_MAX, or
 * offset and length together pass it. Any thread. Since ABI 1.
 */
pget_status pget_options_set_range(pget_options *options, uint64_t offset, uint64_t length);

/**
 * Sets how many failed attempts without progress, in a row, a range may have before the call
 * fails, 0 to 1000. With 0, the first failure ends the call. By default, only the retry timeout
 * limits them.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or retries is out of range.
 * Any thread. Since ABI 1.
 */
pget_status pget_options_set_retries(pget_options *options, uint32_t retries);

/**
 * Sets how long the call goes on trying without receiving a byte, since its first failure in a
 * row, 1 ms to a day. The default is 120 s.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
 * range. Any thread. Since ABI 1.
 */
pget_status pget_options_set_retry_timeout(pget_options *options, uint64_t milliseconds);

/**
 * Sets whether parallel_get_file resumes an earlier call with the same url, path and range.
 *
 * If resume is not 0, the call continues with path.pget-part and path.pget-journal, and fetches
 * only the missing bytes. If an earlier call left nothing, it starts from nothing. The default is
 * 0: the call starts over.
 *
 * A call that resumes fails with PGET_ERR_OBJECT_CHANGED if the object has another revision now.
 * It fails with PGET_ERR_DESTINATION if the part is of another url or range. In both cases the
 * part stays. A url with a new signature is the same url.
 *
 * After a failure, all landed bytes are kept for another call. After a cancel, the bytes in the
 * last entry of the journal are kept. After a wrong checksum, nothing is kept.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_resume(pget_options *options, int32_t resume);

/**
 * Sets whether parallel_get_file waits until the file's bytes and its name are on the disk.
 *
 * If sync is not 0, the file is synced (fsync) before it gets its name, and its folder after that.
 * The default is 0: a crash of the machine soon after the call may leave no file, or one with
 * zeros in place of bytes.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_sync(pget_options *options, int32_t sync);

/**
 * Sets whether the bytes are compared with the checksum of the whole object that the server
 * publishes:
 * "auto" (the default: if all of the object is read and there is one), "require" (or the call
 * fails with PGET_ERR_UNVERIFIABLE before the first byte; a range is PGET_ERR_INVALID_ARGUMENT) or
 * "off". Bytes that do not fit are PGET_ERR_CHECKSUM: in order before the last of them is given,
 * else at the end. pget_reader_stats reports the outcome.
 *
 * verify is copied. Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or verify is
 * null or none of these words. Any thread. Since ABI 1.
 */
pget_status pget_options_set_verify(pget_options *options, const char *verify);

/**
 * Sets the time to a connection, name look-up and TLS included, 1 ms to a day. The default is 5 s.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
 * range. Any thread. Since ABI 1.
 */
pget_status pget_options_set_connect_timeout(pget_options *options, uint64_t milliseconds);

/**
 * Sets the time from the start of a request to its reply's header, 1 ms to a day. The default is
 * 30 s.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
 * range. Any thread. Since ABI 1.
 */
pget_status pget_options_set_first_byte_timeout(pget_options *options, uint64_t milliseconds);

/**
 * Sets the time without progress in a body, 1 ms to a day. The default is 20 s. It does not run
 * while the caller is the bottleneck.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or milliseconds is out of
 * range. Any thread. Since ABI 1.
 */
pget_status pget_options_set_stall_timeout(pget_options *options, uint64_t milliseconds);

/**
 * Sets how many bytes all calls with these options may hold together, at least 1 MiB. With the
 * default, 0, they share the process's budget, a quarter of its memory and at most 1 GiB. A range
 * larger than the limit is still read.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_memory_limit(pget_options *options, uint64_t bytes);

/**
 * Sets the threads of the library's one runtime, 1 to 1024. The default, 0, is the environment
 * variable PGET_THREADS, else as many as there are processors, at most 8. The first call of the
 * process that reads anything starts the runtime; from then on this has no effect.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or threads is out of range.
 * Any thread. Since ABI 1.
 */
pget_status pget_options_set_threads(pget_options *options, uint32_t threads);

/**
 * A setting of the transport by its name ("ais.endpoint", "aws.region", ...), in place of an
 * earlier one of that name; goes before the environment. Both texts are copied.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or a text is null or not
 * UTF-8. What the name or value means is checked when they are used. Any thread. Since ABI 1.
 */
pget_status pget_options_set_property(pget_options *options, const char *key, const char *value);

/**
 * A header for requests of http and https addresses, beside earlier ones; never sent to another
 * origin than the address's. Both texts are copied.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or a text is null or not
 * UTF-8. What HTTP does not allow, and what pget writes itself (Host, Range, ...), is refused when
 * it is used. Any thread. Since ABI 1.
 */
pget_status pget_options_set_header(pget_options *options, const char *name, const char *value);

/**
 * Sets the function that progress is reported to; null, the default, reports none. The context is
 * handed to it as it is, and must be valid until every call, every reader and every shared memory
 * (pget_shared_begin) with these options has ended.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_progress(pget_options *options,
                                      pget_progress_fn progress,
                                      void *context);

/**
 * Lets a cancel handle stop the calls, readers and background downloads (pget_shared_begin) with
 * these options; null takes it off. The handle stays the caller's and may be freed before the
 * options.
 *
 * Returns PGET_ERR_INVALID_ARGUMENT if options is no options handle or cancel neither null nor a
 * cancel handle. Any thread. Since ABI 1.
 */
pget_status pget_options_set_cancel(pget_options *options, const pget_cancel *cancel);

/**
 * A new cancel handle, owned by the caller; freed by pget_cancel_free.
 *
 * Any thread. Since ABI 1.
 */
pget_cancel *pget_cancel_new(void);

/**
 * Stops every call and every reader that was given the handle: they return PGET_ERR_CANCELLED,
 * also those that wait now, and those that begin later. A download that goes on in the background,
 * as its pget_shared_begin has returned, stops, too: who waits for its bytes gets
 * PGET_ERR_CANCELLED. It does not wait for them. Does nothing the second time, or if cancel is
 * null or freed.
 *
 * Any thread, also from within callbacks; not from a signal handler. Since ABI 1.
 */
void pget_cancel_trigger(const pget_cancel *cancel);

/**
 * Frees a cancel handle. Options that name it keep what they need, and stay as they are. Does
 * nothing if cancel is null or was freed before.
 *
 * Any thread, also while calls that were given it run. Since ABI 1.
 */
void pget_cancel_free(pget_cancel *cancel);

/**
 * Reads the object at url straight into new shared memory. Returns as soon as the first reply has
 * stated how long the object is; the download goes on, on the library's threads. pget_shared_wait
 * waits for its bytes, and with an offset of UINT64_MAX for all of them. Closing shared ends the
 * download.
 *
 * name is a POSIX name ("/dataset" or "dataset"), which must be free: while the download runs, and
 * as long as shared is open, other processes of this user attach to it by pget_shared_open, and
 * any program may map /dev/shm/dataset, which is as long as what is read. If name is null, the
 * memory has no such name: pget_shared_name returns what to attach by, and nothing is left of it
 * when the last process has detached, also after kill -9. What a killed process has left under a
 * name goes with the next shared memory that gets a name, and by "pget shm clean".
 *
 * reuse may be null. Otherwise it is shared memory of this process whose object is complete, and
 * the next object is received into its pages: pages that were used before cost about a third of
 * new ones (the first time two thirds). name must be null then. reuse is closed by this call,
 * however that ends, and its bytes and texts are no longer valid. The next object gets its pages
 * and its name if no process is attached to it, if this process has not called fork since it was
 * made (a child may still read it; posix_spawn and vfork do not count) and, for memory without a
 * name, if the object is no longer than the first one. Otherwise new memory of the same kind is
 * made, and attached processes keep the old object. Programs that have mapped the memory by its
 * name without this library are not seen: reuse it when they are done.
 *
 * shared is set to a handle that the caller closes with pget_shared_close, or to null if it fails;
 * then nothing is left. url, options and error are as for parallel_get. Progress is reported by
 * pget_shared_wait.
 *
 * Any thread, while no other call uses reuse. Linux only. Errors: those of parallel_get,
 * _DESTINATION also if there is no room (not a signal) or the name is taken, _UNSUPPORTED also if
 * the server does not state the size, _INVALID_ARGUMENT also for a name that cannot be one, a null
 * shared, and a reuse that is in use, not complete, opened by pget_shared_open, or closed. Since
 * ABI 1.
 */
pget_status pget_shared_begin(const char *url,
                              const pget_options *options,
                              const char *name,
                              pget_shared *reuse,
                              pget_shared **shared,
                              pget_error **error);

/**
 * Attaches to shared memory that this or another process of the same user has made, also while it
 * is being filled; for reading only. name is what pget_shared_name returns there, or the POSIX
 * name that was given.
 *
 * shared is set to a handle that the caller closes with pget_shared_close, or to null if it fails.
 * error may be null, else it is set to null or to an error that the caller frees.
 *
 * Waits for at most five seconds, and only while its creator makes another object of it; any
 * thread. Linux only. Errors: PGET_ERR_NOT_FOUND (no such name, or not yet), _TIMEOUT (the creator
 * has it locked, and may be stopped), _PERMISSION_DENIED (another user's, open to others, or a
 * link), _UNAVAILABLE (who filled it died before it was complete), _INVALID_ARGUMENT (not made by
 * this library, null name or shared), _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status pget_shared_open(const char *name, pget_shared **shared, pget_error **error);

/**
 * Waits until the first offset bytes are there; for an offset of pget_shared_length or more, until
 * the whole object is known to be there.
 *
 * timeout is in milliseconds; 0 only looks, UINT64_MAX waits as long as it takes. cancel may be
 * null; else triggering it ends the wait, and nothing else. available may be null; else it is set
 * to the number of bytes that are there, from the first on, also if it fails. Bytes that are there
 * never change.
 *
 * The progress function of the download's options is called on this thread about ten times a
 * second, and once at the end.
 *
 * error may be null, else it is set to null or to an error that the caller frees. Any thread, also
 * several at once. Errors: what the download failed with, once it has (bytes that are there can
 * still be read); PGET_ERR_UNAVAILABLE if the process that filled it died (noticed within half a
 * second), _TIMEOUT, _CANCELLED (also if shared is closed during the call; at once where it was
 * made, within a quarter of a second where it was opened), _INVALID_ARGUMENT, _FORKED, _INTERNAL.
 * Since ABI 1.
 */
pget_status pget_shared_wait(const pget_shared *shared,
                             uint64_t offset,
                             uint64_t timeout,
                             const pget_cancel *cancel,
                             size_t *available,
                             pget_error **error);

/**
 * The object's bytes; null if shared is null or closed, but not if the object has none. Only those
 * may be read that are there, as pget_shared_wait and pget_shared_available report. They belong
 * to shared and are valid until it is closed; no code may write to them. Any thread. Since ABI 1.
 */
const uint8_t *pget_shared_data(const pget_shared *shared);

/**
 * The number of bytes that are read, there or not; 0 if shared is null or closed. Any thread.
 * Since ABI 1.
 */
size_t pget_shared_length(const pget_shared *shared);

/**
 * The number of bytes that are there, from the first on; 0 if shared is null or closed. Does not
 * wait; any thread. Since ABI 1.
 */
size_t pget_shared_available(const pget_shared *shared);

/**
 * How it stands: one of the values of pget_shared_state_code. Does not wait; any thread. Since ABI
 * 1.
 */
int32_t pget_shared_state(const pget_shared *shared);

/**
 * The name that other processes attach by: the POSIX name without a slash, or
 * "/proc/PID/fd/NUMBER"; null if shared is null or closed. The text belongs to shared and is valid
 * until it is closed. Any thread. Since ABI 1.
 */
const char *pget_shared_name(const pget_shared *shared);

/**
 * The identity of the object's content, for people, as in pget_info; null if shared is null or
 * closed. The text belongs to shared and is valid until it is closed. Any thread. Since ABI 1.
 */
const char *pget_shared_revision(const pget_shared *shared);

/**
 * Lets go of it. If this process made it, its name goes, and a download that still fills it ends:
 * who waits for its bytes gets PGET_ERR_CANCELLED. Processes that are attached keep what they
 * have. Does nothing if shared is null or closed.
 *
 * Any thread, also while others wait on it: their calls return PGET_ERR_CANCELLED, and none may
 * use its bytes any more. Since ABI 1.
 */
void pget_shared_close(pget_shared *shared);

/**
 * Makes a ring in shared memory, through which one other process reads objects as they arrive: of
 * at least capacity bytes, however long the objects are. The one that reads sets the pace.
 *
 * name is a POSIX name ("/feed" or "feed"), which must be free, or null: in either case,
 * pget_ring_name returns the name to attach by. ring is set to a handle that the caller closes
 * with pget_ring_close, or to null if it fails; then nothing is left. error may be null, else it
 * is set to null or to an error that the caller frees.
 *
 * Does not wait; any thread. Linux only. Errors: PGET_ERR_DESTINATION (no room, or the name is
 * taken), _INVALID_ARGUMENT (a name that cannot be one, null ring), _FORKED, _INTERNAL. Since ABI
 * 1.
 */
pget_status pget_ring_create(const char *name,
                             size_t capacity,
                             pget_ring **ring,
                             pget_error **error);

/**
 * Puts the object at url into the ring, as its next one, in order; returns when the process that
 * reads the ring has taken all of it.
 *
 * url, options and error are as for parallel_get; the cancel handle of options ends waits for the
 * reader, too. What fails before the ring has begun with the object (PGET_ERR_NOT_FOUND, say) is
 * no object of the ring, and the reader hears nothing of it; of later failures it hears. After
 * either, another object may be put.
 *
 * Waits, also for a reader to come; any thread. Errors: those of parallel_get, _DESTINATION also
 * if the reader has gone or died, _INVALID_ARGUMENT also if ring is null, closed or in use. Since
 * ABI 1.
 */
pget_status parallel_get_ring(const char *url,
                              const pget_options *options,
                              pget_ring *ring,
                              pget_error **error);

/**
 * The name that the reader attaches by: the POSIX name without a slash, or "/proc/PID/fd/NUMBER";
 * null if ring is null or closed. The text belongs to ring and is valid until it is closed. Any
 * thread. Since ABI 1.
 */
const char *pget_ring_name(const pget_ring *ring);

/**
 * Closes the ring: its reader hears that no more objects come. Does nothing if ring is null or
 * closed. Any thread; a parallel_get_ring that runs goes on, and the ring closes when it returns:
 * its cancel handle ends it. Since ABI 1.
 */
void pget_ring_close(pget_ring *ring);

/**
 * Attaches to the ring of that name, which this or another process of the same user has made, as
 * its one reader. name is what pget_ring_name returns there, or the POSIX name.
 *
 * reader is set to a handle that the caller closes with pget_ring_reader_close, or to null if it
 * fails. error may be null, else it is set to null or to an error that the caller frees.
 *
 * Does not wait; any thread. Linux only. Errors: PGET_ERR_NOT_FOUND (no such name, or not yet),
 * _PERMISSION_DENIED (another user's, open to others, or a link), _UNAVAILABLE (it has a reader,
 * or had one), _INVALID_ARGUMENT (no ring, null name or reader), _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status pget_ring_open(const char *name, pget_ring_reader **reader, pget_error **error);

/**
 * Waits for the next object, also for the first; PGET_END if no more come. What is left of the one
 * before is passed over as it comes: that begins with the call, however the call ends, and
 * pget_ring_next returns no more of that object.
 *
 * timeout is in milliseconds; 0 passes over what is there and does not wait, UINT64_MAX waits as
 * long as it takes. cancel may be null; else triggering it ends the wait, and nothing else. After
 * either, the call may be made again. size and revision may be null; else size is set to the
 * number of bytes that come, UINT64_MAX if that is not known, and revision to the identity of the
 * content, for people, valid until the next call of this function or the close; or to 0 and null.
 *
 * error may be null, else it is set to null or to an error that the caller frees. Any thread, one
 * at a time. Errors: PGET_ERR_UNAVAILABLE if the process that puts died (noticed within half a
 * second), _DESTINATION if the ring could not be made (while this attached), _TIMEOUT, _CANCELLED
 * (within a quarter of a second; also if reader is closed during the call), _INVALID_ARGUMENT,
 * _FORKED, _INTERNAL. Since ABI 1.
 */
pget_status pget_ring_next_object(pget_ring_reader *reader,
                                  uint64_t timeout,
                                  const pget_cancel *cancel,
                                  uint64_t *size,
                                  const char **revision,
                                  pget_error **error);

/**
 * Waits for the next bytes of the object, and lends them without a copy; PGET_END at its end,
 * which is only reported if the object is complete.
 *
 * data and length are set to the bytes (at least 1), or to null and 0. They are valid until the
 * next call on reader, which returns their room to the process that puts, or its close; no code
 * may write to them. timeout (0 only looks), cancel and error are as for pget_ring_next_object;
 * after PGET_ERR_TIMEOUT or _CANCELLED the call may be made again.
 *
 * Any thread, one at a time. Errors: what the download failed with, on every call until the next
 * object; those of pget_ring_next_object, _INVALID_ARGUMENT also for null data or length, before
 * the first object, or if the next object was asked for and has not come. Since ABI 1.
 */
pget_status pget_ring_next(pget_ring_reader *reader,
                           uint64_t timeout,
                           const pget_cancel *cancel,
                           const uint8_t **data,
                           size_t *length,
                           pget_error **error);

/**
 * Lets go of the ring, which ends it: the process that puts gets PGET_ERR_DESTINATION. Does
 * nothing if reader is null or closed. Any thread, also while another one waits on it: that call
 * returns PGET_ERR_CANCELLED, and its bytes may not be used any more. Since ABI 1.
 */
void pget_ring_reader_close(pget_ring_reader *reader);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PGET_H */
