/* Downloads a file while the host closes its standard descriptors, writes to them, and changes
 * its folder. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes to the numbers of the closed standard descriptors. */
static void write_to_the_standard_ones(void *context, uint64_t delivered, uint64_t total) {
  int descriptor;
  (void)delivered, (void)total;
  for (descriptor = 0; descriptor <= 2; descriptor++)
    if (write(descriptor, "the host's own words", 20) > 0) ++*(int *)context;
}

static void change_folder(void *context, uint64_t delivered, uint64_t total) {
  (void)delivered, (void)total;
  CHECK(chdir(context) == 0);
}

static void check_file(const char *path, size_t size) {
  uint8_t *bytes = malloc(size + 1);
  FILE *file = fopen(path, "rb");
  CHECK(bytes && file && fread(bytes, 1, size + 1, file) == size && is_right(bytes, size, 0));
  fclose(file);
  free(bytes);
}

static void what_a_host_prints_lands_in_no_file(void) {
  pget_options *options = small_ranges();
  pget_error *error = NULL;
  pget_status status;
  uint64_t length;
  int aside[3], descriptor, written = 0;
  char url[4200] = "file://";
  /* Read from a file, so that no connection takes such a number. The library's threads and their
   * descriptors exist already. */
  EXPECT(PGET_OK, parallel_get_file(at("/good"), NULL, "source", &length, &error));
  CHECK(getcwd(url + 7, sizeof url - 15));
  strcat(url, "/source");
  CHECK(pget_options_set_progress(options, write_to_the_standard_ones, &written) == PGET_OK);
  for (descriptor = 0; descriptor <= 2; descriptor++) {
    aside[descriptor] = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    CHECK(aside[descriptor] >= 3);
  }
  for (descriptor = 0; descriptor <= 2; descriptor++) close(descriptor);
  status = parallel_get_file(url, options, "copy", &length, &error);
  for (descriptor = 0; descriptor <= 2; descriptor++) {
    dup2(aside[descriptor], descriptor);
    close(aside[descriptor]);
  }
  if (status != PGET_OK) fprintf(stderr, "%s\n", pget_error_message(error));
  CHECK(status == PGET_OK && length == GOOD_SIZE);
  check_file("copy", GOOD_SIZE);
  CHECK(written == 0);
  pget_options_free(options);
}

static void a_relative_path_is_of_the_folder_of_the_call(void) {
  pget_options *options = small_ranges();
  char before[4096];
  uint64_t length;
  CHECK(getcwd(before, sizeof before) && mkdir("within", 0700) == 0);
  CHECK(pget_options_set_sync(options, 1) == PGET_OK);
  CHECK(pget_options_set_progress(options, change_folder, "/") == PGET_OK);
  EXPECT(PGET_OK, parallel_get_file(at("/good"), options, "within/x", &length, &error));
  CHECK(chdir(before) == 0 && length == GOOD_SIZE);
  check_file("within/x", GOOD_SIZE);
  CHECK(access("within/x.pget-part", F_OK) != 0 && access("within/x.pget-journal", F_OK) != 0);
  pget_options_free(options);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  base = argv[1];
  what_a_host_prints_lands_in_no_file();
  a_relative_path_is_of_the_folder_of_the_call();
  puts("ok");
  return 0;
}
