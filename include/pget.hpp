// pget for C++17: the C library with handles that close themselves, exceptions, views of the bytes,
// and std::istream.
//
// Header only; link with libpget (pkg-config pget, or CMake's pget::pget). Threads and callbacks:
// as pget.h says. A callback of this header may throw: the exception stops the download and comes
// out of the call.
#ifndef PGET_HPP
#define PGET_HPP

#include "pget.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <istream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <type_traits>
#include <utility>

namespace pget {

// The loaded library's version.
inline std::string version() { return pget_version(); }

// A failed call: its status, one of pget_status_code, and what happened, in one line.
class error : public std::runtime_error {
 public:
  error(pget_status status, const std::string &message, std::uint64_t needed = 0)
      : std::runtime_error(message), status_(status), needed_(needed) {}

  pget_status status() const noexcept { return status_; }

  // With PGET_ERR_BUFFER_TOO_SMALL: how many bytes the buffer must have; 0 if that is not known.
  std::uint64_t needed() const noexcept { return needed_; }

 private:
  pget_status status_;
  std::uint64_t needed_;
};

namespace detail {

template <typename T, void (*Free)(T *)>
struct freed {
  void operator()(T *handle) const noexcept { Free(handle); }
};
template <typename T, void (*Free)(T *)>
using handle = std::unique_ptr<T, freed<T, Free>>;

// Throws what the call failed with. Takes the error object.
inline void check(pget_status status, pget_error *object) {
  handle<pget_error, pget_error_free> owned(object);
  if (status >= 0) return;
  if (!owned) throw error(status, pget_status_name(status));
  throw error(status, pget_error_message(owned.get()), pget_error_needed(owned.get()));
}

inline void check(pget_status status) { check(status, nullptr); }

inline void allocated(const void *handle) {
  if (!handle) throw error(PGET_ERR_FORKED, pget_status_name(PGET_ERR_FORKED));
}

}  // namespace detail

// Stops the calls and readers whose options name it; from any thread, before, during and after.
class cancel {
 public:
  cancel() : handle_(pget_cancel_new()) { detail::allocated(handle_.get()); }

  void trigger() const noexcept { pget_cancel_trigger(handle_.get()); }
  const pget_cancel *get() const noexcept { return handle_.get(); }

 private:
  detail::handle<pget_cancel, pget_cancel_free> handle_;
};

// How to read. Setters may be chained; each throws error for a value out of range. Times are
// milliseconds.
class options {
 public:
  options() : handle_(pget_options_new()) { detail::allocated(handle_.get()); }

  // Written by scripts/header.sh from pget.h.
  options &chunk_size(std::uint64_t bytes) {
    return set(pget_options_set_chunk_size(get(), bytes));
  }
  options &concurrency(std::uint32_t requests) {
    return set(pget_options_set_concurrency(get(), requests));
  }
  options &window(std::uint32_t chunks) { return set(pget_options_set_window(get(), chunks)); }
  options &gap(std::uint64_t bytes) { return set(pget_options_set_gap(get(), bytes)); }
  options &retries(std::uint32_t retries) { return set(pget_options_set_retries(get(), retries)); }
  options &retry_timeout(std::uint64_t milliseconds) {
    return set(pget_options_set_retry_timeout(get(), milliseconds));
  }
  options &connect_timeout(std::uint64_t milliseconds) {
    return set(pget_options_set_connect_timeout(get(), milliseconds));
  }
  options &first_byte_timeout(std::uint64_t milliseconds) {
    return set(pget_options_set_first_byte_timeout(get(), milliseconds));
  }
  options &stall_timeout(std::uint64_t milliseconds) {
    return set(pget_options_set_stall_timeout(get(), milliseconds));
  }
  options &memory_limit(std::uint64_t bytes) {
    return set(pget_options_set_memory_limit(get(), bytes));
  }
  options &threads(std::uint32_t threads) { return set(pget_options_set_threads(get(), threads)); }
  // End of what scripts/header.sh writes.

