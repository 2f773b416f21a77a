// SPDX-License-Identifier: Apache-2.0
// `metro bench layer` on the CPU: what it prints, and how ranks that die or hang end it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

/// A layer that takes no time.
std::vector<std::string> tiny(std::vector<std::string> more) {
  std::vector<std::string> all = {"bench",
                                  "layer",
                                  "--hidden",
                                  "64",
                                  "--intermediate",
                                  "32",
                                  "--tokens-per-gpu",
                                  "1,4",
                                  "--batches",
                                  "2",
                                  "--repeats",
                                  "2",
                                  "--weight-gb",
                                  "0.01",
                                  "--json"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

void expect_rows(const json& result, int gpus, const std::string& evidence) {
  EXPECT_EQ(result["command"], "bench layer");
  EXPECT_EQ(result["evidence"], evidence);
  std::map<std::string, int> rows;
  for (const json& row : result["rows"]) {
    ++rows[row["policy"]];
    EXPECT_EQ(row["gpus"], gpus);
    EXPECT_GT(row["layer_us"], 0);
    EXPECT_GT(row["stage_us"]["experts"], 0);
    EXPECT_EQ(row["stage_us"]["gate"], row["stage_us"]["gate_topk"]);  // the old spelling
    EXPECT_LE(row["stage_us"]["experts"], row["layer_us"]);
    EXPECT_GT(row["achieved_gb_s"], 0);
    EXPECT_EQ(row["activated_per_rank"].size(), static_cast<std::size_t>(gpus));
  }
  // Every table has no replication and moe-TP beside the policies.
  const std::map<std::string, int> expected = {{"EPLB off", 2}, {"moe-TP", 2}, {"even", 2},
                                               {"hash", 2},     {"home", 2},   {"metro-paper", 2},
                                               {"optimal", 2}};
  EXPECT_EQ(rows, expected);
}

/// max_activated by policy at 4 tokens per GPU.
std::map<std::string, double> most_activated(const json& result) {
  std::map<std::string, double> most;
  for (const json& row : result["rows"]) {
    if (row["tokens_per_gpu"] == 4) most[row["policy"]] = row["max_activated"];
  }
  return most;
}

TEST(BenchLayer, VirtualRanksAreEmulated) {
  const Outcome outcome = run_metro(tiny({"--virtual-gpus", "4"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = json::parse(outcome.out);
  expect_rows(result, 4, "emulated");
  EXPECT_EQ(result["transport"], "virtual");
  const auto most = most_activated(result);
  EXPECT_LE(most.at("optimal"), most.at("even"));
  EXPECT_LE(most.at("optimal"), most.at("metro-paper"));
}

TEST(BenchLayer, ThreadsAreRanks) {
  for (const char* dispatch : {"all-gather", "all-to-all"}) {
    const Outcome outcome = run_metro(tiny({"--gpus", "2", "--dispatch", dispatch}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json result = json::parse(outcome.out);
    expect_rows(result, 2, "measured");
    EXPECT_EQ(result["transport"], "local");
    // The router sees the same batches whatever the ranks are.
    const Outcome emulated = run_metro(tiny({"--virtual-gpus", "2"}));
    EXPECT_EQ(most_activated(result), most_activated(json::parse(emulated.out)));
  }
}

TEST(BenchLayer, PeopleGetATable) {
  auto arguments = tiny({"--experts", "moe-TP"});
  std::erase(arguments, "--json");
  const Outcome outcome = run_metro(arguments);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("moe-TP"), std::string::npos);
  EXPECT_EQ(outcome.out.find("optimal"), std::string::npos);
}

TEST(BenchLayer, FaultsOfTheCommandLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> faults = {
      {{"--model", "Qwen3-31B"}, "--model is 'Qwen3-31B'"},
      {{"--gpus", "2,4"}, "--gpus is a list"},
      {{"--transport", "nccl"}, "--transport is nccl"},
      {{"--gpus", "2", "--virtual-gpus", "2"}, "--virtual-gpus"},
      {{"--kernel", "mkl"}, "--kernel"},
      {{"--layer", "1"}, "--trace"},
  };
  for (const auto& [arguments, text] : faults) {
    const Outcome outcome = run_metro(tiny(arguments));
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_EQ(run_metro(tiny({"--model", "missing.json"})).exit_code, 3);
}

/// mpirun as its own shell script sees it; `script` may use $metro, $mpirun and $child.
class Mpi : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("mpirun --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no mpirun here";
    const Outcome probe = run_metro(tiny({"--transport", "mpi"}));
    if (probe.exit_code == 5) GTEST_SKIP() << "built without MPI";
    EXPECT_EQ(probe.exit_code, 2) << "one rank alone is a fault of the command line";
  }

  Outcome run(int ranks, const std::vector<std::string>& arguments, const std::string& then = "") {
    std::string script = "exec </dev/null\nmpirun --allow-run-as-root --oversubscribe -np " +
                         std::to_string(ranks) + " " METRO_BINARY;
    for (const std::string& argument : arguments) script += " " + argument;
    script += " >" + folder_.file("out") + " 2>" + folder_.file("err") + " &\nmpirun=$!\n" + then +
              "wait $mpirun\n";
    const std::string command = "bash " + folder_.write("script", script);
    const int status = std::system(command.c_str());
    return {WEXITSTATUS(status), read_text(folder_.file("out")), read_text(folder_.file("err"))};
  }

  /// A run that would take minutes, and a signal to one of its ranks once all are up.
  Outcome run_and_signal(const std::string& signal) {
    const std::string then =
        "for i in $(seq 300); do\n"
        "  ranks=($(pgrep -P $mpirun)); [ ${#ranks[@]} -eq 3 ] && break; sleep 0.1\n"
        "done\nsleep 2\nkill -" +
        signal + " ${ranks[1]}\n";
    return run(3,
               {"bench", "layer", "--transport", "mpi", "--timeout-s", "2", "--hidden", "64",
                "--intermediate", "32", "--weight-gb", "0.01", "--repeats", "60000"},
               then);
  }

  TemporaryFolder folder_;
};

TEST_F(Mpi, ProcessesAreRanks) {
  for (const int ranks : {2, 4, 8}) {
    const Outcome outcome = run(ranks, tiny({"--transport", "mpi", "--dispatch", "all-to-all"}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json result = json::parse(outcome.out);  // one rank speaks for all
    expect_rows(result, ranks, "measured");
    EXPECT_EQ(result["transport"], "mpi");
  }
}

TEST_F(Mpi, ARankThatHangsEndsTheJob) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = run_and_signal("STOP");
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_EQ(outcome.out, "");
  const auto line = outcome.err.find("metro: rank ");
  ASSERT_NE(line, std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("did not answer rank"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("metro: ", line + 1), std::string::npos) << "more than one line";
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST_F(Mpi, ARankThatIsKilledEndsTheJob) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = run_and_signal("KILL");
  EXPECT_EQ(outcome.exit_code, 137);  // mpirun's own, of the rank that was killed
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("signal 9"), std::string::npos) << outcome.err;
  const auto line = outcome.err.find("metro: rank ");
  ASSERT_NE(line, std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("another rank is lost"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("metro: ", line + 1), std::string::npos) << "more than one line";
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(CliBenchLayer, GroupsOfRanks) {
  for (const char* ranks : {"--virtual-gpus", "--gpus"}) {
    SCOPED_TRACE(ranks);
    const Outcome outcome =
        run_metro(tiny({ranks, "4", "--ep", "2", "--policy", "optimal", "--replication", "1.25"}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json result = json::parse(outcome.out);
    std::map<std::string, int> rows;
    for (const json& row : result["rows"]) {
      const std::string policy = row["policy"];
      ++rows[policy];
      EXPECT_EQ(row["ep"], policy == "EPLB off" ? 4 : policy == "moe-TP" ? 1 : 2);
      EXPECT_GT(row["layer_us"], 0);
      if (row["ep"] != 2) continue;
      const auto activated = row["activated_per_rank"].get<std::vector<double>>();
      ASSERT_EQ(activated.size(), 4U);
      EXPECT_EQ(activated[0], activated[1]) << "the ranks of a group have the same experts";
      EXPECT_EQ(activated[2], activated[3]);
      // In experts' worth: half of each, in fp32, of 3 matrices of 64 x 32.
      EXPECT_EQ(row["bytes_per_rank"][0], activated[0] * 3 * 64 * 32 * 4);
    }
    const std::map<std::string, int> expected = {
        {"EPLB off", 2}, {"moe-TP", 2}, {"s=2", 2}, {"optimal", 2}};
    EXPECT_EQ(rows, expected);
  }
}

TEST(CliBenchLayer, GroupsThatDoNotFit) {
  const auto exit_code = [](const std::vector<std::string>& more) {
    return run_metro(tiny(more)).exit_code;
  };
  EXPECT_EQ(exit_code({"--virtual-gpus", "4", "--ep", "3"}), 2);
  EXPECT_EQ(exit_code({"--virtual-gpus", "4", "--ep", "8"}), 2);
  EXPECT_EQ(exit_code({"--virtual-gpus", "4", "--ep", "0"}), 2);
  EXPECT_EQ(exit_code({"--device", "cuda", "--ep", "2"}), 2);
  EXPECT_EQ(exit_code({"--virtual-gpus", "96", "--ep", "2"}), 4) << "32 columns over 48 GPUs";
  EXPECT_EQ(exit_code({"--virtual-gpus", "4", "--ep", "1", "--replication", "1.5"}), 4);
}

}  // namespace
}  // namespace metro::test
