// SPDX-License-Identifier: Apache-2.0
#include "cli/run_metro.hpp"

#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "metro/io.hpp"

namespace metro::test {

namespace {

[[noreturn]] void execute(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {METRO_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(METRO_BINARY, argv.data());
  _exit(127);
}

void direct(int stream, const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  if (file < 0 || dup2(file, stream) < 0) _exit(127);
  close(file);
}

int exit_code_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

Outcome run_metro(const std::vector<std::string>& arguments,
                  const std::filesystem::path& stdout_path, const std::function<void()>& prepare) {
  // Files, not pipes: nothing can fill up while the other is read.
  const TemporaryFolder folder;
  const std::string out = stdout_path.empty() ? folder.file("out") : stdout_path.string();
  const std::string err = folder.file("err");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot run " METRO_BINARY);
  if (child == 0) {
    direct(STDOUT_FILENO, out);
    direct(STDERR_FILENO, err);
    if (prepare) prepare();
    execute(arguments);
  }
  const int exit_code = exit_code_of(child);
  return {.exit_code = exit_code,
          .out = stdout_path.empty() ? read_text(out) : "",
          .err = read_text(err)};
}

Outcome run_metro_on_terminal(const std::vector<std::string>& arguments) {
  termios raw{};
  cfmakeraw(&raw);
  int screen = -1;
  const pid_t child = forkpty(&screen, nullptr, &raw, nullptr);
  if (child < 0) throw std::runtime_error("no terminal for " METRO_BINARY);
  if (child == 0) execute(arguments);
  Outcome outcome;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t got = read(screen, part.data(), part.size());
    if (got <= 0) break;  // EIO once the child is gone
    outcome.out.append(part.data(), static_cast<std::size_t>(got));
  }
  close(screen);
  outcome.exit_code = exit_code_of(child);
  return outcome;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "metro-cli-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path_ / name, std::ios::binary) << text;
  return file(name);
}

std::string TemporaryFolder::write_trace(const std::string& name, int num_tokens) const {
  constexpr int kLayers = 2;
  constexpr int kTopk = 2;
  std::vector<std::uint16_t> ids;
  for (int token = 0; token < num_tokens; ++token) {
    for (int layer = 0; layer < kLayers; ++layer) {
      const int first = (token * token + layer) % 8;
      ids.push_back(static_cast<std::uint16_t>(first));
      ids.push_back(static_cast<std::uint16_t>((first + 1 + token % 7) % 8));
    }
  }
  TraceInfo info{8, "tiny", "decode", {}, "a test", "Apache-2.0"};
  info.sequence_lengths.assign(static_cast<std::size_t>(num_tokens / 8), 8);
  io::write_trace(make_trace(std::move(ids), num_tokens, kLayers, kTopk, std::move(info)),
                  path_ / name);
  return file(name);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace metro::test
