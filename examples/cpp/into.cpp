// Reads an object directly into a vector, then again through std::istream, and compares the bytes.
//
//   c++ -std=c++17 -o into into.cpp $(pkg-config --cflags --libs pget) && ./into s3://bucket/key
#include <algorithm>
#include <iostream>
#include <iterator>
#include <pget.hpp>
#include <vector>

int main(int argc, char **argv) try {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " URL\n";
    return 2;
  }
  pget::info info = pget::stat(argv[1]);
  std::vector<char> bytes(static_cast<std::size_t>(info.size));
  std::size_t length = pget::get_into(argv[1], bytes.data(), bytes.size());

  pget::istream stream(argv[1]);
  stream.exceptions(std::ios::badbit);
  bool same = std::equal(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>(),
                         bytes.begin(), bytes.end());
  std::cout << length << " bytes, " << info.revision << (same ? ", twice the same\n" : ", NOT the same\n");
  return same ? 0 : 1;
} catch (const pget::error &failure) {
  std::cerr << failure.what() << '\n';
  return 1;
}
