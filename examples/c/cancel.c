/* Cancels a download from another thread when a line, or the end, of standard input arrives.
 *
 *   cc -o cancel cancel.c $(pkg-config --cflags --libs pget) -lpthread && ./cancel URL
 */
#include <pget.h>
#include <pthread.h>
#include <stdio.h>

static void *wait_for_input(void *cancel) {
  (void)getchar();
  pget_cancel_trigger(cancel);
  return NULL;
}

static int count(void *context, const uint8_t *data, size_t length, uint64_t offset) {
  (void)data;
  *(uint64_t *)context = offset + length;
  return 0;
}

int main(int argc, char **argv) {
  pget_options *options = pget_options_new();
  pget_cancel *cancel = pget_cancel_new();
  pget_error *error = NULL;
  pget_status status;
  pthread_t thread;
  uint64_t given = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  pget_options_set_cancel(options, cancel);
  if (pthread_create(&thread, NULL, wait_for_input, cancel) != 0) return 1;
  pthread_detach(thread);

  status = parallel_get(argv[1], options, count, &given, &error);
  printf("%llu bytes: %s\n", (unsigned long long)given, pget_status_name(status));
  if (status != PGET_OK) fprintf(stderr, "%s\n", pget_error_message(error));

  /* Free the handles in any order. The thread may still trigger the cancel: the library detects a
   * freed handle. */
  pget_error_free(error);
  pget_options_free(options);
  pget_cancel_free(cancel);
  return status == PGET_OK || status == PGET_ERR_CANCELLED ? 0 : 1;
}
