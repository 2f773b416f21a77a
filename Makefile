# SPDX-License-Identifier: Apache-2.0
# The commands for a fresh Debian 12 machine; CMakePresets.json has the rest.
.PHONY: help build test run docs format clean

export JOBS ?= $(shell nproc)

help:
	@echo "make build   install what is missing, build build/release/metro"
	@echo "make test    build and run all tests"
	@echo "make run     compare policies on the shipped traces, make the paper's figures again,"
	@echo "             write build/run/report.html"
	@echo "make docs    build the documentation as a site, build/site/index.html"
	@echo "make format  format the sources"
	@echo "make clean   delete build/"

build: build/release/build.ninja
	@cmake --build --preset release -j $(JOBS) --target metro_cli
	@echo "Built build/release/metro"

test: build/release/build.ninja
	@cmake --build --preset release -j $(JOBS)
	@tools/run_ctest.sh build/release

run: build
	@tools/run_headline.sh build/release/metro build/run

# Always asked: both steps are instant when there is nothing to do.
.PHONY: build/release/build.ninja
build/release/build.ninja:
	@tools/install_deps.sh build
	@cmake --preset release $(CMAKE_ARGS)

docs:
	@tools/build_site.sh

format:
	@tools/format.sh

clean:
	rm -rf build
