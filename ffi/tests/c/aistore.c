/* Reads from AIStore, whose address is a property.
 *
 * AIStore publishes a checksum for each range, and damaged bytes fail it.
 * pget_options_set_verify is tested with an object whose published checksum is right, wrong, or
 * missing. The object is read to a callback, into memory, into a file and into shared memory. */
#include "check.h"
#include <unistd.h>

/* Reads the object in each way. Each way must end with this status. */
static void read_in_every_way(const char *url, const char *verify, pget_status wanted) {
  static uint8_t buffer[GOOD_SIZE];
  pget_options *options = small_ranges();
  pget_shared *shared = NULL;
  char path[64], part[96];
  size_t length = 1;
  uint64_t next = 0;
  FILE *file;
  CHECK(pget_options_set_property(options, "ais.endpoint", base) == PGET_OK);
  CHECK(pget_options_set_verify(options, verify) == PGET_OK);
  EXPECT(wanted, parallel_get(url, options, check_write, &next, &error));
  CHECK((next == GOOD_SIZE) == (wanted == PGET_OK));
  EXPECT(wanted, parallel_get_into(url, options, buffer, sizeof buffer, &length, &error));
  if (wanted == PGET_OK) CHECK(length == GOOD_SIZE && is_right(buffer, length, 0));
  snprintf(path, sizeof path, "/tmp/pget-verify-%ld", (long)getpid());
  EXPECT(wanted, parallel_get_file(url, options, path, &next, &error));
  file = fopen(path, "rb");
  CHECK((file != NULL) == (wanted == PGET_OK));
  if (file != NULL) {
    CHECK(fread(buffer, 1, sizeof buffer, file) == GOOD_SIZE && is_right(buffer, GOOD_SIZE, 0));
    fclose(file);
  }
  remove(path);
  /* The failed download keeps no part, because its bytes are known to be wrong. */
  snprintf(part, sizeof part, "%s.pget-part", path);
  CHECK(access(part, F_OK) != 0);
  snprintf(part, sizeof part, "%s.pget-journal", path);
  CHECK(access(part, F_OK) != 0);
  EXPECT(wanted, whole_shared(url, options, NULL, NULL, &shared, &error));
  CHECK((shared != NULL) == (wanted == PGET_OK));
  if (shared != NULL) {
    CHECK(pget_shared_length(shared) == GOOD_SIZE && is_right(pget_shared_data(shared), GOOD_SIZE, 0));
    pget_shared_close(shared);
  }
  pget_options_free(options);
}

static void verification(void) {
  read_in_every_way("ais://verify/right", "auto", PGET_OK);
  read_in_every_way("ais://verify/right", "require", PGET_OK);
  read_in_every_way("ais://verify/wrong", "auto", PGET_ERR_CHECKSUM);
  read_in_every_way("ais://verify/wrong", "require", PGET_ERR_CHECKSUM);
  read_in_every_way("ais://verify/wrong", "off", PGET_OK);
  read_in_every_way("ais://verify-none/silent", "auto", PGET_OK);
  read_in_every_way("ais://verify-none/silent", "require", PGET_ERR_UNVERIFIABLE);
}

int main(int argc, char **argv) {
  pget_options *options = small_ranges();
  pget_info info;
  uint64_t next = 0;
  CHECK(argc == 2);
  base = argv[1];
  CHECK(pget_options_set_property(options, "ais.endpoint", base) == PGET_OK);
  CHECK(pget_options_set_retries(options, 1) == PGET_OK);
  info.struct_size = sizeof info;
  EXPECT(PGET_OK, pget_stat("ais://ranges/good", options, &info, &error));
  CHECK(info.size == GOOD_SIZE && strcmp(info.revision, "unknown") != 0);
  EXPECT(PGET_OK, parallel_get("ais://ranges/good", options, check_write, &next, &error));
  CHECK(next == GOOD_SIZE);
  next = 0;
  EXPECT(PGET_ERR_CHECKSUM, parallel_get("ais://ranges/damaged", options, check_write, &next, &error));
  CHECK(next < GOOD_SIZE);
  EXPECT(PGET_ERR_NOT_FOUND, parallel_get("ais://ranges/missing", options, check_write, &next, &error));
  pget_options_free(options);
  verification();
  puts("ok");
  return 0;
}
