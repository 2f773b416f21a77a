// SPDX-License-Identifier: Apache-2.0
// What surrounds the program is against it: limits, devices, closed streams, names without end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/lines.hpp"
#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

const Line kServing = {
    "--model", "gpt-oss-20b",    "--gpu", "h100",          "--gpus", "2",     "--isl",
    "64",      "--num-requests", "20",    "--concurrency", "4",      "--osl", "8"};

void limit(int resource, rlim_t most) {
  const rlimit limits{most, most};
  setrlimit(static_cast<__rlimit_resource>(resource), &limits);
}

/// Files that every command finds something in.
class CliHostile : public testing::Test {
 protected:
  [[nodiscard]] Line compare() const {
    return {"compare", "--trace", trace_, "--gpus", "2", "--replication", "1.5", "--tokens", "8"};
  }
  [[nodiscard]] Line place() const {
    return {"place", "--loads", loads_, "--gpus", "2", "--replicas", "64"};
  }
  /// Every line that writes a file, which is to be its last word.
  [[nodiscard]] std::vector<Line> writers() const {
    return {with(place(), {"-o"}),
            with(compare(), {"--html"}),
            with(with({"sweep"}, kServing), {"-o"}),
            with(with({"advise"}, kServing), {"-o"}),
            with(with({"simulate"}, kServing), {"--perfetto"}),
            {"trace", "generate", "--profile", "gpt-oss-20b", "--tokens", "64", "-o"},
            {"trace", "convert", trace_, "--num-experts", "8", "-o"},
            {"reproduce", "--quick", "--figure", "13", "-o"},
            {"report", result_, "-o"}};
  }

  TemporaryFolder folder_;
  std::string trace_ = folder_.write_trace("trace-of-a-test.npy");
  std::string loads_ = folder_.write("loads.json", R"({"loads": [[4, 3, 2, 1]]})");
  std::string result_ = folder_.write(
      "r.json", R"({"format": "metro-result", "version": 1, "command": "x", "evidence": "simulated",
                    "seed": 0, "inputs": [], "rows": []})");
};

/// On a terminal a command shows its progress, wipes it, then prints what it prints elsewhere.
void expect_on_terminal(const Line& line, const std::string& label) {
  SCOPED_TRACE(line[0] + ": " + label);
  const Outcome shown = run_metro_on_terminal(line);
  EXPECT_EQ(shown.exit_code, 0) << shown.out;
  const std::string wipe = "\r\x1b[K";
  const std::size_t wiped = shown.out.rfind(wipe);
  if (label.empty()) {
    EXPECT_EQ(wiped, std::string::npos) << shown.out;
    return;
  }
  ASSERT_NE(wiped, std::string::npos) << shown.out;
  // "LABEL N %" and what else is known by then, again and again, each wiped before the next.
  std::string progress = shown.out.substr(0, wiped);
  std::string last;
  while (!progress.empty()) {
    ASSERT_TRUE(progress.starts_with(wipe)) << progress;
    const std::size_t end = std::min(progress.find(wipe, 1), progress.size());
    last = progress.substr(wipe.size(), end - wipe.size());
    progress.erase(0, end);
    ASSERT_TRUE(last.starts_with(label + " ")) << last;
    ASSERT_LE(last.substr(label.size() + 1).find(" %"), 3U) << last;
  }
  EXPECT_TRUE(last.starts_with(label + " 100 %")) << last;
}

