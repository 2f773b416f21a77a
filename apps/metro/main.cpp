// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "metro/error.hpp"
#include "options.hpp"
#include "output.hpp"
#include "terminal.hpp"
#include "version.hpp"

namespace metro::cli {
namespace {

constexpr std::array kCommands = {
    add_policies, add_place, add_route,    add_trace,  add_compare,   add_bench,  add_calibrate,
    add_simulate, add_sweep, add_validate, add_advise, add_reproduce, add_report, add_completion};

void add_flags(CLI::App& app) {
  app.set_help_flag("--help,-h", "Print this help and exit");
  app.set_version_flag("--version", version_text(),
                       "Print version, commit and compilers, and exit");
}

/// The deepest subcommand that the command line reached.
CLI::App& reached(CLI::App& app) {
  CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) deepest = deepest->get_subcommands().front();
  return *deepest;
}

/// As it is typed: "trace convert".
std::string full_name(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  if (parent == nullptr || parent->get_parent() == nullptr) return command.get_name();
  return full_name(*parent) + " " + command.get_name();
}

/// CLI11 says what it did not expect; this says what would be right instead.
std::string explain(CLI::App& app, const CLI::ParseError& error) {
  CLI::App& command = reached(app);
  const std::vector<std::string> extras = app.remaining(true);
  const bool is_option = !extras.empty() && extras.front().starts_with('-');
  std::vector<std::string> names;
  if (is_option) {
    for (const CLI::Option* option : command.get_options()) names.push_back(option->get_name());
  } else {
    for (const CLI::App* sub : command.get_subcommands({})) names.push_back(sub->get_name());
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  // Before what is missing: a misspelt option leaves the right one missing.
  if (!extras.empty() && known.empty()) {
    return fmt::format("unexpected argument '{}', '{}' takes options only", extras.front(),
                       full_name(command));
  }
  if (!extras.empty()) {
    return fmt::format("unknown {} '{}'{}, must be one of {}", is_option ? "option" : "command",
                       extras.front(), did_you_mean(extras.front(), known), join(known));
  }
  if (command.get_require_subcommand_min() > 0) {
    return fmt::format("'{}' needs a command, one of {}", full_name(command), join(known));
  }
  return fmt::format("{}, see 'metro {} --help'", error.what(), full_name(command));
}

/// Gives stdin, stdout and stderr, where the caller closed them, something that cannot be written:
/// the next file opened would take their number, and what is printed would go into it.
void occupy_closed_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDONLY));
  }
}

/// `text` with its middle left out when it is longer than `longest` bytes.
std::string cut_middle(std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return std::string(text);
  const auto is_inside_letter = [&](std::size_t at) {  // of UTF-8
    return (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U;
  };
  std::size_t head = longest / 2;
  std::size_t tail = text.size() - longest / 2;
  for (int i = 0; i < 3 && is_inside_letter(head); ++i) --head;
  for (int i = 0; i < 3 && is_inside_letter(tail); ++i) ++tail;
  return fmt::format("{}[... {} bytes ...]{}", text.substr(0, head), tail - head,
                     text.substr(tail));
}

/// One line of stderr for any fault, whatever its text held: a name or value of thousands of
/// letters must not bury what is wrong with it.
int fail(ErrorCode code, std::string message) {
  constexpr std::size_t kLongestWord = 512;
  constexpr std::size_t kLongestLine = 4096;
  std::ranges::replace_if(
      message, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, ' ');
  std::string line;
  for (std::size_t begin = 0; begin < message.size();) {
    const std::size_t end = std::min(message.find(' ', begin), message.size() - 1) + 1;
    line += cut_middle(std::string_view(message).substr(begin, end - begin), kLongestWord);
    begin = end;
  }
  std::fputs(fmt::format("metro: {}\n", cut_middle(line, kLongestLine)).c_str(), stderr);
  return static_cast<int>(code);
}

int run(int argc, const char* const* argv) {
  CLI::App app{"Routes MoE tokens to expert replicas by activated experts, not tokens.", "metro"};
  add_flags(app);
  app.require_subcommand(0, 1);
  app.footer("'metro COMMAND --help' tells more of a command.");
  for (const auto& add : kCommands) add(app);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) {
      return fail(ErrorCode::kUsage, "no command given, see 'metro --help'");
    }
    return 0;
  } catch (const CLI::CallForVersion&) {
    print(version_text());
    return 0;
  } catch (const CLI::Success& success) {  // --help
    std::ostringstream help;
    app.exit(success, help, help);
    const int width = terminal_width(STDOUT_FILENO);
    print(width == 0 ? help.str() : fit_help(help.str(), width));
    return 0;
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::kUsage, explain(app, error));
  }
}

}  // namespace

CLI::App* add_group(CLI::App& parent, const std::string& name, const std::string& summary) {
  CLI::App* group = parent.add_subcommand(name, summary);
  add_flags(*group);
  group->require_subcommand(1);
  return group;
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      CommonOptions& options) {
  CLI::App* command = parent.add_subcommand(name, summary);
  add_flags(*command);
  command->add_flag("--json", options.json, "Print one JSON object instead of a table");
  command->add_flag("--wide", options.wide,
                    "Print all columns of a table, however wide the terminal is");
  add_uint64(*command, "--seed", options.seed, "Seed of everything random (default 0)");
  return command;
}

}  // namespace metro::cli

int main(int argc, char** argv) {
  using metro::ErrorCode;
  // A closed pipe or a file at its size limit is an error of write(), not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  metro::cli::occupy_closed_streams();
  try {
    return metro::cli::run(argc, argv);
  } catch (const metro::cli::ReaderGone&) {
    return 0;
  } catch (const metro::Error& error) {
    return metro::cli::fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return metro::cli::fail(ErrorCode::kInfeasible, "out of memory");
  } catch (const std::exception& error) {
    return metro::cli::fail(ErrorCode::kInput, error.what());
  }
}