  options &range(std::uint64_t offset, std::uint64_t length = UINT64_MAX) {
    return set(pget_options_set_range(get(), offset, length));
  }
  options &resume(bool yes = true) { return set(pget_options_set_resume(get(), yes)); }
  options &sync(bool yes = true) { return set(pget_options_set_sync(get(), yes)); }
  options &verify(const std::string &how) { return set(pget_options_set_verify(get(), how.c_str())); }
  options &property(const std::string &key, const std::string &value) {
    return set(pget_options_set_property(get(), key.c_str(), value.c_str()));
  }
  options &header(const std::string &name, const std::string &value) {
    return set(pget_options_set_header(get(), name.c_str(), value.c_str()));
  }
  // The function must not throw, and the context must outlive what is read with these options.
  options &progress(pget_progress_fn function, void *context) {
    return set(pget_options_set_progress(get(), function, context));
  }
  options &cancel_with(const cancel &by) { return set(pget_options_set_cancel(get(), by.get())); }

  pget_options *get() const noexcept { return handle_.get(); }

 private:
  options &set(pget_status status) {
    detail::check(status);
    return *this;
  }

  detail::handle<pget_options, pget_options_free> handle_;
};

// Bytes of the object, where they were received. Valid until the next call on the reader that gave
// it, or the close of the shared memory that did.
class view {
 public:
  view() = default;
  view(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

  const std::uint8_t *data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const std::uint8_t *begin() const noexcept { return data_; }
  const std::uint8_t *end() const noexcept { return data_ + size_; }
  std::uint8_t operator[](std::size_t index) const noexcept { return data_[index]; }

 private:
  const std::uint8_t *data_ = nullptr;
  std::size_t size_ = 0;
};

// What is known of an object.
struct info {
  std::uint64_t size;        // UINT64_MAX if the server does not say
  std::uint64_t offset;      // of the first byte that is read
  std::uint64_t length;      // bytes to be read in all; UINT64_MAX if not known
  std::uint64_t chunk_size;  // bytes in a range
  std::string revision;
};

namespace detail {
inline pget_info sized_info() {
  pget_info raw{};
  raw.struct_size = sizeof raw;
  return raw;
}
inline info told(const pget_info &raw) {
  return {raw.size, raw.offset, raw.length, raw.chunk_size, raw.revision};
}
}  // namespace detail

// Size and revision, without reading.
inline info stat(const std::string &url, const options &how = options()) {
  pget_info raw = detail::sized_info();
  pget_error *failure = nullptr;
  pget_status status = pget_stat(url.c_str(), how.get(), &raw, &failure);
  detail::check(status, failure);
  return detail::told(raw);
}

// Reads one object in order. Used by one thread at a time, but cancel may come from any.
//
//   for (pget::view bytes : pget::reader("ais://bucket/object"))
//     consume(bytes.data(), bytes.size());
class reader {
 public:
  explicit reader(const std::string &url, const options &how = options()) {
    pget_reader *raw = nullptr;
    pget_error *failure = nullptr;
    pget_status status = pget_open(url.c_str(), how.get(), &raw, &failure);
    handle_.reset(raw);
    detail::check(status, failure);
  }

  // The next bytes, without a copy; an empty view at the end.
  view next() {
    const std::uint8_t *data = nullptr;
    std::size_t length = 0;
    pget_error *failure = nullptr;
    pget_status status = pget_reader_next(get(), &data, &length, &failure);
    detail::check(status, failure);
    return {data, length};
  }

  // Copies up to capacity bytes, as many as there are; 0 at the end.
  std::size_t read(void *buffer, std::size_t capacity) {
    std::size_t length = 0;
    pget_error *failure = nullptr;
    pget_status status = pget_reader_read(get(), buffer, capacity, &length, &failure);
    detail::check(status, failure);
    return length;
  }

  pget::info info() const {
    pget_info raw = detail::sized_info();
    pget_error *failure = nullptr;
    pget_status status = pget_reader_info(get(), &raw, &failure);
    detail::check(status, failure);
    return detail::told(raw);
  }

  pget_stats stats() const {
    pget_stats raw{};
    raw.struct_size = sizeof raw;
    pget_error *failure = nullptr;
    pget_status status = pget_reader_stats(get(), &raw, &failure);
    detail::check(status, failure);
    return raw;
  }

