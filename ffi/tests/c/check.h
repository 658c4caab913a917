/* Support for the test programs: checks, the content of test objects, and reads as a user makes
 * them. */
#ifndef CHECK_H
#define CHECK_H

#include <pget.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prints the failed check, and ends the program. */
#define CHECK(what)                                                          \
  do {                                                                       \
    if (!(what)) {                                                           \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);     \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

/* Checks the status of a call and of its error object, and frees the object. */
#define EXPECT(status_wanted, call)                                          \
  do {                                                                       \
    pget_error *error = (pget_error *)&base;                                 \
    pget_status status_got = (call);                                         \
    if (status_got != (status_wanted)) {                                     \
      fprintf(stderr, "%s:%d: %s is %d (%s), not %d\n", __FILE__, __LINE__, #call, status_got, \
              pget_error_message(error), (int)(status_wanted));              \
      exit(1);                                                               \
    }                                                                        \
    if (status_got >= 0) {                                                   \
      CHECK(error == NULL);                                                  \
    } else {                                                                 \
      CHECK(error != NULL);                                                  \
      CHECK(pget_error_status(error) == status_got);                         \
      CHECK(strlen(pget_error_message(error)) > 10);                         \
      pget_error_free(error);                                                \
    }                                                                        \
  } while (0)

/* The address of the objects. ffi/tests/c_programs.rs describes each path. */
static const char *base;

static inline const char *at(const char *path) {
  static _Thread_local char url[8][256];
  static _Thread_local unsigned next;
  char *place = url[next++ % 8];
  snprintf(place, sizeof url[0], "%s%s", base, path);
  return place;
}

#define SEED 7u
#define GOOD_SIZE ((size_t)5 * 1024 * 1024 + 123)
#define SMALL_SIZE ((size_t)1000)

/* Returns the byte at an offset of a test object, as pget-testkit computes it. */
static inline uint8_t byte_at(uint64_t offset) {
  uint64_t z = (uint64_t)(SEED + 1) * 0xd6e8feb86659fd93u + offset / 8 * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 32)) * 0xbf58476d1ce4e5b9u;
  z ^= z >> 29;
  return (uint8_t)(z >> (offset % 8 * 8));
}

static inline int is_right(const uint8_t *data, size_t length, uint64_t offset) {
  size_t i;
  for (i = 0; i < length; i++)
    if (data[i] != byte_at(offset + i)) return 0;
  return 1;
}

/* Returns options with small ranges, so that small objects are read in parallel too. */
static inline pget_options *small_ranges(void) {
  pget_options *options = pget_options_new();
  CHECK(options != NULL);
  CHECK(pget_options_set_chunk_size(options, 256 * 1024) == PGET_OK);
  CHECK(pget_options_set_concurrency(options, 4) == PGET_OK);
  return options;
}

/* Checks the bytes that it receives. Its context is the offset of the next byte. */
static inline int check_write(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  uint64_t *next = context;
  CHECK(length > 0);
  CHECK(offset == *next);
  CHECK(is_right(data, length, offset));
  *next += length;
  return 0;
}

/* Fetches a whole object into shared memory. After an error there is no handle. */
static inline pget_status whole_shared(const char *url, const pget_options *options, const char *name, pget_shared *reuse, pget_shared **shared, pget_error **error) {
  pget_status status = pget_shared_begin(url, options, name, reuse, shared, error);
  if (status != PGET_OK) return status;
  status = pget_shared_wait(*shared, UINT64_MAX, UINT64_MAX, NULL, NULL, error);
  if (status != PGET_OK) {
    pget_shared_close(*shared);
    *shared = NULL;
  }
  return status;
}

#endif
