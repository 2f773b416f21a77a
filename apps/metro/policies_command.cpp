// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include "command.hpp"
#include "output.hpp"
#include "report/policies_result.hpp"
#include "report/result.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

struct PoliciesOptions : CommonOptions {
  bool algorithms = false;
  bool markdown = false;
};

std::string text_of(const PoliciesOptions& options) {
  if (options.json) {
    return report::to_text(options.algorithms ? report::algorithms_result()
                                              : report::policies_result());
  }
  if (options.markdown) {
    return options.algorithms ? report::algorithms_markdown() : report::policies_markdown();
  }
  return options.algorithms ? report::algorithms_table(table_width(options.wide))
                            : report::policies_table(table_width(options.wide));
}

}  // namespace

void add_policies(CLI::App& app) {
  auto options = std::make_shared<PoliciesOptions>();
  CLI::App* command = add_command(
      app, "policies", "List the routing policies, or the placements, and their facts", *options);
  command->add_flag("--algorithms", options->algorithms, "Placements instead of policies");
  command->add_flag("--markdown", options->markdown, "A table for a page (docs/policies.md)");
  command->footer("Example: metro policies --json\nWhat each column means: docs/policies.md");
  command->callback([options] { print(text_of(*options)); });
}

}  // namespace metro::cli
