// SPDX-License-Identifier: Apache-2.0
#include "shell_files.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace metro::cli {
namespace {

using Names = std::vector<std::string>;

/// A command with the words that lead to it: {} is the program, {"trace", "info"} one of its.
struct Node {
  const CLI::App* app;
  Names path;
};

Names names_of_subcommands(const CLI::App& app) {
  Names names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

void collect(const CLI::App& app, const Names& path, std::vector<Node>& nodes) {
  nodes.push_back({&app, path});
  for (const CLI::App* sub : app.get_subcommands({})) {
    Names deeper = path;
    deeper.push_back(sub->get_name());
    collect(*sub, deeper, nodes);
  }
}

std::vector<Node> all_commands(const CLI::App& program) {
  std::vector<Node> nodes;
  collect(program, {}, nodes);
  return nodes;
}

/// "-o", "--output"; none for a positional argument.
Names spellings(const CLI::Option& option) {
  Names names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

Names spellings(const CLI::App& app) {
  Names names;
  for (const CLI::Option* option : app.get_options()) {
    for (std::string& name : spellings(*option)) names.push_back(std::move(name));
  }
  return names;
}

/// The first line of a description, without what a shell or roff would read.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string shell_word(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// In every shell the words before the cursor lead down the commands; then the options and commands
// of the one that was reached are offered, and files where none fits.

std::string bash(const std::vector<Node>& nodes) {
  std::string cases;
  std::string steps;
  for (const Node& node : nodes) {
    const std::string path = fmt::format("{}", fmt::join(node.path, " "));
    Names words = names_of_subcommands(*node.app);
    for (std::string& name : spellings(*node.app)) words.push_back(std::move(name));
    cases += fmt::format("    {}) words={} ;;\n", shell_word(path),
                         shell_word(fmt::format("{}", fmt::join(words, " "))));
    if (!node.path.empty()) steps += fmt::format("      {}) path=$next ;;\n", shell_word(path));
  }
  return "# bash completion of metro, as metro completion bash prints it\n"
         "_metro() {\n"
         "  local path='' words='' next word\n"
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "    next=\"${path:+$path }$word\"\n"
         "    case \"$next\" in\n" +
         steps +
         "    esac\n"
         "  done\n"
         "  case \"$path\" in\n" +
         cases +
         "  esac\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
         "}\n"
         "complete -o default -F _metro metro\n";
}

/// name:explanation, for _describe.
std::string described(const std::string& name, const std::string& text) {
  std::string out;
  for (const char c : name + "\n" + first_line(text)) {
    if (c == ':') {
      out += "\\:";
    } else {
      out += c == '\n' ? ':' : c;
    }
  }
  return shell_word(out);
}

std::string zsh(const std::vector<Node>& nodes) {
  std::string cases;
  std::string steps;
  for (const Node& node : nodes) {
    const std::string path = fmt::format("{}", fmt::join(node.path, " "));
    Names commands;
    for (const CLI::App* sub : node.app->get_subcommands({})) {
      commands.push_back(described(sub->get_name(), sub->get_description()));
    }
    Names options;
    for (const CLI::Option* option : node.app->get_options()) {
      for (const std::string& name : spellings(*option)) {
        options.push_back(described(name, option->get_description()));
      }
    }
    cases += fmt::format("    {})\n      commands=({})\n      options=({}) ;;\n", shell_word(path),
                         fmt::join(commands, " "), fmt::join(options, " "));
    if (!node.path.empty())
      steps += fmt::format("      {}) path_so_far=$next ;;\n", shell_word(path));
  }
  return "#compdef metro\n"
         "# zsh completion of metro, as metro completion zsh prints it\n"
         "_metro() {\n"
         "  local path_so_far='' next word\n"
         "  local -a commands options\n"
         "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n"
         "    next=\"${path_so_far:+$path_so_far }$word\"\n"
         "    case \"$next\" in\n" +
         steps +
         "    esac\n"
         "  done\n"
         "  case \"$path_so_far\" in\n" +
         cases +
         "  esac\n"
         "  (( ${#commands} )) && _describe command commands\n"
         "  if [[ \"${words[CURRENT]}\" == -* ]]; then _describe option options; else _files; fi\n"
         "}\n"
         "_metro \"$@\"\n";
}

std::string fish(const std::vector<Node>& nodes) {
  std::string text =
      "# fish completion of metro, as metro completion fish prints it\n"
      "function __metro_words\n"
      "  set -l words (commandline -opc)\n"
      "  set -e words[1]\n"
      "  string match -v -- '-*' $words\n"
      "end\n"
      "function __metro_at # these words, and no more\n"
      "  set -l path (__metro_words)\n"
      "  test \"$path\" = \"$argv\"\n"
      "end\n"
      "function __metro_in # these words, and perhaps values after them\n"
      "  set -l path (__metro_words)\n"
      "  test (count $path) -ge (count $argv); and test \"$path[1..\"(count $argv)\"]\" = "
      "\"$argv\"\n"
      "end\n";
  for (const Node& node : nodes) {
    const bool is_group = !node.app->get_subcommands({}).empty();
    const std::string at =
        shell_word(fmt::format("__metro_{} {}", is_group ? "at" : "in", fmt::join(node.path, " ")));
    for (const CLI::App* sub : node.app->get_subcommands({})) {
      text += fmt::format("complete -c metro -n {} -a {} -d {}\n", at, sub->get_name(),
                          shell_word(first_line(sub->get_description())));
    }
    for (const CLI::Option* option : node.app->get_options()) {
      std::string line;
      for (const std::string& name : option->get_snames()) line += " -s " + name;
      for (const std::string& name : option->get_lnames()) line += " -l " + name;
      if (line.empty()) continue;
      if (option->get_expected_max() > 0) line += " -r";
      text += fmt::format("complete -c metro -n {}{} -d {}\n", at, line,
                          shell_word(first_line(option->get_description())));
    }
  }
  return text;
}

std::string roff(std::string_view text) {
  std::string out;
  bool at_start = true;
  for (const char c : text) {
    if (at_start && (c == '.' || c == '\'')) out += "\\&";
    at_start = c == '\n';
    if (c == '\\' || c == '-') out += '\\';
    if (c == '\n') out += "\n.br";
    out += c;
  }
  return out;
}

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

std::string manual(const Node& node) {
  const std::string name =
      fmt::format("metro{}{}", node.path.empty() ? "" : "-", fmt::join(node.path, "-"));
  const std::string typed =
      fmt::format("metro{}{}", node.path.empty() ? "" : " ", fmt::join(node.path, " "));
  std::string text =
      fmt::format(".TH {} 1 \"\" \"metro {}\" \"metro\"\n.SH NAME\n{} \\- {}\n", upper(name),
                  METRO_VERSION, roff(name), roff(first_line(node.app->get_description())));
  text += fmt::format(".SH SYNOPSIS\n.B {}\n", roff(typed));
  const bool has_commands = !node.app->get_subcommands({}).empty();
  text += has_commands ? ".I COMMAND\n[options]\n" : "[options]\n";
  if (has_commands) {
    text += ".SH COMMANDS\n";
    for (const CLI::App* sub : node.app->get_subcommands({})) {
      text += fmt::format(".TP\n.BR {}\\-{} (1)\n{}\n", roff(name), roff(sub->get_name()),
                          roff(sub->get_description()));
    }
  }
  text += ".SH OPTIONS\n";
  for (const CLI::Option* option : node.app->get_options()) {
    const Names names = spellings(*option);
    text += fmt::format(
        ".TP\n\\fB{}\\fR",
        roff(names.empty() ? option->get_name() : fmt::format("{}", fmt::join(names, ", "))));
    if (option->get_expected_max() > 0 && !option->get_type_name().empty()) {
      text += fmt::format(" \\fI{}\\fR", roff(option->get_type_name()));
    }
    text +=
        "\n" + roff(option->get_description()) + (option->get_required() ? " (required)\n" : "\n");
  }
  if (!node.app->get_footer().empty()) text += ".SH NOTES\n" + roff(node.app->get_footer()) + "\n";
  return text +
         ".SH EXIT STATUS\n0 success; 2 the command line is wrong; 3 a file is missing or "
         "malformed; "
         "4 well\\-formed but impossible; 5 the device failed.\n";
}

}  // namespace

std::string completion_script(const CLI::App& program, std::string_view shell) {
  const std::vector<Node> nodes = all_commands(program);
  if (shell == "bash") return bash(nodes);
  return shell == "zsh" ? zsh(nodes) : fish(nodes);
}

std::map<std::string, std::string> shell_files(const CLI::App& program) {
  const std::vector<Node> nodes = all_commands(program);
  std::map<std::string, std::string> files = {
      {"bash-completion/completions/metro", bash(nodes)},
      {"zsh/site-functions/_metro", zsh(nodes)},
      {"fish/vendor_completions.d/metro.fish", fish(nodes)}};
  for (const Node& node : nodes) {
    const std::string name =
        fmt::format("metro{}{}", node.path.empty() ? "" : "-", fmt::join(node.path, "-"));
    files["man/man1/" + name + ".1"] = manual(node);
  }
  return files;
}

}  // namespace metro::cli
