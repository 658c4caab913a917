/* The library's duties in its process: fork, signals, threads, and defects that stay inside. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a function in a child. An alarm ends a child that hangs. */
static int child_ends_well(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) fprintf(stderr, "the child ended by signal %d\n", WTERMSIG(status));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static pid_t fork_with_alarm(void) {
  pid_t child;
  fflush(NULL);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) alarm(60);
  return child;
}

static void a_child_may_use_what_its_parent_did_not(void) {
  pid_t child = fork_with_alarm();
  if (child == 0) {
    uint64_t next = 0;
    EXPECT(PGET_OK, parallel_get(at("/good"), NULL, check_write, &next, &error));
    CHECK(next == GOOD_SIZE);
    _exit(0);
  }
  CHECK(child_ends_well(child));
}

static void a_child_after_use_reads_and_its_parents_handles_are_refused(void) {
  pget_options *options = small_ranges();
  pget_cancel *cancel = pget_cancel_new();
  pget_error *earlier = NULL;
  pget_reader *reader = NULL;
  pget_shared *whole = NULL;
  const uint8_t *data, *seen;
  size_t length;
  uint64_t next = 0;
  pid_t child;
  EXPECT(PGET_OK, pget_open(at("/good"), options, &reader, &error));
  EXPECT(PGET_OK, pget_reader_next(reader, &data, &length, &error));
  EXPECT(PGET_OK, whole_shared(at("/small"), options, NULL, NULL, &whole, &error));
  seen = pget_shared_data(whole);
  CHECK(parallel_get(NULL, NULL, check_write, &next, &earlier) == PGET_ERR_INVALID_ARGUMENT);

  child = fork_with_alarm();
  if (child == 0) {
    pget_options *own = NULL;
    pget_reader *other = NULL;
    pget_shared *shared = NULL;
    uint8_t buffer[SMALL_SIZE];
    uint64_t count;
    size_t some;
    pget_info info;
    pget_stats stats;
    info.struct_size = sizeof info;
    stats.struct_size = sizeof stats;
    /* Bytes that the parent has received stay readable. */
    CHECK(is_right(data, length, 0) && is_right(seen, SMALL_SIZE, 0));
    /* These handles belong to the parent. */
    EXPECT(PGET_ERR_FORKED, parallel_get(at("/good"), options, check_write, &next, &error));
    EXPECT(PGET_ERR_FORKED, parallel_get_into(at("/good"), options, buffer, 16, &some, &error));
    EXPECT(PGET_ERR_FORKED, parallel_get_file(at("/good"), options, "x", &count, &error));
    EXPECT(PGET_ERR_FORKED, whole_shared(at("/good"), options, "x", NULL, &shared, &error));
    EXPECT(PGET_ERR_FORKED, whole_shared(at("/good"), NULL, NULL, whole, &shared, &error));
    EXPECT(PGET_ERR_FORKED, pget_shared_begin(at("/good"), options, "x", NULL, &shared, &error));
    EXPECT(PGET_ERR_FORKED, pget_shared_wait(whole, 0, 0, NULL, &some, &error));
    EXPECT(PGET_ERR_FORKED, pget_stat(at("/good"), options, &info, &error));
    EXPECT(PGET_ERR_FORKED, pget_open(at("/good"), options, &other, &error));
    EXPECT(PGET_ERR_FORKED, pget_reader_next(reader, &seen, &some, &error));
    EXPECT(PGET_ERR_FORKED, pget_reader_read(reader, buffer, 16, &some, &error));
    EXPECT(PGET_ERR_FORKED, pget_reader_info(reader, &info, &error));
    EXPECT(PGET_ERR_FORKED, pget_reader_stats(reader, &stats, &error));
    CHECK(pget_options_set_retries(options, 1) == PGET_ERR_FORKED);
    CHECK(pget_shared_data(whole) == NULL && pget_shared_state(whole) == PGET_SHARED_NONE);
    CHECK(pget_error_status(earlier) == PGET_ERR_FORKED && *pget_error_message(earlier));
    CHECK(pget_error_needed(earlier) == 0);
    pget_cancel_trigger(cancel);
    pget_reader_cancel(reader);
    pget_reader_close(reader);
    pget_shared_close(whole);
    pget_error_free(earlier);
    pget_options_free(options);
    pget_cancel_free(cancel);
    /* The child uses handles of its own. */
    next = 0;
    EXPECT(PGET_OK, parallel_get(at("/good"), NULL, check_write, &next, &error));
    CHECK(next == GOOD_SIZE);
    own = small_ranges();
    EXPECT(PGET_OK, parallel_get_into(at("/small"), own, buffer, sizeof buffer, &some, &error));
    CHECK(some == SMALL_SIZE && is_right(buffer, some, 0));
    EXPECT(PGET_OK, whole_shared(at("/small"), own, NULL, NULL, &shared, &error));
    CHECK(is_right(pget_shared_data(shared), SMALL_SIZE, 0));
    EXPECT(PGET_OK, pget_open(at("/good"), own, &other, &error));
    EXPECT(PGET_OK, pget_reader_next(other, &seen, &some, &error));
    CHECK(is_right(seen, some, 0) && is_right(data, length, 0));
    pget_reader_close(other);
    EXPECT(PGET_ERR_INVALID_ARGUMENT, pget_reader_next(other, &seen, &some, &error));
    pget_options_free(own);
    CHECK(pget_abi_version() == PGET_ABI_VERSION && *pget_version() != '\0');
    exit(0); /* runs the exit handlers */
  }
  CHECK(child_ends_well(child));

  /* The children have not affected the parent. */
  CHECK(is_right(data, length, 0));
  next = length;
  while (pget_reader_next(reader, &data, &length, NULL) == PGET_OK) {
    CHECK(is_right(data, length, next));
    next += length;
  }
  CHECK(next == GOOD_SIZE);
  CHECK(pget_error_status(earlier) == PGET_ERR_INVALID_ARGUMENT && *pget_error_message(earlier));
  CHECK(is_right(seen, SMALL_SIZE, 0));
  pget_reader_close(reader);
  pget_shared_close(whole);
  pget_error_free(earlier);
  pget_options_free(options);
  pget_cancel_free(cancel);
}

