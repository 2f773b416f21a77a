// SPDX-License-Identifier: Apache-2.0
// Whatever is wrong: the exit code of the contract, nothing on stdout, one line on stderr that
// names what is at fault.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

struct Fault {
  int exit_code;
  std::vector<std::string> arguments;
  std::string named;  ///< must be in the message
};

void expect_fault(const Fault& fault) {
  std::string line;
  for (const std::string& argument : fault.arguments) line += " " + argument;
  SCOPED_TRACE("metro" + line);
  const Outcome outcome = run_metro(fault.arguments);
  EXPECT_EQ(outcome.exit_code, fault.exit_code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  EXPECT_TRUE(outcome.err.ends_with('\n'));
  EXPECT_TRUE(outcome.err.starts_with("metro: ")) << outcome.err;
  EXPECT_NE(outcome.err.find(fault.named), std::string::npos)
      << "no '" << fault.named << "' in: " << outcome.err;
}

// None of the files exist: the command line alone must show the fault.
TEST(CliFaults, UsageIsFoundBeforeFilesAreOpened) {
  const std::vector<std::string> place = {"place", "--loads", "none.npy"};
  const auto placing = [&](std::vector<std::string> more) {
    more.insert(more.begin(), place.begin(), place.end());
    return more;
  };
  const std::vector<std::string> grid = {"compare", "--trace", "none.npy"};
  const auto comparing = [&](std::vector<std::string> more) {
    more.insert(more.begin(), grid.begin(), grid.end());
    return more;
  };
  const std::vector<Fault> faults = {
      {2, {}, "metro --help"},
      {2, {"plce"}, "did you mean 'place'"},
      {2, {"frobnicate"}, "place, route"},
      {2, {"--frobnicate"}, "--frobnicate"},
      {2, {"two\nlines"}, "two lines"},
      {2, {"place"}, "--loads"},
      {2, placing({"--gpus", "4"}), "--replicas"},
      {2, placing({"--gpus", "0", "--replicas", "8"}), "--gpus is '0'"},
      {2, placing({"--gpus", "-4", "--replicas", "8"}), "--gpus is '-4'"},
      {2, placing({"--gpus", "four", "--replicas", "8"}), "--gpus is 'four'"},
      {2, placing({"--gpus", "4.5", "--replicas", "8"}), "--gpus is '4.5'"},
      {2, placing({"--gpus", "4 ", "--replicas", "8"}), "--gpus is '4 '"},
      {2, placing({"--gpus", "0x4", "--replicas", "8"}), "--gpus is '0x4'"},
      {2, placing({"--gpus", "", "--replicas", "8"}), "--gpus"},
      {2, placing({"--gpus", "99999999999999999999", "--replicas", "8"}), "--gpus"},
      {2, placing({"--gpus", "4", "--replicas", "0"}), "--replicas is '0'"},
      {2, placing({"--gpus", "4", "--replicas", "8", "--groups", "0"}), "--groups"},
      {2, placing({"--gpus", "4", "--replicas", "8", "--nodes", "0"}), "--nodes"},
      {2, placing({"--gpus", "4", "--replicas", "8", "--seed", "-1"}), "--seed is '-1'"},
      {2, placing({"--gpus", "4", "--replicas", "8", "--seed", "18446744073709551616"}), "--seed"},
      {2, placing({"--gpus", "4", "--replicas", "8", "--algorithm", "eplp"}), "mean 'eplb'"},
      {2, placing({"--gpus", "4", "--gpus", "8", "--replicas", "8"}), "--gpus"},
      {2, placing({"--gpsu", "4", "--replicas", "8"}), "did you mean '--gpus'"},
      {2, placing({"--gpus", "4", "--replicas", "8", "extra"}), "'extra'"},
      {2, placing({"--gpus", "4", "--replicas", "8", "-o", ""}), "--output"},
      {2, placing({"--gpus"}), "--gpus"},
      {2, {"route", "--placement", "p", "--topk", "t", "--policy", "optimum"}, "mean 'optimal'"},
      {2, {"route", "--placement", "p", "--topk", "t", "--policy", "x"}, "metro-paper"},
      {2, {"route", "--placement", "p", "--topk", "t"}, "--policy"},
      {2,
       {"route", "--placement", "p", "--topk", "t", "--policy", "even", "--layer", "-1"},
       "--layer"},
      {2,
       {"route", "--placement", "p", "--topk", "t", "--policy", "even", "--nodes", "0"},
       "--nodes"},
      {2, comparing({"--gpus", "4", "--replication", "1"}), "--tokens"},
      {2, comparing({"--gpus", "4", "--replication", "1", "--tokens", "8,,32"}), "--tokens is ''"},
      {2, comparing({"--gpus", "4", "--replication", "1", "--tokens", "8,"}), "--tokens is ''"},
      {2, comparing({"--gpus", "4", "--replication", "1", "--tokens", "0"}), "--tokens is '0'"},
      {2, comparing({"--gpus", "4", "--replication", "0.5", "--tokens", "8"}), "--replication"},
      {2, comparing({"--gpus", "4", "--replication", "nan", "--tokens", "8"}), "--replication"},
      {2, comparing({"--gpus", "4", "--replication", "inf", "--tokens", "8"}), "--replication"},
      {2, comparing({"--gpus", "4,0", "--replication", "1", "--tokens", "8"}), "--gpus is '0'"},
      {2, comparing({"--gpus", "4", "--replication", "1", "--tokens", "8", "--policy", "a,even"}),
       "--policy is 'a'"},
      {2, comparing({"--gpus", "4", "--replication", "1", "--tokens", "8", "--batches", "0"}),
       "--batches"},
      {2,
       comparing({"--gpus", "4", "--replication", "1", "--tokens", "8", "--tokens-per-gpu", "1"}),
       "--tokens"},
      {2, {"bench"}, "bench"},
      {2, {"bench", "rout"}, "did you mean 'route'"},
      {2, {"bench", "route", "--gpus", "0"}, "--gpus"},
      {2, {"bench", "route", "--device", "tpu"}, "--device"},
      {2, {"bench", "route", "--trace", "t.npy", "--experts", "8"}, "--experts"},
  };
  for (const Fault& fault : faults) expect_fault(fault);
}

TEST(CliFaults, BadInput) {
  const TemporaryFolder folder;
  const std::string loads = folder.write("loads.json", R"({"loads": [[4, 3, 2, 1]]})");
  const std::string placement = folder.file("placement.json");
  ASSERT_EQ(
      run_metro({"place", "--loads", loads, "--gpus", "2", "--replicas", "4", "-o", placement})
          .exit_code,
      0);
  const std::string topk = folder.write("topk.json", "[[0, 1], [2, 3]]");
  const std::string stranger = folder.write("stranger.json", "[[0, 4]]");
  const std::string broken = folder.write("broken.json", "{\"loads\": [[1, 2],");
  const std::string negative = folder.write("negative.json", R"({"loads": [[1, -2]]})");
  const std::string trace = folder.write_trace("t.npy");
  const std::string lonely = folder.write("lonely.npy", read_text(trace));
  const std::string missing = folder.file("missing.json");
  const auto route = [&](const std::string& p, const std::string& t) {
    return std::vector<std::string>{"route", "--placement", p, "--topk", t, "--policy", "optimal"};
  };
  const auto route_with = [&](const std::string& option, const std::string& value) {
    auto arguments = route(placement, topk);
    arguments.insert(arguments.end(), {option, value});
    return arguments;
  };
  const auto place = [](const std::string& file) {
    return std::vector<std::string>{"place", "--loads", file, "--gpus", "2", "--replicas", "4"};
  };
  const auto place_to = [&](const std::string& file) {
    auto arguments = place(loads);
    arguments.insert(arguments.end(), {"-o", file});
    return arguments;
  };
  const auto compare = [](const std::string& file) {
    return std::vector<std::string>{"compare",       "--trace", file,       "--gpus", "2",
                                    "--replication", "1.5",     "--tokens", "8"};
  };
  const std::vector<Fault> faults = {
      {3, place(missing), missing},
      {3, place(folder.file("")), folder.file("")},
      {3, place(broken), broken},
      {3, place(negative), "-2"},
      {3, place_to(folder.file("no/such/folder.json")), "no/such/folder.json"},
      {3, route(missing, topk), missing},
      {3, route(loads, topk), loads},
      {3, route(placement, missing), missing},
      {3, route(placement, stranger), stranger},
      {3, route_with("--layer", "1"), "--layer is 1"},
      {3, route_with("--nodes", "3"), "--nodes is 3"},
      {3, compare(missing), missing},
      {3, compare(topk), topk},
      {3, compare(lonely), "lonely.json"},
  };
  for (const Fault& fault : faults) expect_fault(fault);
  EXPECT_FALSE(std::filesystem::exists(folder.file("no")));
}

TEST(CliFaults, Infeasible) {
  const TemporaryFolder folder;
  const std::string loads = folder.write("loads.json", R"({"loads": [[4, 3, 2, 1]]})");
  const std::string trace = folder.write_trace("t.npy");
  const auto place = [&](const std::string& gpus, const std::string& replicas) {
    return std::vector<std::string>{"place", "--loads",    loads,   "--gpus",
                                    gpus,    "--replicas", replicas};
  };
  const auto compare = [&](const std::string& replication, const std::string& tokens) {
    return std::vector<std::string>{"compare",       "--trace",   trace,      "--gpus", "2",
                                    "--replication", replication, "--tokens", tokens};
  };
  expect_fault({4, place("2", "2"), loads});
  expect_fault({4, place("3", "4"), loads});
  expect_fault({4, compare("1.5", "65"), "65 tokens"});
  expect_fault({4, compare("1000000", "8"), trace});
  auto homed = compare("4", "8");  // 32 slots on 2 GPUs, but never two copies on a GPU
  homed.insert(homed.end(), {"--algorithm", "homed"});
  expect_fault({4, homed, trace});
  expect_fault(
      {4, {"bench", "route", "--experts", "4", "--topk", "8", "--gpus", "2"}, "--topk is 8"});
}

TEST(CliFaults, NoDevice) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has a GPU";
  expect_fault({5, {"bench", "route", "--device", "cuda"}, "cuda"});
}

TEST(CliFaults, StdoutThatCannotBeWritten) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  const Outcome outcome = run_metro({"--help"}, "/dev/full");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_TRUE(outcome.err.starts_with("metro: cannot write to stdout")) << outcome.err;
}

}  // namespace
}  // namespace metro::test