  void cancel() noexcept { pget_reader_cancel(get()); }
  pget_reader *get() const noexcept { return handle_.get(); }

  // An input iterator over views.
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = view;
    using difference_type = std::ptrdiff_t;
    using pointer = const view *;
    using reference = const view &;

    iterator() = default;
    explicit iterator(reader *of) : of_(of) { ++*this; }

    reference operator*() const noexcept { return bytes_; }
    pointer operator->() const noexcept { return &bytes_; }
    iterator &operator++() {
      bytes_ = of_->next();
      if (bytes_.empty()) of_ = nullptr;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(const iterator &other) const noexcept { return of_ == other.of_; }
    bool operator!=(const iterator &other) const noexcept { return of_ != other.of_; }

   private:
    reader *of_ = nullptr;
    view bytes_;
  };

  iterator begin() { return iterator(this); }
  iterator end() noexcept { return iterator(); }

 private:
  detail::handle<pget_reader, pget_reader_close> handle_;
};

// The bytes of a reader for what takes a std::streambuf, without a copy of its own. It cannot seek.
class streambuf : public std::streambuf {
 public:
  explicit streambuf(reader from) : from_(std::move(from)) {}

  reader &source() noexcept { return from_; }

 protected:
  int_type underflow() override {
    if (gptr() == egptr()) {
      view bytes = from_.next();
      if (bytes.empty()) return traits_type::eof();
      // A get area of std::streambuf is of char *; nothing writes through it, as there is no
      // pbackfail.
      char *start = const_cast<char *>(reinterpret_cast<const char *>(bytes.data()));
      setg(start, start, start + bytes.size());
    }
    return traits_type::to_int_type(*gptr());
  }

 private:
  reader from_;
};

// std::istream over an object. As streams do, it turns exceptions into badbit; call
// exceptions(std::ios::badbit) to get them.
class istream : public std::istream {
 public:
  explicit istream(const std::string &url, const options &how = options())
      : std::istream(nullptr), buffer_(reader(url, how)) {
    rdbuf(&buffer_);
  }

  reader &source() noexcept { return buffer_.source(); }

 private:
  streambuf buffer_;
};

// An object in shared memory, whole or arriving, in the process that fetches it or in one that has
// attached (Linux). Its end closes it. Any number of threads may use it at once; close and move by
// one, while no other process does.
//
//   // Elsewhere: pget::shared::open("dataset").
//   pget::shared object = pget::shared::begin("ais://bucket/object", "dataset");
//   for (std::size_t done = 0; done < object.size();) {
//     pget::view there = object.wait(done + 1);
//     consume(there.data() + done, there.size() - done);
//     done = there.size();
//   }
class shared {
 public:
  // Reads into new shared memory, and waits until all is there. A name is a POSIX name, which must
  // be free; without one, name() returns what to attach by.
  static shared get(const std::string &url, const std::string &name = {}, const options &how = options()) {
    return whole(begin(url, name, how));
  }
  // The same into the memory of an object before, which is closed however this ends.
  static shared get(const std::string &url, shared &&old, const options &how = options()) {
    return whole(begin(url, std::move(old), how));
  }
  // Returns as soon as it is known how long the object is; the download goes on, and ends with the
  // close.
  static shared begin(const std::string &url, const std::string &name = {}, const options &how = options()) {
    return made(url, how, name.empty() ? nullptr : name.c_str(), nullptr);
  }
  static shared begin(const std::string &url, shared &&old, const options &how = options()) {
    pget_shared *reuse = old.handle_.release();
    if (!reuse) detail::check(PGET_ERR_INVALID_ARGUMENT, nullptr);
    return made(url, how, nullptr, reuse);
  }
  // Attaches to what this or another process of the same user has made.
  static shared open(const std::string &name) {
    pget_shared *raw = nullptr;
    pget_error *failure = nullptr;
    pget_status status = pget_shared_open(name.c_str(), &raw, &failure);
    detail::check(status, failure);
    return shared(raw);
  }

