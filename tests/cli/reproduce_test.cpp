// SPDX-License-Identifier: Apache-2.0
// metro reproduce and report, as a user meets them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/lines.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

const Line kReproduce = {"reproduce", "--quick", "--figure", "6", "--json"};

TEST(CliReproduce, RowsHaveThePaperOursAndTheRivals) {
  const json result = json::parse(output_of(kReproduce));
  EXPECT_EQ(result["format"], "metro-result");
  EXPECT_EQ(result["command"], "reproduce");
  EXPECT_EQ(result["evidence"], "simulated");
  EXPECT_EQ(result["quick"], true);
  ASSERT_EQ(result["pairs"].size(), 3U);
  for (const json& pair : result["pairs"]) {
    EXPECT_TRUE(pair["routing"].get<std::string>().starts_with("synthetic ")) << pair;
  }
  ASSERT_EQ(result["rows"].size(), 3U);
  for (const json& row : result["rows"]) {
    EXPECT_EQ(row["figure"], "6");
    EXPECT_EQ(row["evidence"], "simulated");
    EXPECT_GT(row["ours"], 0);
    EXPECT_LT(row["ours"], row["beside"]["metro"]) << "the exact router costs less than the greedy";
    EXPECT_TRUE(row["beside"].contains("none"));
  }
  EXPECT_EQ(result["rows"][0]["paper"], "31-41 on the host, 86-104 on the GPU");
  EXPECT_TRUE(result["rows"][1]["paper"].is_null());
  ASSERT_EQ(result["figures"].size(), 1U);
  EXPECT_EQ(result["figures"][0]["plots"][0]["kind"], "bars");
}

TEST(CliReproduce, OneSeedOneResultHoweverManyJobs) {
  const auto text = [](const Line& more) {
    json result = json::parse(output_of(with(kReproduce, more)));
    EXPECT_TRUE(result.contains("wall_s"));
    result.erase("wall_s");
    result.erase("seed");
    return result.dump();
  };
  EXPECT_EQ(text({"--jobs", "1"}), text({"--jobs", "3", "--seed", "0"}));
  EXPECT_NE(text({}), text({"--seed", "1"}));
}

TEST(CliReproduce, WritesWhatItPrints) {
  const TemporaryFolder folder;
  const std::string file = folder.file("r.json");
  const std::string page = folder.file("r.html");
  const std::string printed = output_of(with(kReproduce, {"-o", file, "--html", page}));
  EXPECT_EQ(read_text(file), printed);
  EXPECT_NE(read_text(page).find("Figure 6"), std::string::npos);
  EXPECT_NE(output_of({"reproduce", "--quick", "--figure", "6"}).find("31-41"), std::string::npos);
}

TEST(CliReproduce, BadInput) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of({"reproduce", "--figure", "7"}, 2).find("--figure has 7"), std::string::npos);
  error_of({"reproduce", "--trace", folder.file("none.npy")}, 3);
  const std::string trace = folder.write_trace("t.npy");  // 8 experts
  const std::string error = error_of({"reproduce", "--trace", trace}, 3);
  EXPECT_TRUE(error.starts_with("metro: " + trace + ": 8 experts")) << error;
}

class CliReport : public testing::Test {
 protected:
  std::string write_result(const std::string& name, const Line& line) {
    return folder_.write(name, output_of(line));
  }
  TemporaryFolder folder_;
};

TEST_F(CliReport, OnePageOfManyResults) {
  const std::string trace = folder_.write_trace("t.npy");
  const std::string compared =
      write_result("c.json", {"compare", "--trace", trace, "--gpus", "2,4", "--replication",
                              "1,1.5", "--tokens", "4,8", "--batches", "2", "--json"});
  const std::string reproduced = write_result("r.json", kReproduce);
  const std::string swept = write_result(
      "s.json", {"sweep", "--model", "gpt-oss-20b", "--gpu", "h100", "--gpus", "2", "--isl", "64",
                 "--osl", "8", "--num-requests", "20", "--concurrency", "2,4", "--json"});
  const std::string page = folder_.file("page.html");
  const Line line = {"report", compared, reproduced, swept, "-o", page};
  EXPECT_NE(output_of(line).find(page), std::string::npos);
  const std::string html = read_text(page);
  for (const char* part : {"Never-worse map", "Where the activated experts lie", "Figure 6",
                           "Pareto frontier", "Where this comes from"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
  for (const char* outside : {"src=\"http", "href=\"http", "@import"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << "must work offline: " << outside;
  }
  output_of(line);
  EXPECT_EQ(read_text(page), html) << "the same results, the same bytes";
  const json result = json::parse(output_of(with(line, {"--json"})));
  EXPECT_EQ(result["command"], "report");
  EXPECT_EQ(result["inputs"].size(), 3U);
}

TEST_F(CliReport, BadInput) {
  const std::string page = folder_.file("page.html");
  error_of({"report", "-o", page}, 2);
  error_of({"report", folder_.file("none.json")}, 2);  // no -o
  const auto fault = [&](const std::string& text) {
    const std::string file = folder_.write("bad.json", text);
    const std::string error = error_of({"report", file, "-o", page}, 3);
    EXPECT_TRUE(error.starts_with("metro: " + file + ": ")) << error;
    return error;
  };
  error_of({"report", folder_.file("none.json"), "-o", page}, 3);
  fault("not JSON");
  fault(R"({"format": "metro-placement", "version": 1})");
  EXPECT_NE(fault(R"({"format": "metro-result", "version": 2})").find("2"), std::string::npos);
  fault(R"({"format": "metro-result", "version": 1, "command": "compare", "evidence": "simulated",
            "seed": 0, "inputs": []})");
  EXPECT_FALSE(std::filesystem::exists(page)) << "nothing is written on an error";
}

}  // namespace
}  // namespace metro::test
