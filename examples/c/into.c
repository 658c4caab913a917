/* Reads an object directly into a buffer of its size, and prints the sum of all bytes.
 *
 * Each range is received at its place in the buffer, without a copy.
 *
 *   cc -o into into.c $(pkg-config --cflags --libs pget) && ./into s3://bucket/key
 */
#include <inttypes.h>
#include <pget.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *doing, pget_error *error) {
  fprintf(stderr, "%s: %s\n", doing, pget_error_message(error));
  pget_error_free(error);
  return 1;
}

int main(int argc, char **argv) {
  pget_error *error = NULL;
  pget_info info;
  unsigned char *buffer;
  size_t length, i;
  uint64_t sum = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  info.struct_size = sizeof info;
  if (pget_stat(argv[1], NULL, &info, &error) != PGET_OK) return fail("stat", error);
  if (info.size > SIZE_MAX) {
    fprintf(stderr, "the object has no known size, or too large a one\n");
    return 1;
  }
  buffer = malloc(info.size ? (size_t)info.size : 1);
  if (!buffer) {
    perror("malloc");
    return 1;
  }
  /* If the object has grown, the call fails with PGET_ERR_BUFFER_TOO_SMALL and writes nothing. */
  if (parallel_get_into(argv[1], NULL, buffer, (size_t)info.size, &length, &error) != PGET_OK) {
    free(buffer);
    return fail("get", error);
  }
  for (i = 0; i < length; i++) sum += buffer[i];
  printf("%zu bytes, %s, sum %" PRIu64 "\n", length, info.revision, sum);
  free(buffer);
  return 0;
}
