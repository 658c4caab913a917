# Builds and installs the program, and the files that C, C++ and Go programs need.
#
#   make install PREFIX=/usr/local [DESTDIR=/tmp/stage]
#
# LIBS is the folder of a libpget.so and a libpget.a that were built elsewhere. With LIBS, make
# builds nothing. It installs a program in that folder as well.

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
needs := lib program
PROGRAM := $(RELEASE)/pget
endif
PROGRAM ?= $(wildcard $(LIBS)/pget)

fill = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|'

.PHONY: version help check test test-all lib program install uninstall deb rehearse header docs fuzz bench bench-baseline bench-compare
.DEFAULT_GOAL := help

help:
	@echo 'make check      format and lints'
	@echo 'make test       the fast loop: tests that need Rust only'
	@echo 'make test-all   everything; installs what it needs'
	@echo 'make lib        libpget.so and libpget.a in target/release'
	@echo 'make program    target/release/pget'
	@echo 'make install    program, completions, manual, library, headers, pkg-config and CMake files (PREFIX=, DESTDIR=)'
	@echo 'make deb        a Debian package of the same in dist/'
	@echo 'make rehearse   a release without a registry, and a program in each language against it'
	@echo 'make uninstall  removes them'
	@echo 'make header     writes include/pget.h from ffi/'
	@echo 'make docs       the API documentation'
	@echo 'make fuzz       each fuzz target for a minute'
	@echo 'make bench      every figure that has a goal'
	@echo 'make bench-baseline  saves what the micro-benchmarks measure (BENCH=part of a name)'
	@echo 'make bench-compare   the micro-benchmarks against that baseline'

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -p pget-core -p pget-http -p pget-file -p pget-shm -- -D warnings

# The simulation plays a tenth of its downloads. One test is left out, because it installs libraries
# of Python. test-all has both.
test:
	PGET_SEEDS=1000 $(CARGO) test -q --locked -p pget-core -p pget-file -p pget-shm
	$(CARGO) test -q --locked -p pget-http -p pget-aistore -p pget-s3 -p libpget --lib -- \
		--skip the_official_libraries_come_to_the_same

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

bench-baseline:
	benches/micro.sh save $(BENCH)

bench-compare:
	benches/micro.sh compare $(BENCH)

# Cargo names the library without its version. Programs look for the soname, even if they use the
# library in this folder.
lib:
	$(CARGO) build --release --locked -p pget-ffi
	ln -sf libpget.so $(RELEASE)/$(SONAME)

# Prints the version for scripts.
version:
	@echo '$(VERSION)'

program:
	$(CARGO) build --release --locked -p pget-cli

deb:
	scripts/deb.sh

rehearse:
	scripts/release-rehearsal.sh

install: $(needs)
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/pget' '$(DESTDIR)$(INCLUDEDIR)'
	scripts/install-stripped.sh '$(LIBS)/libpget.so' '$(DESTDIR)$(LIBDIR)/libpget.so.$(VERSION)'
	ln -sf libpget.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libpget.so'
	install -m 644 '$(LIBS)/libpget.a' '$(DESTDIR)$(LIBDIR)/libpget.a'
	-strip --strip-debug '$(DESTDIR)$(LIBDIR)/libpget.a'
	install -m 644 include/pget.h include/pget.hpp '$(DESTDIR)$(INCLUDEDIR)'
	$(fill) ffi/pget.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/pget.pc'
	$(fill) ffi/pget-static.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/pget-static.pc'
	$(fill) ffi/cmake/pget-config.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/pget/pget-config.cmake'
	$(fill) ffi/cmake/pget-config-version.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/pget/pget-config-version.cmake'
	$(if $(PROGRAM),scripts/install-program.sh '$(PROGRAM)' '$(DESTDIR)$(PREFIX)')

uninstall:
	rm -f '$(DESTDIR)$(LIBDIR)'/libpget.so* '$(DESTDIR)$(LIBDIR)/libpget.a' '$(DESTDIR)$(LIBDIR)'/pkgconfig/pget.pc '$(DESTDIR)$(LIBDIR)'/pkgconfig/pget-static.pc
	rm -rf '$(DESTDIR)$(LIBDIR)/cmake/pget'
	rm -f '$(DESTDIR)$(INCLUDEDIR)/pget.h' '$(DESTDIR)$(INCLUDEDIR)/pget.hpp' '$(DESTDIR)$(LIBDIR)/.debug'/libpget.so.*.debug
	rm -f '$(DESTDIR)$(PREFIX)/bin/pget' '$(DESTDIR)$(PREFIX)/bin/.debug/pget.debug' '$(DESTDIR)$(PREFIX)/share/man/man1'/pget.1 '$(DESTDIR)$(PREFIX)/share/man/man1'/pget-*.1
	rm -f '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pget' '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pget' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pget.fish'
