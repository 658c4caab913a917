/* From AIStore, whose address comes as a property; and what only it gives: a checksum for each range, which damaged bytes do not have. */
#include "check.h"

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
  puts("ok");
  return 0;
}
