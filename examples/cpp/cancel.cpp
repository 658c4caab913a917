// Cancels a download from another thread after the first piece has arrived.
//
//   c++ -std=c++17 -o cancel cancel.cpp $(pkg-config --cflags --libs pget) -lpthread
#include <future>
#include <iostream>
#include <pget.hpp>
#include <thread>

int main(int argc, char **argv) try {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " URL\n";
    return 2;
  }
  pget::cancel cancel;
  pget::options how;
  how.cancel_with(cancel);
  std::promise<void> begun;
  std::thread other([&] {
    begun.get_future().wait();
    cancel.trigger();
  });
  bool told = false;
  std::exception_ptr failure;
  try {
    pget::get(argv[1], [&](pget::view, std::uint64_t) {
      if (!told) begun.set_value();
      told = true;
    }, how);
  } catch (...) {
    failure = std::current_exception();
  }
  if (!told) begun.set_value();
  other.join();
  if (failure) std::rethrow_exception(failure);
  std::cout << "complete before it could be cancelled\n";
} catch (const pget::error &failure) {
  std::cout << pget_status_name(failure.status()) << '\n';
  return failure.status() == PGET_ERR_CANCELLED ? 0 : 1;
}
