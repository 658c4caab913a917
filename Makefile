# Builds and installs what C, C++ and Go programs need: `make install PREFIX=/usr/local [DESTDIR=/tmp/stage]`.
# For a build that was made elsewhere, LIBS is the folder of its libpget.so and libpget.a, and nothing is built.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
CARGO ?= cargo

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
SONAME := libpget.so.0
RELEASE := target/release

ifdef LIBS
needs :=
else
LIBS := $(RELEASE)
needs := lib
endif

fill = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|'

.PHONY: help check test test-all lib install uninstall header docs fuzz bench
.DEFAULT_GOAL := help

help:
	@echo 'make check      format and lints'
	@echo 'make test       the fast loop: tests that need Rust only'
	@echo 'make test-all   everything; installs what it needs'
	@echo 'make lib        libpget.so and libpget.a in target/release'
	@echo 'make install    library, headers, pkg-config and CMake files (PREFIX=, DESTDIR=)'
	@echo 'make uninstall  removes them'
	@echo 'make header     writes include/pget.h from ffi/'
	@echo 'make docs       the API documentation'
	@echo 'make fuzz       each fuzz target for a minute'
	@echo 'make bench      every figure that has a goal'

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -p pget-core -p pget-http -p pget-file -p pget-shm -- -D warnings

test:
	$(CARGO) test -q --locked -p pget-core -p pget-file -p pget-shm
	$(CARGO) test -q --locked -p pget-http -p pget-aistore -p pget-s3 -p libpget --lib

test-all:
	scripts/test.sh

header:
	scripts/header.sh

docs:
	$(CARGO) doc --workspace --no-deps --locked

fuzz:
	scripts/fuzz.sh

bench:
	benches/all.sh

# Cargo names the file without the version; programs look for the soname, also those that use it from here.
lib:
	$(CARGO) build --release --locked -p pget-ffi
	ln -sf libpget.so $(RELEASE)/$(SONAME)

install: $(needs)
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/pget' '$(DESTDIR)$(INCLUDEDIR)'
	install -m 755 '$(LIBS)/libpget.so' '$(DESTDIR)$(LIBDIR)/libpget.so.$(VERSION)'
	ln -sf libpget.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libpget.so'
	install -m 644 '$(LIBS)/libpget.a' '$(DESTDIR)$(LIBDIR)/libpget.a'
	install -m 644 include/pget.h include/pget.hpp '$(DESTDIR)$(INCLUDEDIR)'
	$(fill) ffi/pget.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/pget.pc'
	$(fill) ffi/pget-static.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/pget-static.pc'
	$(fill) ffi/cmake/pget-config.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/pget/pget-config.cmake'
	$(fill) ffi/cmake/pget-config-version.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/pget/pget-config-version.cmake'

uninstall:
	rm -f '$(DESTDIR)$(LIBDIR)'/libpget.so* '$(DESTDIR)$(LIBDIR)/libpget.a' '$(DESTDIR)$(LIBDIR)'/pkgconfig/pget.pc '$(DESTDIR)$(LIBDIR)'/pkgconfig/pget-static.pc
	rm -rf '$(DESTDIR)$(LIBDIR)/cmake/pget'
	rm -f '$(DESTDIR)$(INCLUDEDIR)/pget.h' '$(DESTDIR)$(INCLUDEDIR)/pget.hpp'