TEST_F(CliHostile, EveryCommandRunsOnATerminal) {
  const std::string placement = folder_.file("p.json");
  const std::string topk = folder_.write("topk.json", "[[0, 1], [2, 3]]");
  expect_on_terminal(with(place(), {"-o", placement}), "");
  expect_on_terminal({"route", "--placement", placement, "--topk", topk, "--policy", "optimal"},
                     "");
  expect_on_terminal({"trace", "info", trace_}, "");
  expect_on_terminal(
      {"trace", "convert", trace_, "--num-experts", "8", "-o", folder_.file("c.npy")}, "");
  expect_on_terminal({"trace", "generate", "--fit", trace_, "-o", folder_.file("g.npy")},
                     "metro: fitting");
  expect_on_terminal(compare(), "metro: comparing on trace-of-a-test.npy");
  expect_on_terminal({"bench", "route", "--experts", "16", "--gpus", "4", "--tokens", "8", "--topk",
                      "2", "--rounds", "2", "--policy", "optimal"},
                     "metro: timing routers");
  expect_on_terminal(with({"simulate"}, kServing), "metro: simulating");
  expect_on_terminal(with({"sweep"}, kServing), "metro: sweeping");
  expect_on_terminal(with({"advise"}, kServing), "metro: trying candidates");
  expect_on_terminal({"reproduce", "--quick", "--figure", "13"}, "metro: reproducing");
  expect_on_terminal({"report", result_, "-o", folder_.file("r.html")}, "");
}

TEST_F(CliHostile, AFileSizeLimitIsALineAndLeavesNothing) {
  for (const Line& line : writers()) {
    SCOPED_TRACE(line[0] + " " + line.back());
    const TemporaryFolder place;
    const std::string out = place.file("out.npy");
    const Outcome outcome = run_metro(with(line, {out}), {}, [] { limit(RLIMIT_FSIZE, 600); });
    EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
    EXPECT_NE(outcome.err.find(": cannot be written: File too large"), std::string::npos)
        << outcome.err;
    if (line[0] == "sweep") continue;  // its journal keeps what is finished
    EXPECT_EQ(place.names().size(), 0U) << place.names().front();
  }
}

TEST_F(CliHostile, StdoutThatCannotBeWrittenIsToldByEveryCommand) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  for (Line line : writers()) {
    const std::string option = line.back();
    line.pop_back();
    SCOPED_TRACE(line[0]);
    const TemporaryFolder place;
    for (const bool json : {false, true}) {
      Line asked = with(line, {option, place.file("out.npy")});
      if (json) asked.emplace_back("--json");
      const Outcome outcome = run_metro(asked, "/dev/full");
      EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
      EXPECT_NE(outcome.err.find("cannot write to stdout"), std::string::npos) << outcome.err;
    }
    if (line[0] == "trace" || line[0] == "sweep") continue;  // whose output is no such file
    const Outcome outcome = run_metro(with(line, {option, "/dev/full"}));
    EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("/dev/full: cannot be written"), std::string::npos) << outcome.err;
  }
}

TEST_F(CliHostile, AClosedStdoutIsNotTheNextFile) {
  const std::string out = folder_.file("p.json");
  const Outcome outcome =
      run_metro(with(place(), {"-o", out, "--json"}), {}, [] { close(STDOUT_FILENO); });
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("cannot write to stdout"), std::string::npos) << outcome.err;
}

TEST_F(CliHostile, WhereThreadsCannotBeHadOneDoesTheWork) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need threads of their own";
#endif
  // Of every thread: as large as memory is.
  const auto no_threads = [] { limit(RLIMIT_STACK, rlim_t{1} << 47); };
  const Line line = with(with({"advise"}, kServing), {"--jobs", "4096"});
  const Outcome outcome = run_metro(line, {}, no_threads);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const Outcome layer = run_metro({"bench", "layer", "--device", "cpu", "--model", "gpt-oss-20b",
                                   "--gpus", "2", "--transport", "local"},
                                  {}, no_threads);
  EXPECT_EQ(layer.exit_code, 4) << layer.err;
  EXPECT_NE(layer.err.find("2 ranks need a thread each, the system gives 0"), std::string::npos)
      << layer.err;
}

TEST_F(CliHostile, DevicesAreNotRead) {
  for (const std::string device : {"/dev/zero", "/dev/urandom", "/dev/full", "/dev/null"}) {
    if (!std::filesystem::exists(device)) continue;
    const std::string wanted = device + ": is a device, must be a file or a pipe";
    for (const Line& line :
         std::vector<Line>{{"place", "--loads", device, "--gpus", "2", "--replicas", "4"},
                           {"report", device, "-o", folder_.file("r.html")},
                           {"trace", "info", device},
                           with(with({"simulate"}, kServing), {"--calibration", device})}) {
      EXPECT_NE(error_of(line, 3).find(wanted), std::string::npos) << line[0];
    }
  }
}