  // Waits until the first so many bytes are there, and returns all that are; for size() or more,
  // until the object is known to be complete. After a number of milliseconds it is
  // PGET_ERR_TIMEOUT, when by is triggered PGET_ERR_CANCELLED.
  view wait(std::uint64_t bytes = UINT64_MAX, std::uint64_t timeout = UINT64_MAX, const cancel *by = nullptr) const {
    pget_error *failure = nullptr;
    std::size_t there = 0;
    pget_status status = pget_shared_wait(get(), bytes, timeout, by ? by->get() : nullptr, &there, &failure);
    detail::check(status, failure);
    return {data(), there};
  }
  // What is there, without waiting; nothing after the close.
  view available() const noexcept { return {data(), pget_shared_available(get())}; }

  // Only what is there may be read, and nothing may be written.
  const std::uint8_t *data() const noexcept { return pget_shared_data(get()); }
  // Bytes of the object, there or not.
  std::size_t size() const noexcept { return pget_shared_length(get()); }
  // One of the values of pget_shared_state_code.
  std::int32_t state() const noexcept { return pget_shared_state(get()); }
  std::string name() const { return text(pget_shared_name(get())); }
  std::string revision() const { return text(pget_shared_revision(get())); }

  // Lets go of it; views of it are gone. A second call does nothing.
  void close() noexcept { handle_.reset(); }
  pget_shared *get() const noexcept { return handle_.get(); }

 private:
  explicit shared(pget_shared *raw) : handle_(raw) {}

  static shared made(const std::string &url, const options &how, const char *name, pget_shared *reuse) {
    pget_shared *raw = nullptr;
    pget_error *failure = nullptr;
    pget_status status = pget_shared_begin(url.c_str(), how.get(), name, reuse, &raw, &failure);
    detail::check(status, failure);
    return shared(raw);
  }
  static shared whole(shared begun) {
    begun.wait();
    return begun;
  }
  static std::string text(const char *of) { return of ? of : ""; }

  detail::handle<pget_shared, pget_shared_close> handle_;
};

// Passes the object to write(view, offset), in order. A write that returns bool stops by false,
// which is PGET_ERR_DESTINATION; one that throws stops too, and the exception comes out of here.
template <typename Write>
void get(const std::string &url, Write &&write, const options &how = options()) {
  struct context {
    std::remove_reference_t<Write> &write;
    std::exception_ptr thrown;
  } state{write, nullptr};
  auto call = [](void *raw, const std::uint8_t *data, std::size_t length, std::uint64_t offset) -> int {
    auto &state = *static_cast<context *>(raw);
    try {
      using result = std::invoke_result_t<std::remove_reference_t<Write> &, view, std::uint64_t>;
      if constexpr (std::is_convertible_v<result, bool>) {
        return state.write(view(data, length), offset) ? 0 : 1;
      } else {
        state.write(view(data, length), offset);
        return 0;
      }
    } catch (...) {
      state.thrown = std::current_exception();
      return 1;
    }
  };
  pget_error *failure = nullptr;
  pget_status status = parallel_get(url.c_str(), how.get(), call, &state, &failure);
  if (state.thrown) {
    pget_error_free(failure);
    std::rethrow_exception(state.thrown);
  }
  detail::check(status, failure);
}

// Reads straight into memory; returns the number of bytes.
inline std::size_t get_into(const std::string &url, void *buffer, std::size_t capacity,
                            const options &how = options()) {
  std::size_t length = 0;
  pget_error *failure = nullptr;
  pget_status status = parallel_get_into(url.c_str(), how.get(), buffer, capacity, &length, &failure);
  detail::check(status, failure);
  return length;
}

// Reads into a file, which appears under its name when it is complete; returns the number of bytes.
inline std::uint64_t get_file(const std::string &url, const std::string &path,
                              const options &how = options()) {
  std::uint64_t length = 0;
  pget_error *failure = nullptr;
  pget_status status = parallel_get_file(url.c_str(), how.get(), path.c_str(), &length, &failure);
  detail::check(status, failure);
  return length;
}

}  // namespace pget

#endif
