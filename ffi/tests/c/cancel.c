/* Cancel and close: before, during and after a call, and from other threads.
 *
 * Many threads have readers of their own, and a reader is in use by another thread. */
#include "check.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A cancel must be prompt. The limit leaves room for a busy machine and for valgrind. */
static double patience = 2.0;

/* The action of the other thread when it is signalled. */
struct other {
  pthread_t thread;
  sem_t go;
  pget_cancel *cancel;
  pget_reader *reader;
  int close;
  atomic_int triggered;
  double when;
};

static void *act(void *context) {
  struct other *other = context;
  sem_wait(&other->go);
  /* Give the first thread time to wait. If it does not wait yet, the outcome is the same. */
  nanosleep(&(struct timespec){0, 50000000}, NULL);
  other->when = now();
  atomic_store(&other->triggered, 1);
  if (other->cancel) pget_cancel_trigger(other->cancel);
  if (other->reader && other->close) pget_reader_close(other->reader);
  if (other->reader && !other->close) pget_reader_cancel(other->reader);
  return NULL;
}

static void start(struct other *other) {
  memset(other, 0, sizeof *other);
  CHECK(sem_init(&other->go, 0, 0) == 0);
  CHECK(pthread_create(&other->thread, NULL, act, other) == 0);
}

static void finish(struct other *other) {
  double late;
  late = now() - other->when;
  CHECK(pthread_join(other->thread, NULL) == 0);
  CHECK(atomic_load(&other->triggered));
  CHECK(late < patience);
  sem_destroy(&other->go);
}

static void before_and_after(void) {
  pget_options *options = small_ranges();
  pget_cancel *cancel = pget_cancel_new();
  pget_reader *reader = NULL, *second = NULL;
  pget_info info;
  uint8_t buffer[SMALL_SIZE];
  const uint8_t *data;
  size_t length;
  uint64_t next = 0, count;
  info.struct_size = sizeof info;
  CHECK(pget_options_set_cancel(options, cancel) == PGET_OK);
  EXPECT(PGET_OK, pget_open(at("/good"), options, &reader, &error));
  EXPECT(PGET_OK, pget_open(at("/good"), options, &second, &error));
  EXPECT(PGET_OK, parallel_get(at("/small"), options, check_write, &next, &error));
  /* After a call there is nothing to stop. Both readers, and all later calls, are still
   * cancelled. */
  pget_cancel_trigger(cancel);
  pget_cancel_trigger(cancel);
  EXPECT(PGET_ERR_CANCELLED, pget_reader_next(reader, &data, &length, &error));
  EXPECT(PGET_ERR_CANCELLED, pget_reader_read(second, buffer, sizeof buffer, &length, &error));
  EXPECT(PGET_ERR_CANCELLED, parallel_get(at("/small"), options, check_write, &next, &error));
  EXPECT(PGET_ERR_CANCELLED, parallel_get_into(at("/small"), options, buffer, sizeof buffer, &length, &error));
  EXPECT(PGET_ERR_CANCELLED, parallel_get_file(at("/small"), options, "never", &count, &error));
  EXPECT(PGET_ERR_CANCELLED, pget_stat(at("/small"), options, &info, &error));
  pget_reader_close(reader);
  pget_reader_close(second);
  EXPECT(PGET_ERR_CANCELLED, pget_open(at("/small"), options, &reader, &error));
  CHECK(reader == NULL && pget_options_set_cancel(options, NULL) == PGET_OK);
  EXPECT(PGET_OK, pget_open(at("/small"), options, &reader, &error));
  pget_reader_cancel(reader);
  EXPECT(PGET_ERR_CANCELLED, pget_reader_next(reader, &data, &length, &error));
  EXPECT(PGET_ERR_CANCELLED, pget_reader_next(reader, &data, &length, &error));
  pget_reader_close(reader);
  pget_options_free(options);
  pget_cancel_free(cancel);
}

/* The server never answers. Every waiting call returns when it is cancelled. */
static void during_the_first_wait(void) {
  int which;
  for (which = 0; which < 4; which++) {
    struct other other;
    pget_options *options = small_ranges();
    pget_reader *reader = NULL;
    uint64_t next = 0;
    uint8_t buffer[100];
    size_t length = 1;
    pget_info info;
    info.struct_size = sizeof info;
    start(&other);
    other.cancel = pget_cancel_new();
    CHECK(pget_options_set_cancel(options, other.cancel) == PGET_OK);
    sem_post(&other.go);
    switch (which) {
      case 0: EXPECT(PGET_ERR_CANCELLED, pget_open(at("/silent"), options, &reader, &error)); break;
      case 1: EXPECT(PGET_ERR_CANCELLED, parallel_get(at("/silent"), options, check_write, &next, &error)); break;
      case 2:
        EXPECT(PGET_ERR_CANCELLED, parallel_get_into(at("/silent"), options, buffer, 100, &length, &error));
        CHECK(length == 0);
        break;
      default: EXPECT(PGET_ERR_CANCELLED, pget_stat(at("/silent"), options, &info, &error));
    }
    finish(&other);
    pget_cancel_free(other.cancel);
    pget_options_free(options);
  }
}

/* The body stalls in the middle. A call that waits in next or read returns when it is cancelled
 * or the reader is closed. */
