// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

#include "metro/error.hpp"

/// The command line: one file per subcommand, each with one `add_...` function that main.cpp lists.
///
///     void add_place(CLI::App& app) {
///       auto options = std::make_shared<PlaceOptions>();  // derives from CommonOptions
///       CLI::App* command = add_command(app, "place", "Places ...", *options);
///       add_int(*command, "--gpus", options->gpus, {.min = 1}, "GPUs")->required();
///       command->callback([options] { run(*options); });
///     }
///
/// The callback runs after the whole command line was checked. It throws metro::Error, whose code
/// is the exit code, and prints once, at its very end (`print` in output.hpp), so that stdout stays
/// empty on any error. Faults that the command line alone shows are thrown before files are opened.
namespace metro::cli {

/// What every command takes.
struct CommonOptions {
  bool json = false;
  bool wide = false;
  std::uint64_t seed = 0;
};

/// A subcommand that only holds others, of which one must be given.
CLI::App* add_group(CLI::App& parent, const std::string& name, const std::string& summary);

/// A subcommand with --json, --seed, --help and --version. `options` must outlive parsing: the
/// command's callback keeps it.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      CommonOptions& options);

/// Calls `work`; a library error that could not know the file is told with its name in front.
template <typename Work>
auto naming(const std::filesystem::path& file, Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(error.code(), file.string() + ": " + error.what());
  }
}

void add_place(CLI::App& app);
void add_policies(CLI::App& app);
void add_route(CLI::App& app);
void add_trace(CLI::App& app);
void add_compare(CLI::App& app);
void add_bench(CLI::App& app);
void add_bench_layer(CLI::App& bench);
void add_calibrate(CLI::App& app);
void add_simulate(CLI::App& app);
void add_sweep(CLI::App& app);
void add_validate(CLI::App& app);
void add_advise(CLI::App& app);
void add_reproduce(CLI::App& app);
void add_report(CLI::App& app);
void add_completion(CLI::App& app);

}  // namespace metro::cli
