/* Loads the library with dlopen, uses it, closes it with dlclose, and repeats that.
 *
 * The library must stay mapped, because its threads continue. This program is not linked with
 * it. */
#include "check.h"

#include <dlfcn.h>

typedef pget_status (*get_fn)(const char *, const pget_options *, pget_write_fn, void *, pget_error **);

int main(int argc, char **argv) {
  int turn;
  CHECK(argc == 3);
  base = argv[1];
  for (turn = 0; turn < 20; turn++) {
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    get_fn get;
    uint64_t next = 0;
    if (!library) fprintf(stderr, "%s\n", dlerror());
    CHECK(library);
    *(void **)&get = dlsym(library, "parallel_get");
    CHECK(get && get(at("/good"), NULL, check_write, &next, NULL) == PGET_OK && next == GOOD_SIZE);
    CHECK(dlclose(library) == 0);
    /* The library is marked not to be unloaded, so it is still there. */
    library = dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD);
    CHECK(library && dlclose(library) == 0);
  }
  puts("ok");
  return 0;
}