static void during_next(void) {
  int how;
  for (how = 0; how < 6; how++) {
    struct other other;
    pget_options *options = small_ranges();
    pget_reader *reader = NULL;
    pget_status status;
    uint64_t position = 0;
    uint8_t piece[10000];
    start(&other);
    if (how % 3 == 0) {
      other.cancel = pget_cancel_new();
      CHECK(pget_options_set_cancel(options, other.cancel) == PGET_OK);
    }
    EXPECT(PGET_OK, pget_open(at("/stalls"), options, &reader, &error));
    if (how % 3 != 0) other.reader = reader;
    other.close = how % 3 == 2;
    sem_post(&other.go);
    do {
      const uint8_t *data = piece;
      size_t length;
      status = how < 3 ? pget_reader_next(reader, &data, &length, NULL)
                       : pget_reader_read(reader, piece, sizeof piece, &length, NULL);
      if (status == PGET_OK) {
        /* A view is invalid once another thread closes the reader, so that case checks only
         * copies. */
        if (!(how == 2)) CHECK(is_right(data, length, position));
        position += length;
      } else {
        CHECK(length == 0);
      }
    } while (status == PGET_OK);
    /* A close before the call has begun makes the handle stale. */
    CHECK(status == PGET_ERR_CANCELLED || (how % 3 == 2 && status == PGET_ERR_INVALID_ARGUMENT));
    finish(&other);
    pget_reader_close(reader);
    pget_cancel_free(other.cancel);
    pget_options_free(options);
  }
}

static int trigger_in_write(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  (void)data, (void)length, (void)offset;
  pget_cancel_trigger(context);
  return 0;
}

static void within_callbacks(void) {
  pget_options *options = small_ranges();
  pget_cancel *cancel = pget_cancel_new();
  CHECK(pget_options_set_cancel(options, cancel) == PGET_OK);
  EXPECT(PGET_ERR_CANCELLED, parallel_get(at("/good"), options, trigger_in_write, cancel, &error));
  pget_cancel_free(cancel);
  pget_options_free(options);
}

struct waiting {
  pget_reader *reader;
  sem_t begun;
};

static void *wait_in_next(void *context) {
  struct waiting *waiting = context;
  const uint8_t *data;
  size_t length;
  pget_status status;
  sem_post(&waiting->begun);
  do status = pget_reader_next(waiting->reader, &data, &length, NULL);
  while (status == PGET_OK);
  CHECK(status == PGET_ERR_CANCELLED);
  return NULL;
}

static void a_reader_in_use_is_busy(void) {
  struct waiting waiting;
  pthread_t thread;
  const uint8_t *data;
  size_t length;
  pget_info info;
  pget_stats stats;
  pget_status status;
  pget_options *options = small_ranges();
  EXPECT(PGET_OK, pget_open(at("/stalls"), options, &waiting.reader, &error));
  sem_init(&waiting.begun, 0, 0);
  CHECK(pthread_create(&thread, NULL, wait_in_next, &waiting) == 0);
  sem_wait(&waiting.begun);
  /* The other thread reaches the place where the body stalls, sooner or later. */
  do {
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    stats.struct_size = sizeof stats;
    EXPECT(PGET_OK, pget_reader_stats(waiting.reader, &stats, &error));
  } while (stats.delivered < 70000);
  nanosleep(&(struct timespec){0, 50000000}, NULL);
  status = pget_reader_next(waiting.reader, &data, &length, NULL);
  CHECK(status == PGET_ERR_INVALID_ARGUMENT);
  info.struct_size = sizeof info;
  EXPECT(PGET_OK, pget_reader_info(waiting.reader, &info, &error));
  pget_reader_cancel(waiting.reader);
  CHECK(pthread_join(thread, NULL) == 0);
  pget_reader_close(waiting.reader);
  pget_options_free(options);
  sem_destroy(&waiting.begun);
}

static void *read_all(void *context) {
  pget_options *options = context;
  pget_reader *reader = NULL;
  const uint8_t *data;
  size_t length;
  uint64_t position = 0;
  pget_status status;
  EXPECT(PGET_OK, pget_open(at("/shared"), options, &reader, &error));
  while ((status = pget_reader_next(reader, &data, &length, NULL)) == PGET_OK) {
    CHECK(is_right(data, length, position));
    position += length;
  }
  CHECK(status == PGET_END && position == 1 << 20);
  pget_reader_close(reader);
  return NULL;
}

static void many_threads(unsigned threads) {
  pthread_t ids[64];
  unsigned i;
  pget_options *options = small_ranges();
  for (i = 0; i < threads; i++) CHECK(pthread_create(&ids[i], NULL, read_all, options) == 0);
  for (i = 0; i < threads; i++) CHECK(pthread_join(ids[i], NULL) == 0);
  pget_options_free(options);
}

int main(int argc, char **argv) {
  int reduced = argc == 3 && strcmp(argv[2], "reduced") == 0;
  CHECK(argc == 2 || reduced);
  base = argv[1];
  if (reduced) patience = 20.0;
  before_and_after();
  during_the_first_wait();
  during_next();
  within_callbacks();
  a_reader_in_use_is_busy();
  many_threads(reduced ? 8 : 64);
  puts("ok");
  return 0;
}
