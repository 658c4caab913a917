/* Shared memory: create, attach from threads and from other processes, wait, fail, close.
 *
 * The program starts itself again as the other process. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONG ((uint64_t)-1)

/* The path of this program. */
static const char *program;

static pget_status bad = PGET_ERR_INVALID_ARGUMENT;

static const char *fresh_name(const char *what) {
  static char name[64];
  snprintf(name, sizeof name, "/pget-c-%d-%s", (int)getpid(), what);
  return name;
}

static int is_there(const char *name) {
  char path[128];
  snprintf(path, sizeof path, "/dev/shm/%s", name);
  return access(path, F_OK) == 0;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Reads bytes as they arrive. */
static void read_as_it_arrives(const char *name, size_t length_wanted) {
  pget_shared *shared;
  size_t done = 0, available;
  EXPECT(PGET_OK, pget_shared_open(name, &shared, &error));
  CHECK(pget_shared_length(shared) == length_wanted);
  while (done < length_wanted) {
    EXPECT(PGET_OK, pget_shared_wait(shared, done + 1, LONG, NULL, &available, &error));
    CHECK(available > done && available <= length_wanted);
    CHECK(is_right(pget_shared_data(shared) + done, available - done, done));
    done = available;
  }
  EXPECT(PGET_OK, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
  CHECK(pget_shared_state(shared) == PGET_SHARED_COMPLETE);
  CHECK(pget_shared_available(shared) == length_wanted);
  pget_shared_close(shared);
}

/* Starts this program again with a job, because a forked child may not use the library. */
static pid_t other(const char *job, const char *name) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execl(program, program, base, job, name, (char *)NULL);
    _exit(127);
  }
  return child;
}

