/* Forks two hundred times while eight threads download over http and https.
 *
 * The parent and the children must get the right bytes. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 200
#define AT_ONCE 4
#define THREADS 8

static const char *bases[2];
static atomic_int over;
static atomic_uint reads;

static const char *of(unsigned which, const char *path) {
  base = bases[which % 2];
  return at(path);
}

/* Reads the object into memory or through a reader. */
static void read_one(const char *url, size_t size, unsigned way) {
  pget_options *options = small_ranges();
  if (way % 2) {
    uint8_t *buffer = malloc(size);
    size_t length;
    CHECK(buffer != NULL);
    EXPECT(PGET_OK, parallel_get_into(url, options, buffer, size, &length, &error));
    CHECK(length == size && is_right(buffer, size, 0));
    free(buffer);
  } else {
    uint64_t next = 0;
    EXPECT(PGET_OK, parallel_get(url, options, check_write, &next, &error));
    CHECK(next == size);
  }
  pget_options_free(options);
}

static void *download(void *context) {
  unsigned number = *(unsigned *)context;
  char url[256];
  snprintf(url, sizeof url, "%s/good", bases[number % 2]);
  while (!atomic_load(&over)) {
    read_one(url, GOOD_SIZE, number / 2);
    atomic_fetch_add(&reads, 1);
  }
  return NULL;
}

static void child(unsigned number, pget_reader *older, unsigned depth) {
  for (;; number++, depth--) {
    const uint8_t *data;
    size_t length;
    pget_reader *own = NULL;
    pid_t next;
    int status;
    alarm(100);
    EXPECT(PGET_ERR_FORKED, pget_reader_next(older, &data, &length, &error));
    pget_reader_close(older);
    read_one(of(number, "/small"), SMALL_SIZE, number / 2);
    read_one(of(number + 1, "/middle"), 1 << 20, number / 2 + 1);
    if (depth == 0) _exit(0);
    EXPECT(PGET_OK, pget_open(of(number, "/small"), NULL, &own, &error));
    next = fork();
    CHECK(next >= 0);
    if (next == 0) {
      older = own;
      continue;
    }
    CHECK(waitpid(next, &status, 0) == next && status == 0);
    EXPECT(PGET_OK, pget_reader_next(own, &data, &length, &error));
    CHECK(is_right(data, length, 0));
    _exit(0);
  }
}

int main(int count, char **arguments) {
  pthread_t threads[THREADS];
  unsigned numbers[THREADS], i, j;
  pget_reader *reader = NULL;
  CHECK(count == 3);
  bases[0] = arguments[1];
  bases[1] = arguments[2];
  EXPECT(PGET_OK, pget_open(of(0, "/good"), NULL, &reader, &error));
  for (i = 0; i < THREADS; i++) {
    numbers[i] = i;
    CHECK(pthread_create(&threads[i], NULL, download, &numbers[i]) == 0);
  }
  for (i = 0; i < FORKS / AT_ONCE; i++) {
    pid_t children[AT_ONCE];
    for (j = 0; j < AT_ONCE; j++) {
      children[j] = fork();
      CHECK(children[j] >= 0);
      /* Every tenth child has a child, and that one has another. */
      if (children[j] == 0) child(j, reader, i % 10 == 0 ? 2 : 0);
    }
    for (j = 0; j < AT_ONCE; j++) {
      int status;
      CHECK(waitpid(children[j], &status, 0) == children[j]);
      if (WIFSIGNALED(status)) fprintf(stderr, "a child ended by signal %d\n", WTERMSIG(status));
      CHECK(status == 0);
    }
  }
  atomic_store(&over, 1);
  for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(atomic_load(&reads) >= THREADS);
  pget_reader_close(reader);
  puts("ok");
  return 0;
}
