// Shared memory through the C++ header: create, reuse, attach, wait, move, close, fail.
#include "pget.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>

#define CHECK(what)                                                      \
  do {                                                                   \
    if (!(what)) {                                                       \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
      std::exit(1);                                                      \
    }                                                                    \
  } while (0)

// ffi/tests/c/check.h has the same values.
static const std::size_t good_size = 5 * 1024 * 1024 + 123, small_size = 1000;

static std::uint8_t byte_at(std::uint64_t offset) {
  std::uint64_t z = std::uint64_t(7 + 1) * 0xd6e8feb86659fd93u + offset / 8 * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 32)) * 0xbf58476d1ce4e5b9u;
  z ^= z >> 29;
  return std::uint8_t(z >> (offset % 8 * 8));
}

static bool is_right(pget::view bytes) {
  for (std::size_t i = 0; i < bytes.size(); i++)
    if (bytes[i] != byte_at(i)) return false;
  return true;
}

template <typename Call>
static pget_status thrown(Call call) {
  try {
    call();
  } catch (const pget::error &error) {
    return error.status();
  }
  return PGET_OK;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  const std::string base = argv[1], name = "pget-cpp-" + std::to_string(getpid());
  pget::options how;
  how.chunk_size(256 * 1024).concurrency(4).verify("auto").gap(4096);
  CHECK(thrown([] { pget::options().verify("perhaps"); }) == PGET_ERR_INVALID_ARGUMENT);
  pget::options strict;
  strict.verify("require");
  CHECK(thrown([&] { pget::get(base + "/good", [](pget::view, std::uint64_t) {}, strict); }) == PGET_ERR_UNVERIFIABLE);

  for (const std::string &wanted : {name, std::string()}) {
    pget::shared object = pget::shared::begin(base + "/good", wanted, how);
    const std::string told = object.name();
    CHECK(object.size() == good_size && (wanted.empty() || told == wanted));
    std::thread reader([&] {
      pget::shared attached = pget::shared::open(told);
      std::size_t done = 0;
      while (done < attached.size()) {
        pget::view there = attached.wait(done + 1);
        CHECK(there.size() > done && is_right(there));
        done = there.size();
      }
      CHECK(attached.revision().substr(0, 5) == "etag ");
    });
    CHECK(object.wait().size() == good_size && object.state() == PGET_SHARED_COMPLETE);
    reader.join();
    // The next object is fetched into the same memory.
    const std::uint8_t *data = object.data();
    pget::shared next = pget::shared::get(base + "/small", std::move(object), how);
    CHECK(object.get() == nullptr && object.available().empty() && object.size() == 0);
    CHECK(next.name() == told && next.data() == data);
    CHECK(next.available().size() == small_size && is_right(next.available()));
    object = pget::shared::begin(base + "/good", std::move(next), how);
    pget::cancel never;
    CHECK(object.name() == told && is_right(object.wait(UINT64_MAX, UINT64_MAX, &never)));
    object = pget::shared::get(base + "/small", std::move(object), how);
    CHECK(object.name() == told && is_right(object.wait()));
    object.close();
    object.close();
    CHECK(object.size() == 0 && object.name().empty() && object.state() == PGET_SHARED_NONE);
    CHECK(thrown([&] { pget::shared::open(told); }) == PGET_ERR_NOT_FOUND);
  }

  CHECK(thrown([&] { pget::shared::get(base + "/missing", name, how); }) == PGET_ERR_NOT_FOUND);
  CHECK(thrown([&] { pget::shared::get(base + "/small", "a/b"); }) == PGET_ERR_INVALID_ARGUMENT);
  pget::shared stalls = pget::shared::begin(base + "/stalls", name, how);
  CHECK(thrown([&] { stalls.wait(UINT64_MAX, 10); }) == PGET_ERR_TIMEOUT);
  pget::cancel cancel;
  cancel.trigger();
  CHECK(thrown([&] { stalls.wait(UINT64_MAX, UINT64_MAX, &cancel); }) == PGET_ERR_CANCELLED);
  CHECK(thrown([&] { pget::shared::get(base + "/small", std::move(stalls)); }) == PGET_ERR_INVALID_ARGUMENT);
  CHECK(thrown([&] { pget::shared::open(name); }) == PGET_ERR_NOT_FOUND);
  std::puts("ok");
  return 0;
}