/* Starts a process that attaches, and that reports so on its standard output. */
static pid_t other_attached(const char *job, const char *name) {
  int ends[2];
  char byte;
  pid_t child;
  CHECK(pipe(ends) == 0);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl(program, program, base, job, name, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  CHECK(read(ends[0], &byte, 1) == 1);
  close(ends[0]);
  return child;
}

static void ends_well(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void all_of_it(const char *name) {
  pget_options *options = small_ranges();
  pget_shared *shared, *again;
  char kept[128];
  const char *told;
  EXPECT(PGET_OK, whole_shared(at("/good"), options, name, NULL, &shared, &error));
  told = pget_shared_name(shared);
  CHECK(name ? strcmp(told, name + 1) == 0 : strncmp(told, "/proc/", 6) == 0);
  CHECK(pget_shared_length(shared) == GOOD_SIZE && pget_shared_available(shared) == GOOD_SIZE);
  CHECK(pget_shared_state(shared) == PGET_SHARED_COMPLETE);
  CHECK(is_right(pget_shared_data(shared), GOOD_SIZE, 0));
  CHECK(strncmp(pget_shared_revision(shared), "etag ", 5) == 0);
  EXPECT(PGET_OK, pget_shared_wait(shared, LONG, 0, NULL, NULL, &error));
  ends_well(other("read", told));
  /* The same process may attach too. An attached segment stays when its name is removed. */
  EXPECT(PGET_OK, pget_shared_open(told, &again, &error));
  if (name) {
    pget_shared *taken;
    EXPECT(PGET_ERR_DESTINATION, whole_shared(at("/small"), options, name, NULL, &taken, &error));
    CHECK(taken == NULL && is_there(name));
  }
  snprintf(kept, sizeof kept, "%s", told);
  pget_shared_close(shared);
  pget_shared_close(shared);
  CHECK(!name || !is_there(name));
  CHECK(pget_shared_data(shared) == NULL && pget_shared_length(shared) == 0 && pget_shared_name(shared) == NULL);
  CHECK(is_right(pget_shared_data(again), GOOD_SIZE, 0));
  CHECK(pget_shared_state(again) == PGET_SHARED_COMPLETE);
  pget_shared_close(again);
  EXPECT(PGET_ERR_NOT_FOUND, pget_shared_open(kept, &again, &error));
  CHECK(again == NULL);
  pget_options_free(options);
}

static void while_it_arrives(void) {
  pget_options *options = small_ranges();
  pget_shared *shared;
  const char *name = fresh_name("arrives");
  pid_t readers[4];
  size_t i, available;
  EXPECT(PGET_OK, pget_shared_begin(at("/good"), options, name, NULL, &shared, &error));
  for (i = 0; i < 4; i++) readers[i] = other("read", name);
  EXPECT(PGET_OK, pget_shared_wait(shared, LONG, LONG, NULL, &available, &error));
  CHECK(available == GOOD_SIZE && is_right(pget_shared_data(shared), available, 0));
  for (i = 0; i < 4; i++) ends_well(readers[i]);
  pget_shared_close(shared);
  /* Fetches a part of the object, and an empty part. */
  CHECK(pget_options_set_range(options, 1000, 5000) == PGET_OK);
  EXPECT(PGET_OK, pget_shared_begin(at("/good"), options, NULL, NULL, &shared, &error));
  EXPECT(PGET_OK, pget_shared_wait(shared, 5000, LONG, NULL, &available, &error));
  CHECK(available == 5000 && is_right(pget_shared_data(shared), available, 1000));
  pget_shared_close(shared);
  EXPECT(PGET_OK, whole_shared(at("/empty"), NULL, NULL, NULL, &shared, &error));
  CHECK(pget_shared_data(shared) != NULL && pget_shared_length(shared) == 0);
  EXPECT(PGET_OK, pget_shared_wait(shared, 1, 0, NULL, &available, &error));
  CHECK(available == 0 && pget_shared_state(shared) == PGET_SHARED_COMPLETE);
  pget_shared_close(shared);
  pget_options_free(options);
}

/* Reuses the memory of one object for the next, with and without a name. Attached readers keep
 * their object. */
static void reused(const char *name) {
  pget_options *options = small_ranges();
  pget_shared *shared, *next, *attached;
  const uint8_t *data;
  char first[128];
  size_t available;
  EXPECT(PGET_OK, whole_shared(at("/good"), options, name, NULL, &shared, &error));
  snprintf(first, sizeof first, "%s", pget_shared_name(shared));
  data = pget_shared_data(shared);
  EXPECT(PGET_OK, whole_shared(at("/small"), options, NULL, shared, &next, &error));
  CHECK(pget_shared_data(shared) == NULL && pget_shared_state(shared) == PGET_SHARED_NONE);
  CHECK(strcmp(pget_shared_name(next), first) == 0 && pget_shared_data(next) == data);
  CHECK(pget_shared_length(next) == SMALL_SIZE && is_right(pget_shared_data(next), SMALL_SIZE, 0));
  shared = next;
  EXPECT(PGET_OK, pget_shared_begin(at("/good"), options, NULL, shared, &next, &error));
  CHECK(strcmp(pget_shared_name(next), first) == 0);
  ends_well(other("read", first));
  EXPECT(PGET_OK, pget_shared_wait(next, LONG, LONG, NULL, &available, &error));
  CHECK(available == GOOD_SIZE && is_right(pget_shared_data(next), available, 0));
  shared = next;
  /* The reused buffer is that of a download in the background. */
  EXPECT(PGET_OK, pget_shared_open(first, &attached, &error));
  EXPECT(PGET_OK, whole_shared(at("/small"), options, NULL, shared, &next, &error));
  CHECK(pget_shared_available(attached) == GOOD_SIZE && is_right(pget_shared_data(attached), GOOD_SIZE, 0));
  CHECK((strcmp(pget_shared_name(next), first) == 0) == (name != NULL));
  CHECK(is_right(pget_shared_data(next), SMALL_SIZE, 0));
  /* The call closes the handle in each case, even if it fails. */
  EXPECT(bad, whole_shared(at("/small"), options, NULL, attached, &shared, &error));
  CHECK(shared == NULL && pget_shared_data(attached) == NULL);
  EXPECT(PGET_ERR_NOT_FOUND, whole_shared(at("/missing"), options, NULL, next, &shared, &error));
  CHECK(shared == NULL && pget_shared_data(next) == NULL && (!name || !is_there(name)));
  EXPECT(bad, whole_shared(at("/small"), options, NULL, next, &shared, &error));
  EXPECT(PGET_OK, pget_shared_begin(at("/stalls"), options, name, NULL, &next, &error));
  EXPECT(bad, pget_shared_begin(at("/small"), options, NULL, next, &shared, &error));
  CHECK(pget_shared_data(next) == NULL && (!name || !is_there(name)));
  EXPECT(PGET_OK, whole_shared(at("/small"), options, name, NULL, &next, &error));
  EXPECT(bad, whole_shared(NULL, options, NULL, next, &shared, &error));
  CHECK(pget_shared_data(next) == NULL && (!name || !is_there(name)));
  EXPECT(PGET_OK, whole_shared(at("/small"), options, name, NULL, &next, &error));
  EXPECT(bad, pget_shared_begin(at("/small"), options, "another", next, &shared, &error));
  CHECK(shared == NULL && pget_shared_data(next) == NULL && (!name || !is_there(name)));
  pget_options_free(options);
}

struct told {
  pthread_t thread;
  uint64_t calls, delivered, total;
};

static void note(void *context, uint64_t delivered, uint64_t total) {
  struct told *told = context;
  CHECK(pthread_equal(told->thread, pthread_self()) && delivered >= told->delivered && delivered <= total);
  told->calls++;
  told->delivered = delivered;
  told->total = total;
}

/* The waiting thread reports the progress. The last report has all bytes. */
static void progress(void) {
  pget_options *options = small_ranges();
  pget_shared *shared;
  struct told told = {pthread_self(), 0, 0, 0};
  uint64_t calls;
  CHECK(pget_options_set_progress(options, note, &told) == PGET_OK);
  EXPECT(PGET_OK, pget_shared_begin(at("/good"), options, NULL, NULL, &shared, &error));
  CHECK(told.calls == 0);
  EXPECT(PGET_OK, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
  CHECK(told.calls > 0 && told.delivered == GOOD_SIZE && told.total == GOOD_SIZE);
  calls = told.calls;
  EXPECT(PGET_OK, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
  CHECK(told.calls == calls);
  pget_shared_close(shared);
  /* The thread also reports progress while no byte arrives. The timeout ends the download. */
  told.delivered = told.calls = 0;
  CHECK(pget_options_set_retries(options, 0) == PGET_OK && pget_options_set_first_byte_timeout(options, 2000) == PGET_OK);
  EXPECT(PGET_OK, pget_shared_begin(at("/first"), options, NULL, NULL, &shared, &error));
  EXPECT(PGET_ERR_TIMEOUT, pget_shared_wait(shared, LONG, 250, NULL, NULL, &error));
  EXPECT(PGET_ERR_TIMEOUT, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
  CHECK(pget_shared_state(shared) == PGET_SHARED_FAILED && told.calls > 0 && told.delivered < GOOD_SIZE);
  pget_shared_close(shared);
  pget_options_free(options);
}

struct job {
  pget_shared *shared;
  pget_cancel *cancel;
  double at;
};

static void *trigger_later(void *context) {
  struct job *job = context;
  usleep(50000);
  job->at = seconds();
  if (job->cancel) pget_cancel_trigger(job->cancel);
  else pget_shared_close(job->shared);
  return NULL;
}

/* The server stalls after the first 64 KiB of each range. */
static void what_does_not_come(void) {
  pget_options *options = small_ranges();
  pget_shared *shared, *attached;
  pthread_t thread;
  struct job job;
  size_t available = 7;
  const char *name = fresh_name("stalls");
  char url[256];
  pid_t reader;
  snprintf(url, sizeof url, "%s", at("/stalls"));

  EXPECT(PGET_OK, pget_shared_begin(url, options, name, NULL, &shared, &error));
  CHECK(pget_shared_state(shared) == PGET_SHARED_FILLING);
  EXPECT(PGET_ERR_TIMEOUT, pget_shared_wait(shared, LONG, 0, NULL, &available, &error));
  CHECK(available < GOOD_SIZE);
  EXPECT(PGET_ERR_TIMEOUT, pget_shared_wait(shared, LONG, 30, NULL, &available, &error));
  /* A cancel ends the wait but not the download. */
  job.shared = shared;
  job.cancel = pget_cancel_new();
  CHECK(pthread_create(&thread, NULL, trigger_later, &job) == 0);
  EXPECT(PGET_ERR_CANCELLED, pget_shared_wait(shared, LONG, LONG, job.cancel, NULL, &error));
  CHECK(pthread_join(thread, NULL) == 0 && seconds() - job.at < 5);
  EXPECT(PGET_ERR_CANCELLED, pget_shared_wait(shared, LONG, LONG, job.cancel, NULL, &error));
  CHECK(pget_shared_state(shared) == PGET_SHARED_FILLING);
  pget_cancel_free(job.cancel);
  EXPECT(bad, pget_shared_wait(shared, LONG, LONG, job.cancel, NULL, &error));
  /* A close ends the wait and the download. Attached readers get the error. */
  EXPECT(PGET_OK, pget_shared_open(name, &attached, &error));
  reader = other_attached("fails", name);
  job.cancel = NULL;
  CHECK(pthread_create(&thread, NULL, trigger_later, &job) == 0);
  EXPECT(PGET_ERR_CANCELLED, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
  CHECK(pthread_join(thread, NULL) == 0 && seconds() - job.at < 5);
  EXPECT(PGET_ERR_CANCELLED, pget_shared_wait(attached, LONG, LONG, NULL, NULL, &error));
  CHECK(pget_shared_state(attached) == PGET_SHARED_FAILED);
  pget_shared_close(attached);
  ends_well(reader);
  CHECK(!is_there(name));

  /* The download fails by itself. */
  CHECK(pget_options_set_retries(options, 0) == PGET_OK);
  EXPECT(PGET_ERR_OBJECT_CHANGED, whole_shared(at("/changed"), options, name, NULL, &shared, &error));
  CHECK(shared == NULL && !is_there(name));
  EXPECT(PGET_OK, pget_shared_begin(at("/changed"), options, NULL, NULL, &shared, &error));
  EXPECT(PGET_ERR_OBJECT_CHANGED, pget_shared_wait(shared, LONG, LONG, NULL, &available, &error));
  CHECK(available < GOOD_SIZE && is_right(pget_shared_data(shared), available, 0));
  CHECK(pget_shared_state(shared) == PGET_SHARED_FAILED);
  pget_shared_close(shared);
  EXPECT(PGET_ERR_NOT_FOUND, pget_shared_begin(at("/missing"), options, name, NULL, &shared, &error));
  CHECK(shared == NULL && !is_there(name));
  pget_options_free(options);
}

static void arguments(void) {
  pget_shared *shared = (pget_shared *)&base;
  int local = 0;
  EXPECT(bad, whole_shared(NULL, NULL, NULL, NULL, &shared, &error));
  CHECK(shared == NULL);
  EXPECT(bad, whole_shared(at("/small"), NULL, NULL, NULL, NULL, &error));
  EXPECT(bad, whole_shared(at("/small"), NULL, "a/b", NULL, &shared, &error));
  EXPECT(bad, whole_shared(at("/small"), NULL, "", NULL, &shared, &error));
  EXPECT(bad, whole_shared(at("/small"), NULL, "\xff", NULL, &shared, &error));
  EXPECT(bad, pget_shared_begin(NULL, NULL, NULL, NULL, &shared, &error));
  EXPECT(bad, pget_shared_begin(at("/small"), NULL, NULL, NULL, NULL, &error));
  EXPECT(bad, pget_shared_begin(at("/small"), NULL, NULL, (pget_shared *)&local, &shared, &error));
  EXPECT(bad, pget_shared_open(NULL, &shared, &error));
  EXPECT(bad, pget_shared_open("name", NULL, &error));
  EXPECT(PGET_ERR_NOT_FOUND, pget_shared_open("/no-such-name", &shared, &error));
  EXPECT(bad, pget_shared_open("/proc/self/fd/1", &shared, &error));
  EXPECT(bad, pget_shared_wait(NULL, 0, 0, NULL, NULL, &error));
  EXPECT(bad, pget_shared_wait((pget_shared *)&local, 0, 0, NULL, NULL, &error));
  CHECK(pget_shared_data(NULL) == NULL && pget_shared_length(NULL) == 0 && pget_shared_available(NULL) == 0);
  CHECK(pget_shared_name(NULL) == NULL && pget_shared_revision(NULL) == NULL);
  CHECK(pget_shared_state(NULL) == PGET_SHARED_NONE);
  CHECK(pget_shared_data((pget_shared *)&local) == NULL);
  pget_shared_close(NULL);
  pget_shared_close((pget_shared *)&local);
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  program = argv[0];
  base = argv[1];
  if (argc == 4 && strcmp(argv[2], "read") == 0) {
    read_as_it_arrives(argv[3], GOOD_SIZE);
    return 0;
  }
  if (argc == 4) {
    pget_shared *shared;
    EXPECT(PGET_OK, pget_shared_open(argv[3], &shared, &error));
    CHECK(write(STDOUT_FILENO, "a", 1) == 1);
    EXPECT(PGET_ERR_CANCELLED, pget_shared_wait(shared, LONG, LONG, NULL, NULL, &error));
    pget_shared_close(shared);
    return 0;
  }
  arguments();
  all_of_it(NULL);
  all_of_it(fresh_name("whole"));
  while_it_arrives();
  reused(NULL);
  reused(fresh_name("reused"));
  what_does_not_come();
  progress();
  puts("ok");
  return 0;
}
