/* Fetches an object once into shared memory. Four other processes digest it (FNV-1a) as it arrives.
 *
 *   cc -o shared shared.c $(pkg-config --cflags --libs pget) && ./shared s3://bucket/key
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pget.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READERS 4

static int fail(const char *doing, pget_error *error) {
  fprintf(stderr, "%s: %s\n", doing, pget_error_message(error));
  pget_error_free(error);
  return 1;
}

static int digest(const char *name) {
  pget_error *error = NULL;
  pget_shared *shared;
  uint64_t sum = UINT64_C(0xcbf29ce484222325);
  size_t done = 0, available;
  if (pget_shared_open(name, &shared, &error) != PGET_OK) return fail("attach", error);
  while (done < pget_shared_length(shared)) {
    /* The error is that of the download, or reports that the fetching process died. */
    if (pget_shared_wait(shared, done + 1, UINT64_MAX, NULL, &available, &error) != PGET_OK) return fail("wait", error);
    for (; done < available; done++) sum = (sum ^ pget_shared_data(shared)[done]) * UINT64_C(0x100000001b3);
  }
  /* Only after this call is it certain that all bytes were of one revision. */
  if (pget_shared_wait(shared, UINT64_MAX, UINT64_MAX, NULL, NULL, &error) != PGET_OK) return fail("wait", error);
  printf("%zu bytes, %s, fnv %016" PRIx64 "\n", done, pget_shared_revision(shared), sum);
  pget_shared_close(shared);
  return 0;
}

int main(int argc, char **argv) {
  pget_error *error = NULL;
  pget_shared *shared;
  int i, failed = 0, status;
  if (argc == 3 && strcmp(argv[1], "--attach") == 0) return digest(argv[2]);
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  /* The segment has no name in /dev/shm. The system removes it, however this process ends. */
  if (pget_shared_begin(argv[1], NULL, NULL, NULL, &shared, &error) != PGET_OK) return fail("get", error);
  for (i = 0; i < READERS; i++) {
    /* A forked child must exec before it uses the library. */
    const char *name = pget_shared_name(shared);
    pid_t child = fork();
    if (child == 0) {
      execl(argv[0], argv[0], "--attach", name, (char *)NULL);
      _exit(127);
    }
    if (child < 0) {
      perror("fork");
      return 1;
    }
  }
  if (pget_shared_wait(shared, UINT64_MAX, UINT64_MAX, NULL, NULL, &error) != PGET_OK) failed = fail("get", error);
  for (i = 0; i < READERS; i++)
    if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) failed = 1;
  pget_shared_close(shared);
  return failed;
}