static pid_t child_of_callback;

static int fork_once(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  if (offset == 0) {
    child_of_callback = fork_with_alarm();
    if (child_of_callback == 0) return 0;
  }
  return check_write(context, data, length, offset);
}

static void a_child_that_returns_from_a_callback_does_not_hang(void) {
  uint64_t next = 0;
  pget_status status = parallel_get(at("/good"), NULL, fork_once, &next, NULL);
  if (child_of_callback == 0) _exit(status == PGET_ERR_FORKED ? 0 : 1);
  CHECK(status == PGET_OK && next == GOOD_SIZE);
  CHECK(child_ends_well(child_of_callback));
}

/* The server closes or resets the connection of each request on a reused connection, and after
 * each answer.
 *
 * That happens a thousand times, and SIGPIPE would kill this process. The server counts the
 * faults. */
static void peers_close(unsigned times) {
  pget_options *options = pget_options_new();
  unsigned i;
  CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  CHECK(pget_options_set_retries(options, 20) == PGET_OK);
  for (i = 0; i < times; i++) {
    uint64_t next = 0;
    pget_info info;
    info.struct_size = sizeof info;
    EXPECT(PGET_OK, parallel_get(at(i % 2 ? "/resets" : "/closes-reused"), options, check_write, &next, &error));
    CHECK(next == SMALL_SIZE);
    if (i % 10 == 0) EXPECT(PGET_OK, pget_stat(at("/closes"), options, &info, &error));
  }
  pget_options_free(options);
}

/* A file or memory that may not grow is an error. The signal for it would by default kill the
 * process. */
static void a_limit_on_files_kills_nobody(void) {
  struct rlimit before, limit;
  uint64_t length = 9;
  char path[32];
  uint8_t bytes[SMALL_SIZE / 2];
  int appends;
  int file = open("limited.out", O_CREAT | O_RDWR, 0600);
  CHECK(file >= 0);
  snprintf(path, sizeof path, "/dev/fd/%d", file);
  CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
  CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
  limit = before;
  limit.rlim_cur = SMALL_SIZE / 2;
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  EXPECT(PGET_ERR_DESTINATION, parallel_get_file(at("/small"), NULL, "limited", &length, &error));
  CHECK(length == 0 && access("limited", F_OK) != 0 && access("limited.pget-part", F_OK) != 0);
  EXPECT(PGET_ERR_DESTINATION, parallel_get_file(at("/small"), NULL, path, &length, &error));
  CHECK(lseek(file, 0, SEEK_END) == SMALL_SIZE / 2);
  /* The limit counts from the beginning of the file. The bytes go to the file's position, or
   * after its end. */
  for (appends = 0; appends <= 1; appends++) {
    CHECK(ftruncate(file, 0) == 0 && pwrite(file, "header", 6, 0) == 6);
    CHECK(lseek(file, appends ? 0 : 6, SEEK_SET) == (appends ? 0 : 6));
    CHECK(fcntl(file, F_SETFL, appends ? O_APPEND : 0) == 0);
    EXPECT(PGET_ERR_DESTINATION, parallel_get_file(at("/small"), NULL, path, &length, &error));
    CHECK(length == 0 && lseek(file, 0, SEEK_END) == SMALL_SIZE / 2);
    CHECK(pread(file, bytes, sizeof bytes, 0) == sizeof bytes);
    CHECK(memcmp(bytes, "header", 6) == 0 && is_right(bytes + 6, sizeof bytes - 6, 0));
  }
  {
    pget_shared *shared = NULL;
    pget_ring *ring = NULL;
    char name[40];
    snprintf(name, sizeof name, "pget-limited-%d", (int)getpid());
    EXPECT(PGET_ERR_DESTINATION, whole_shared(at("/small"), NULL, NULL, NULL, &shared, &error));
    EXPECT(PGET_ERR_DESTINATION, whole_shared(at("/small"), NULL, name, NULL, &shared, &error));
    EXPECT(PGET_ERR_DESTINATION, pget_shared_begin(at("/small"), NULL, NULL, NULL, &shared, &error));
    EXPECT(PGET_ERR_DESTINATION, pget_ring_create(NULL, SMALL_SIZE, &ring, &error));
    CHECK(!shared && !ring);
  }
  CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
  close(file);
}