TEST_F(CliHostile, PipesAreRead) {
  const std::string pipe = folder_.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string text = read_text(loads_);
  std::jthread writer([&] { std::ofstream(pipe) << text; });  // opening waits for the reader
  EXPECT_NE(output_of({"place", "--loads", pipe, "--gpus", "2", "--replicas", "4"}), "");
}

TEST_F(CliHostile, NamesWithoutEndAreCutInTheMiddle) {
  const std::string name = "begin" + std::string(50'000, 'x') + "end.npy";
  for (const auto& [line, code] : std::vector<std::pair<Line, int>>{
           {{"trace", "info", name}, 3},
           {{"place", "--" + name, "1"}, 2},
           {{"place", "--loads", loads_, "--gpus", name, "--replicas", "4"}, 2},
           {{name}, 2},
           {{"place", "--loads", loads_, "--gpus", "2", "--replicas", "4", "--algorithm", name}, 2},
           {{"trace", "generate", "--profile", name, "-o", "t.npy"}, 2}}) {
    const std::string error = error_of(line, code);
    EXPECT_LT(error.size(), 4200U) << error.size();
    EXPECT_NE(error.find("beginxxx"), std::string::npos) << error;
    EXPECT_NE(error.find("xxxend.npy"), std::string::npos) << error;
    EXPECT_NE(error.find(" bytes ..."), std::string::npos) << error;
  }
}

TEST_F(CliHostile, FilesThatAreNotThereAreInput) {
  const std::string loop = folder_.file("loop");
  std::filesystem::create_symlink(loop, loop);
  Line serving = kServing;
  for (const std::string& model : {loop, folder_.file("missing"), folder_.file("missing.json")}) {
    serving[1] = model;
    EXPECT_NE(error_of(with({"simulate"}, serving), 3).find(model), std::string::npos);
    EXPECT_NE(error_of(with(with({"simulate"}, kServing), {"--routing", model}), 3).find(model),
              std::string::npos);
    EXPECT_NE(error_of({"bench", "layer", "--device", "cpu", "--model", model}, 3).find(model),
              std::string::npos);
  }
}

TEST_F(CliHostile, OptionsThatAreNoUtf8) {
  const std::string bad = "m\xff\xfe";
  const std::string array = folder_.write("lonely.npy", read_text(trace_));
  const Outcome lonely = run_metro({"trace", "convert", array, "--num-experts", "8", "--model", bad,
                                    "--source", bad, "-o", folder_.file("d.npy")});
  EXPECT_EQ(lonely.err.find("json.exception"), std::string::npos) << lonely.err;
  EXPECT_EQ(lonely.exit_code, 0) << lonely.err;
}

TEST_F(CliHostile, HelpIsNamedAsItIsTyped) {
  EXPECT_NE(error_of({"trace", "convert"}, 2).find("see 'metro trace convert --help'"),
            std::string::npos);
  EXPECT_NE(error_of({"bench", "layer", "--gpus"}, 2).find("see 'metro bench layer --help'"),
            std::string::npos);
}

TEST_F(CliHostile, ServingNothingIsInfeasible) {
  const std::string model = folder_.write("m.json", R"({
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128,
    "intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 1,
    "torch_dtype": "bfloat16"})");
  Line serving = with(kServing, {"--routing", "uniform"});
  serving[1] = model;
  EXPECT_NE(error_of(with({"simulate"}, serving), 4).find("none of the 20 requests can be served"),
            std::string::npos);
}

TEST_F(CliHostile, ASecondSweepIsToldWhoWrites) {
  const std::string journal = folder_.file("s.jsonl");
  const int held = open(journal.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(held, LOCK_EX), 0);
  const std::string error = error_of(with(with({"sweep"}, kServing), {"-o", journal}), 3);
  close(held);
  EXPECT_NE(error.find(journal + ": is being written by process " + std::to_string(getpid())),
            std::string::npos)
      << error;
}

}  // namespace
}  // namespace metro::test
