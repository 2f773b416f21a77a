// SPDX-License-Identifier: Apache-2.0
// `metro trace info|convert|generate`, as a user meets them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"
#include "metro/io.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

Outcome run_ok(const std::vector<std::string>& arguments) {
  Outcome outcome = run_metro(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return outcome;
}

/// Exit code, silence on stdout, and one line on stderr that holds every one of `parts`.
void expect_fault(const std::vector<std::string>& arguments, int exit_code,
                  const std::vector<std::string>& parts) {
  const Outcome outcome = run_metro(arguments);
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  for (const std::string& part : parts) {
    EXPECT_NE(outcome.err.find(part), std::string::npos)
        << "no '" << part << "' in " << outcome.err;
  }
}

TEST(CliTrace, HelpOfEachVerb) {
  EXPECT_NE(run_ok({"trace", "--help"}).out.find("convert"), std::string::npos);
  for (const char* verb : {"info", "convert", "generate"}) {
    EXPECT_NE(run_ok({"trace", verb, "--help"}).out.find("Example: metro trace "),
              std::string::npos);
  }
  EXPECT_NE(run_ok({"trace", "generate", "--help"}).out.find("deepseek-v3: "), std::string::npos);
}

TEST(CliTrace, GenerateThenInfo) {
  const TemporaryFolder folder;
  const std::string file = folder.file("t.npy");
  const std::vector<std::string> arguments = {
      "trace", "generate", "--profile", "qwen3-30b", "--tokens", "300",   "--layers",
      "2",     "--seed",   "5",         "-o",        file,       "--json"};
  const std::string out = run_ok(arguments).out;
  const json generated = json::parse(out);
  EXPECT_EQ(generated["command"], "trace generate");
  EXPECT_EQ(generated["evidence"], "simulated");
  EXPECT_EQ(generated["seed"], 5);
  EXPECT_EQ(generated["tokens"], 300);
  EXPECT_EQ(generated["sequences"], 5);
  const std::string bytes = read_text(file);
  EXPECT_EQ(run_ok(arguments).out, out);
  EXPECT_EQ(read_text(file), bytes) << "one seed, two traces";
  EXPECT_EQ(folder.names().size(), 2U) << "a temporary file was left behind";

  const json info = json::parse(run_ok({"trace", "info", file, "--json"}).out);
  EXPECT_EQ(info["format"], "metro-result");
  EXPECT_EQ(info["command"], "trace info");
  EXPECT_EQ(info["inputs"].size(), 2U);
  EXPECT_EQ(info["model"], "synthetic qwen3-30b");
  EXPECT_EQ(info["layers"], 2);
  EXPECT_EQ(info["experts"], 128);
  EXPECT_EQ(info["topk"], 8);
  EXPECT_EQ(info["load_gini"]["per_layer"].size(), 2U);
  EXPECT_EQ(info["shared_experts"]["at_lag"].size(), 6U);
  EXPECT_EQ(info["rows"].size(), 9U);  // 1 to 256 tokens
  EXPECT_DOUBLE_EQ(info["rows"][0]["activated_experts"], 8);

  const std::string table = run_ok({"trace", "info", file}).out;
  for (const char* part : {"300 tokens x 2 layers", "load max/mean", "Gini",
                           "of one sequence, 8 apart", "activated experts"}) {
    EXPECT_NE(table.find(part), std::string::npos) << part;
  }
}

TEST(CliTrace, StatisticsWithoutSamplesAreNull) {
  const TemporaryFolder folder;
  const std::string file = folder.file("one.npy");
  run_ok(
      {"trace", "generate", "--profile", "uniform", "--tokens", "1", "--layers", "1", "-o", file});
  const json info = json::parse(run_ok({"trace", "info", file, "--json"}).out);
  EXPECT_TRUE(info["shared_experts"]["same_sequence"].is_null());
  EXPECT_TRUE(info["coactivation_lift_p99"]["median"].is_null());
}

TEST(CliTrace, FitShowsHowCloseItComes) {
  const TemporaryFolder folder;
  const std::string original = folder.file("original.npy");
  run_ok({"trace", "generate", "--profile", "deepseek-v2-lite", "--tokens", "2048", "--layers", "2",
          "--phase", "prefill", "-o", original});
  const std::string output = folder.file("fitted.npy");
  const json fitted =
      json::parse(run_ok({"trace", "generate", "--fit", original, "-o", output, "--json"}).out);
  EXPECT_EQ(fitted["phase"], "prefill");
  EXPECT_EQ(fitted["tokens"], 2048);
  EXPECT_EQ(fitted["sequences"], 4);
  ASSERT_EQ(fitted["rows"].size(), 4U);
  for (const json& row : fitted["rows"]) EXPECT_LT(std::abs(row["deviation"].get<double>()), 0.05);
  const json longer = json::parse(
      run_ok({"trace", "generate", "--fit", original, "--tokens", "5000", "-o", output, "--json"})
          .out);
  EXPECT_EQ(longer["tokens"], 5000);
  EXPECT_EQ(longer["sequences"], 10);
}

TEST(CliTrace, ConvertsRawCsvAndBareNpy) {
  const TemporaryFolder folder;
  const std::string output = folder.file("out.npy");
  const auto expect_converted = [&](const char* from) {
    const RoutingTrace trace = io::read_trace(output);
    EXPECT_EQ(trace.num_tokens(), 2) << from;
    EXPECT_EQ(trace.num_layers(), 1) << from;
    EXPECT_EQ(trace.id(1, 0, 0), 3) << from;
    EXPECT_EQ(trace.id(1, 0, 1), 0) << from;
    EXPECT_EQ(trace.num_experts(), 4) << from;
    EXPECT_EQ(trace.info().phase, "prefill") << from;
    EXPECT_EQ(trace.info().model, "mine") << from;
    EXPECT_EQ(trace.info().sequence_lengths.size(), 2U) << from;
  };
  const auto convert = [&](const std::string& input, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "trace",   "convert", input,     "--num-experts", "4",
        "--phase", "prefill", "--model", "mine",          "--sequence-length",
        "1",       "-o",      output,    "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json::parse(run_ok(arguments).out);
  };
  const std::string raw(std::string("\1\0\2\0\3\0\0\0", 8));
  EXPECT_EQ(convert(folder.write("a.bin", raw), {"--dtype", "u2", "--shape", "2,1,2"})["from"],
            "raw");
  expect_converted("raw");
  EXPECT_EQ(
      convert(folder.write("a.csv", "token,layer,k,expert\n0,0,0,1\n0,0,1,2\n1,0,0,3\n1,0,1,0\n"),
              {})["from"],
      "csv");
  expect_converted("csv");
  EXPECT_EQ(convert(folder.write("b.csv", "1,2\n3,0\n"), {"--shape", "2,1,2"})["from"], "csv");
  expect_converted("csv without a header");
  const std::string bare = folder.write("bare.npy", read_text(output));
  EXPECT_EQ(convert(bare, {})["from"], "npy");
  expect_converted("npy");
}

TEST(CliTrace, FaultsOfTheCommandLine) {
  expect_fault({"trace"}, 2, {"one of info, convert, generate"});
  expect_fault({"trace", "nonsense"}, 2, {"nonsense"});
  expect_fault({"trace", "info"}, 2, {"FILE"});
  expect_fault({"trace", "generate", "-o", "x.npy"}, 2, {"--profile", "--fit"});
  expect_fault({"trace", "generate", "--profile", "deepseek-v4", "-o", "x.npy"}, 2,
               {"deepseek-v4", "deepseek-v3"});
  expect_fault({"trace", "generate", "--profile", "uniform", "-o", "x.bin"}, 2, {"x.bin", ".npy"});
  expect_fault({"trace", "generate", "--profile", "uniform", "--tokens", "0", "-o", "x.npy"}, 2,
               {"--tokens", "0"});
  expect_fault({"trace", "generate", "--profile", "uniform", "--topk", "300", "-o", "x.npy"}, 2,
               {"--topk", "300", "256"});
  expect_fault({"trace", "generate", "--fit", "x.npy", "--layers", "2", "-o", "y.npy"}, 2,
               {"--layers"});
  expect_fault({"trace", "convert", "x.csv", "-o", "y.npy"}, 2, {"--num-experts"});
  expect_fault({"trace", "convert", "x.bin", "--num-experts", "4", "--shape", "1,2", "-o", "y.npy"},
               2, {"--shape"});
  expect_fault({"trace", "convert", "x.bin", "--num-experts", "4", "--dtype", "f4", "-o", "y.npy"},
               2, {"--dtype", "f4"});
}

TEST(CliTrace, FaultsOfTheInput) {
  const TemporaryFolder folder;
  const std::string output = folder.file("out.npy");
  expect_fault({"trace", "info", folder.file("no.npy")}, 3, {"no.npy"});
  expect_fault({"trace", "generate", "--fit", folder.file("no.npy"), "-o", output}, 3, {"no.npy"});
  const std::string raw = folder.write("a.bin", "abcdefgh");
  const std::vector<std::string> convert = {"trace", "convert", raw,   "--num-experts",
                                            "4",     "-o",      output};
  expect_fault(convert, 3, {"a.bin", "--dtype", "--shape"});
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), convert.begin(), convert.end());
    return more;
  };
  expect_fault(with({"--dtype", "u1", "--shape", "4,1,2"}), 3, {"a.bin", "97", "0..3"});
  expect_fault(with({"--dtype", "u1", "--shape", "1,1,3"}), 3, {"a.bin", "8 bytes"});
  const std::string zeros = folder.write("z.bin", std::string(8, '\0'));
  expect_fault({"trace", "convert", zeros, "--num-experts", "4", "--dtype", "u1", "--shape",
                "3,1,2", "-o", output},
               3, {"z.bin", "4 tokens", "--shape says 3,1,2"});
  expect_fault({"trace", "convert", folder.write("a.csv", "1,2\n"), "--num-experts", "4", "--dtype",
                "u1", "-o", output},
               3, {"a.csv", "--dtype"});
  expect_fault(
      {"trace", "generate", "--profile", "deepseek-v3", "--tokens", "2000000000", "-o", output}, 4,
      {"2000000000", "too many"});
  EXPECT_EQ(folder.names().size(), 3U) << "a failed command left a file";
}

}  // namespace
}  // namespace metro::test
