/* Reads an object in order, discards its bytes, and prints their number.
 *
 * benches/c_abi.sh measures the cost of parallel_get with it.
 */
#include <inttypes.h>
#include <pget.h>
#include <stdio.h>

static int drop(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  (void)data;
  *(uint64_t *)context = offset + length;
  return 0;
}

int main(int argc, char **argv) {
  pget_error *error = NULL;
  uint64_t bytes = 0;
  if (argc != 2) return 2;
  if (parallel_get(argv[1], NULL, drop, &bytes, &error) != PGET_OK) {
    fprintf(stderr, "discard: %s\n", pget_error_message(error));
    pget_error_free(error);
    return 1;
  }
  printf("%" PRIu64 "\n", bytes);
  return 0;
}
