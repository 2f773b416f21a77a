// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "command.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "shell_files.hpp"

namespace metro::cli {
namespace {

struct CompletionOptions : CommonOptions {
  std::string shell = "bash";
  std::filesystem::path write;
};

std::string write_all(const CLI::App& program, const std::filesystem::path& folder) {
  const auto files = shell_files(program);
  for (const auto& [name, text] : files) {
    std::error_code error;
    std::filesystem::create_directories((folder / name).parent_path(), error);
    io::write_file(folder / name, text);
  }
  return fmt::format("{}: {} files written\n", folder.string(), files.size());
}

void run(const CompletionOptions& options, const CLI::App& program) {
  const std::string text = options.write.empty() ? completion_script(program, options.shell)
                                                 : write_all(program, options.write);
  if (!options.json) {
    print(text);
    return;
  }
  auto result = report::make_result("completion", report::Evidence::kMeasured, options.seed, {});
  result["shell"] = options.shell;
  result["text"] = text;
  print(report::to_text(result));
}

}  // namespace

void add_completion(CLI::App& app) {
  auto options = std::make_shared<CompletionOptions>();
  CLI::App* command = add_command(
      app, "completion", "Print what completes metro's commands and options in a shell", *options);
  add_name(*command, "--shell", options->shell, kShells, "bash (default), zsh or fish");
  add_path(*command, "--write", options->write,
           "Instead: write the files of all shells and the manual pages below this folder, as "
           "share/ of an installation has them");
  command->footer("Example: source <(metro completion)");
  command->callback([options, &app] { run(*options, app); });
}

}  // namespace metro::cli
