/* Writes an object to standard output, in order, while it is being fetched in parallel.
 *
 *   cc -o cat cat.c $(pkg-config --cflags --libs pget) && ./cat https://host/object > file
 */
#include <pget.h>
#include <stdio.h>

static int write_out(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  (void)offset; /* pieces come in order and without a gap */
  return fwrite(data, 1, length, (FILE *)context) == length ? 0 : 1;
}

int main(int argc, char **argv) {
  pget_error *error = NULL;
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  if (parallel_get(argv[1], NULL, write_out, stdout, &error) != PGET_OK || fflush(stdout) != 0) {
    fprintf(stderr, "%s: %s\n", argv[0], pget_error_message(error));
    pget_error_free(error);
    return 1;
  }
  return 0;
}
