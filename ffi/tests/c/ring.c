/* Rings in shared memory: several objects for another process, failures, ends and waits.
 *
 * The program starts itself again as the other process. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG ((uint64_t)-1)
#define SHARED_SIZE ((size_t)1 << 20)

static const char *program;
static pget_status bad = PGET_ERR_INVALID_ARGUMENT;

static const char *fresh_name(void) {
  static char name[64];
  snprintf(name, sizeof name, "/pget-c-%d-ring", (int)getpid());
  return name;
}

static pid_t other(const char *job, const char *name) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl(program, program, base, job, name, (char *)NULL);
    _exit(127);
  }
  return child;
}

static void ends_well(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Reads the whole next object. */
static void read_object(pget_ring_reader *reader, uint64_t size_wanted) {
  const uint8_t *data;
  const char *revision;
  size_t length;
  uint64_t size, done = 0;
  EXPECT(PGET_OK, pget_ring_next_object(reader, LONG, NULL, &size, &revision, &error));
  CHECK(size == size_wanted && (size == 0 || strncmp(revision, "etag ", 5) == 0));
  while (done < size) {
    EXPECT(PGET_OK, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
    CHECK(length > 0 && is_right(data, length, done));
    done += length;
  }
  EXPECT(PGET_END, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
  EXPECT(PGET_END, pget_ring_next(reader, 0, NULL, &data, &length, &error));
  CHECK(done == size && data == NULL && length == 0);
}

/* The other process reads objects of SHARED_SIZE, 0 and SMALL_SIZE bytes, and then the end. */
static void reads(const char *name) {
  pget_ring_reader *reader, *second;
  const uint8_t *data;
  const char *revision = name;
  size_t length;
  uint64_t size = 7;
  EXPECT(PGET_OK, pget_ring_open(name, &reader, &error));
  EXPECT(PGET_ERR_UNAVAILABLE, pget_ring_open(name, &second, &error));
  CHECK(second == NULL);
  EXPECT(bad, pget_ring_next(reader, 0, NULL, &data, &length, &error));
  read_object(reader, SHARED_SIZE);
  read_object(reader, 0);
  read_object(reader, SMALL_SIZE);
  EXPECT(PGET_END, pget_ring_next_object(reader, LONG, NULL, &size, &revision, &error));
  CHECK(size == 0 && revision == NULL);
  pget_ring_reader_close(reader);
  EXPECT(bad, pget_ring_next_object(reader, 0, NULL, NULL, NULL, &error));
}

static void one_after_another(const char *name) {
  pget_options *options = small_ranges();
  pget_ring *ring;
  pid_t reader;
  char path[128];
  EXPECT(PGET_OK, pget_ring_create(name, 100000, &ring, &error));
  CHECK(name ? strcmp(pget_ring_name(ring), name + 1) == 0 : strncmp(pget_ring_name(ring), "/proc/", 6) == 0);
  reader = other("reads", pget_ring_name(ring));
  EXPECT(PGET_OK, parallel_get_ring(at("/shared"), options, ring, &error));
  EXPECT(PGET_ERR_NOT_FOUND, parallel_get_ring(at("/missing"), options, ring, &error));
  EXPECT(PGET_OK, parallel_get_ring(at("/empty"), options, ring, &error));
  EXPECT(PGET_OK, parallel_get_ring(at("/small"), options, ring, &error));
  pget_ring_close(ring);
  pget_ring_close(ring);
  CHECK(pget_ring_name(ring) == NULL);
  ends_well(reader);
  if (name) {
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    CHECK(access(path, F_OK) != 0);
  }
  pget_options_free(options);
}

struct job {
  pget_ring *ring;
  pget_ring_reader *reader;
  pget_cancel *cancel;
};

static void *put(void *context) {
  struct job *job = context;
  pget_options *options = small_ranges();
  CHECK(pget_options_set_cancel(options, job->cancel) == PGET_OK);
  EXPECT(PGET_ERR_CANCELLED, parallel_get_ring(at("/good"), options, job->ring, &error));
  pget_options_free(options);
  return NULL;
}

static void *put_small(void *context) {
  struct job *job = context;
  EXPECT(PGET_OK, parallel_get_ring(at("/small"), NULL, job->ring, &error));
  return NULL;
}

struct next {
  pthread_t before;
  struct job *job;
};

static void *put_small_behind(void *context) {
  struct next *next = context;
  CHECK(pthread_join(next->before, NULL) == 0);
  return put_small(next->job);
}

static void *trigger(void *context) {
  struct job *job = context;
  if (job->cancel) pget_cancel_trigger(job->cancel);
  else pget_ring_reader_close(job->reader);
  return NULL;
}

static void waits_end(void) {
  pthread_t thread, other_thread;
  struct job job = {NULL, NULL, pget_cancel_new()}, wait = {NULL, NULL, NULL};
  const uint8_t *data;
  size_t length;
  pget_status status;
  EXPECT(PGET_OK, pget_ring_create(NULL, 4096, &job.ring, &error));
  EXPECT(PGET_OK, pget_ring_open(pget_ring_name(job.ring), &wait.reader, &error));
  EXPECT(PGET_ERR_TIMEOUT, pget_ring_next_object(wait.reader, 0, NULL, NULL, NULL, &error));
  EXPECT(PGET_ERR_TIMEOUT, pget_ring_next_object(wait.reader, 10, NULL, NULL, NULL, &error));
  wait.cancel = pget_cancel_new();
  CHECK(pthread_create(&thread, NULL, trigger, &wait) == 0);
  EXPECT(PGET_ERR_CANCELLED, pget_ring_next_object(wait.reader, LONG, wait.cancel, NULL, NULL, &error));
  CHECK(pthread_join(thread, NULL) == 0);
  pget_cancel_free(wait.cancel);
  EXPECT(bad, pget_ring_next_object(wait.reader, LONG, wait.cancel, NULL, NULL, &error));
  /* The download waits for room and is cancelled. The reader gets the error. */
  CHECK(pthread_create(&thread, NULL, put, &job) == 0);
  EXPECT(PGET_OK, pget_ring_next_object(wait.reader, LONG, NULL, NULL, NULL, &error));
  EXPECT(PGET_OK, pget_ring_next(wait.reader, LONG, NULL, &data, &length, &error));
  CHECK(is_right(data, length, 0));
  pget_cancel_trigger(job.cancel);
  CHECK(pthread_join(thread, NULL) == 0);
  do {
    status = pget_ring_next(wait.reader, LONG, NULL, &data, &length, NULL);
  } while (status == PGET_OK);
  CHECK(status == PGET_ERR_CANCELLED && data == NULL && length == 0);
  EXPECT(PGET_ERR_CANCELLED, pget_ring_next(wait.reader, LONG, NULL, &data, &length, &error));
  /* The reader gets the next object too. */
  CHECK(pthread_create(&thread, NULL, put_small, &job) == 0);
  read_object(wait.reader, SMALL_SIZE);
  CHECK(pthread_join(thread, NULL) == 0);
  /* A close before or during a wait ends the wait and the ring. */
  wait.cancel = NULL;
  CHECK(pthread_create(&other_thread, NULL, trigger, &wait) == 0);
  status = pget_ring_next_object(wait.reader, LONG, NULL, NULL, NULL, NULL);
  CHECK(status == PGET_ERR_CANCELLED || status == bad);
  CHECK(pthread_join(other_thread, NULL) == 0);
  EXPECT(PGET_ERR_DESTINATION, parallel_get_ring(at("/small"), NULL, job.ring, &error));
  pget_ring_close(job.ring);
  pget_cancel_free(job.cancel);
}

/* A reader that has asked for the next object gets no more of this one, and does not take it for
 * complete. */
static void passes_over(void) {
  pthread_t thread;
  struct job job = {NULL, NULL, NULL};
  struct next next = {0, &job};
  pget_ring_reader *reader;
  const uint8_t *data;
  size_t length;
  EXPECT(PGET_OK, pget_ring_create(NULL, 4096, &job.ring, &error));
  EXPECT(PGET_OK, pget_ring_open(pget_ring_name(job.ring), &reader, &error));
  CHECK(pthread_create(&next.before, NULL, put_small, &job) == 0);
  EXPECT(PGET_OK, pget_ring_next_object(reader, LONG, NULL, NULL, NULL, &error));
  EXPECT(PGET_OK, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
  EXPECT(PGET_ERR_TIMEOUT, pget_ring_next_object(reader, 0, NULL, NULL, NULL, &error));
  EXPECT(bad, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
  CHECK(data == NULL && length == 0);
  CHECK(pthread_create(&thread, NULL, put_small_behind, &next) == 0);
  read_object(reader, SMALL_SIZE);
  CHECK(pthread_join(thread, NULL) == 0);
  pget_ring_reader_close(reader);
  pget_ring_close(job.ring);
}

/* The process at either end is killed. */
static void deaths(void) {
  pget_ring *ring;
  pget_ring_reader *reader;
  const uint8_t *data;
  size_t length;
  pid_t child;
  pget_status status;
  int tries;
  const char *name = fresh_name();
  EXPECT(PGET_OK, pget_ring_create(NULL, 4096, &ring, &error));
  child = other("stops", pget_ring_name(ring));
  /* The child kills itself when it has some bytes. */
  EXPECT(PGET_ERR_DESTINATION, parallel_get_ring(at("/shared"), NULL, ring, &error));
  CHECK(waitpid(child, NULL, 0) == child);
  pget_ring_close(ring);

  child = other("puts", name);
  for (tries = 0; (status = pget_ring_open(name, &reader, NULL)) == PGET_ERR_NOT_FOUND && tries < 6000; tries++) usleep(10000);
  CHECK(status == PGET_OK);
  EXPECT(PGET_OK, pget_ring_next_object(reader, LONG, NULL, NULL, NULL, &error));
  EXPECT(PGET_OK, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
  CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
  do {
    status = pget_ring_next(reader, LONG, NULL, &data, &length, NULL);
  } while (status == PGET_OK);
  CHECK(status == PGET_ERR_UNAVAILABLE);
  EXPECT(PGET_ERR_UNAVAILABLE, pget_ring_next_object(reader, LONG, NULL, NULL, NULL, &error));
  pget_ring_reader_close(reader);
  /* The creation of a ring removes the remains of the old one. */
  EXPECT(PGET_OK, pget_ring_create(name, 1, &ring, &error));
  pget_ring_close(ring);
}

static void arguments(void) {
  pget_ring *ring = (pget_ring *)&base;
  pget_ring_reader *reader = (pget_ring_reader *)&base;
  const uint8_t *data;
  size_t length;
  EXPECT(bad, pget_ring_create("a/b", 1, &ring, &error));
  CHECK(ring == NULL);
  EXPECT(bad, pget_ring_create(NULL, 1, NULL, &error));
  EXPECT(PGET_ERR_DESTINATION, pget_ring_create(NULL, (size_t)-1, &ring, &error));
  EXPECT(bad, parallel_get_ring(NULL, NULL, NULL, &error));
  EXPECT(bad, parallel_get_ring(at("/small"), NULL, NULL, &error));
  EXPECT(bad, pget_ring_open(NULL, &reader, &error));
  CHECK(reader == NULL);
  EXPECT(bad, pget_ring_open("name", NULL, &error));
  EXPECT(PGET_ERR_NOT_FOUND, pget_ring_open("/no-such-name", &reader, &error));
  EXPECT(bad, pget_ring_next_object(NULL, 0, NULL, NULL, NULL, &error));
  EXPECT(bad, pget_ring_next(NULL, 0, NULL, &data, &length, &error));
  EXPECT(bad, pget_ring_next((pget_ring_reader *)&data, 0, NULL, NULL, NULL, &error));
  CHECK(pget_ring_name(NULL) == NULL);
  pget_ring_close(NULL);
  pget_ring_close((pget_ring *)&data);
  pget_ring_reader_close(NULL);
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  program = argv[0];
  base = argv[1];
  if (argc == 4 && strcmp(argv[2], "reads") == 0) {
    reads(argv[3]);
    return 0;
  }
  if (argc == 4 && strcmp(argv[2], "stops") == 0) {
    pget_ring_reader *reader;
    const uint8_t *data;
    size_t length;
    EXPECT(PGET_OK, pget_ring_open(argv[3], &reader, &error));
    EXPECT(PGET_OK, pget_ring_next_object(reader, LONG, NULL, NULL, NULL, &error));
    EXPECT(PGET_OK, pget_ring_next(reader, LONG, NULL, &data, &length, &error));
    kill(getpid(), SIGKILL);
  }
  if (argc == 4) {
    pget_ring *ring;
    EXPECT(PGET_OK, pget_ring_create(argv[3], 4096, &ring, &error));
    EXPECT(PGET_OK, parallel_get_ring(at("/good"), NULL, ring, &error));
    return 1;
  }
  arguments();
  one_after_another(NULL);
  one_after_another(fresh_name());
  waits_end();
  passes_over();
  deaths();
  puts("ok");
  return 0;
}