/* Returns whether at least one thread of the library runs, and all threads except the main one
 * are the library's and block SIGPIPE.
 *
 * The main thread has the name of the program. */
static int threads_block_sigpipe(void) {
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *entry;
  unsigned threads = 0, others = 0;
  CHECK(tasks);
  while ((entry = readdir(tasks))) {
    char path[300], line[200];
    unsigned long long blocked = 0;
    int ours = 0;
    FILE *status;
    if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid()) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    status = fopen(path, "r");
    if (!status) continue; /* the thread has ended */
    while (fgets(line, sizeof line, status)) {
      if (strncmp(line, "Name:\tpget", 10) == 0) ours = 1;
      (void)sscanf(line, "SigBlk: %llx", &blocked);
    }
    fclose(status);
    if (ours && blocked >> (SIGPIPE - 1) & 1)
      threads++;
    else
      others++;
  }
  closedir(tasks);
  return threads >= 1 && others == 0;
}

/* All threads of the library block SIGPIPE. The main thread does not, and no handler is
 * installed. */
static void signals_are_the_hosts(void) {
  int signal_number, turns;
  sigset_t mask;
  /* A thread that is just starting has neither set its name nor blocked the signal yet. */
  for (turns = 0; !threads_block_sigpipe(); turns++) {
    CHECK(turns < 3000);
    usleep(10000);
  }
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGPIPE));
  for (signal_number = 1; signal_number < 32; signal_number++) {
    struct sigaction action;
    /* A background process may ignore SIGINT. The library must not make the process ignore
     * SIGPIPE. */
    if (sigaction(signal_number, NULL, &action) == 0)
      CHECK(action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && signal_number != SIGPIPE));
  }
}

static unsigned interruptions;

static void interrupted(int number) {
  (void)number;
  interruptions++;
}

static void *interrupt(void *context) {
  int i;
  for (i = 0; i < 200; i++) {
    pthread_kill(*(pthread_t *)context, SIGUSR1);
    usleep(500);
  }
  return NULL;
}

/* The host's handler has no SA_RESTART. It interrupts waiting calls, which must continue. */
static void interruptions_are_no_error(void) {
  struct sigaction action, before;
  pthread_t self = pthread_self(), other;
  int i;
  memset(&action, 0, sizeof action);
  action.sa_handler = interrupted;
  CHECK(sigaction(SIGUSR1, &action, &before) == 0);
  CHECK(pthread_create(&other, NULL, interrupt, &self) == 0);
  for (i = 0; i < 5; i++) {
    uint64_t next = 0;
    EXPECT(PGET_OK, parallel_get(at("/good"), NULL, check_write, &next, &error));
    CHECK(next == GOOD_SIZE);
  }
  CHECK(pthread_join(other, NULL) == 0);
  CHECK(interruptions > 0 && sigaction(SIGUSR1, &before, NULL) == 0);
}

static pget_status inner;

/* Makes a call that waits on a thread of the library.
 *
 * The header forbids that, and the call ends in a panic. */
static void call_back_in(void *context, uint64_t delivered, uint64_t total) {
  uint64_t next = 0;
  (void)delivered, (void)total;
  if (inner == PGET_OK) inner = parallel_get(at("/good"), NULL, check_write, &next, (pget_error **)context);
}

static void a_panic_stops_at_the_border(void) {
  pget_options *options = pget_options_new();
  pget_error *error = NULL;
  uint8_t buffer[SMALL_SIZE];
  size_t length;
  uint64_t next = 0;
  CHECK(pget_options_set_progress(options, call_back_in, &error) == PGET_OK);
  CHECK(parallel_get_into(at("/small"), options, buffer, sizeof buffer, &length, NULL) == PGET_OK);
  CHECK(inner == PGET_ERR_INTERNAL && pget_error_status(error) == PGET_ERR_INTERNAL);
  CHECK(strstr(pget_error_message(error), "defect"));
  pget_error_free(error);
  EXPECT(PGET_OK, parallel_get(at("/good"), NULL, check_write, &next, &error));
  pget_options_free(options);
}

int main(int argc, char **argv) {
  int reduced = argc == 3 && strcmp(argv[2], "reduced") == 0;
  CHECK(argc == 2 || reduced);
  base = argv[1];
  CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
  a_child_may_use_what_its_parent_did_not();
  a_child_after_use_reads_and_its_parents_handles_are_refused();
  a_child_that_returns_from_a_callback_does_not_hang();
  peers_close(reduced ? 40 : 1200);
  a_limit_on_files_kills_nobody();
  signals_are_the_hosts();
  interruptions_are_no_error();
  a_panic_stops_at_the_border();
  puts("ok");
  return 0;
}
