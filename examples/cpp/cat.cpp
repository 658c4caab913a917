// Writes an object to standard output, in order, while it is being fetched in parallel.
//
//   c++ -std=c++17 -o cat cat.cpp $(pkg-config --cflags --libs pget)
//   ./cat https://host/object > file
#include <cstdio>
#include <pget.hpp>

int main(int argc, char **argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s URL\n", argv[0]);
    return 2;
  }
  pget::reader object(argv[1]);
  for (pget::view bytes : object) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) return 1;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const pget::error &failure) {
  std::fprintf(stderr, "%s\n", failure.what());
  return 1;
}
