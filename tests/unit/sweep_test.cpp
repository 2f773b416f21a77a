// SPDX-License-Identifier: Apache-2.0
#include "metro/sweep.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metro/error.hpp"

namespace metro {
namespace {

SweepSpec small_grid() {
  SweepSpec spec;
  spec.axes = {
      {"model", {"gpt-oss-20b"}}, {"gpu", {"h100"}}, {"gpus", {"2", "4"}}, {"policy", {"even"}},
      {"replication", {"1.5"}},   {"isl", {"64"}},   {"osl", {"8"}},       {"num-requests", {"20"}},
      {"concurrency", {"4", "8"}}};
  return spec;
}

std::vector<std::string> texts(const Sweep& sweep) {
  std::vector<std::string> rows;
  for (const SweepRow& row : sweep.rows) rows.push_back(row.json);
  return rows;
}

/// Works backwards, and counts.
class Backwards final : public SweepWorkers {
 public:
  [[nodiscard]] bool is_writer() const noexcept override { return true; }
  void run(const std::vector<std::size_t>& todo,
           const std::function<std::string(std::size_t)>& work,
           const std::function<void(std::size_t, const std::string&)>& done) override {
    for (auto point = todo.rbegin(); point != todo.rend(); ++point) {
      done(*point, work(*point));
      ++worked_out;
    }
  }
  int worked_out = 0;
};

TEST(Sweep, RowsDoNotDependOnTheWorkers) {
  const auto threads = make_thread_workers(2);
  const Sweep sweep = metro::sweep(small_grid(), *threads);
  ASSERT_EQ(sweep.rows.size(), 4U);
  EXPECT_EQ(sweep.rows[1].values[2], "2");
  EXPECT_EQ(sweep.rows[1].values[8], "8") << "the last axis varies fastest";
  const auto row = nlohmann::json::parse(sweep.rows[1].json);
  EXPECT_EQ(row["gpus"], 2);
  EXPECT_EQ(row["concurrency"], 8);
  EXPECT_EQ(row["tpot_ms"]["mean"], sweep.rows[1].tpot_ms);
  EXPECT_EQ(row["pareto"], sweep.rows[1].pareto);
  Backwards backwards;
  EXPECT_EQ(texts(metro::sweep(small_grid(), backwards)), texts(sweep));
  EXPECT_EQ(backwards.worked_out, 4);
}

TEST(Sweep, GoesOnFromAJournal) {
  SweepSpec spec = small_grid();
  spec.journal =
      std::filesystem::temp_directory_path() / ("metro_sweep_test." + std::to_string(::getpid()));
  Backwards workers;
  const Sweep first = sweep(spec, workers);
  EXPECT_EQ(workers.worked_out, 4);
  EXPECT_EQ(texts(sweep(spec, workers)), texts(first));
  EXPECT_EQ(workers.worked_out, 4) << "nothing is worked out again";
  spec.axes[8].values.emplace_back("16");
  EXPECT_EQ(sweep(spec, workers).rows.size(), 6U);
  EXPECT_EQ(workers.worked_out, 6);
  std::filesystem::remove(spec.journal);
}

TEST(Sweep, FaultsAreThrownBeforeAnythingRuns) {
  SweepSpec spec = small_grid();
  spec.axes[2].values = {"2", "0"};
  Backwards workers;
  try {
    sweep(spec, workers);
    FAIL() << "gpus 0 was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_EQ(std::string(error.what()).find("gpus is '0'"), 0U) << error.what();
  }
  EXPECT_EQ(workers.worked_out, 0);
  spec.axes[2].values = {"2", "4"};
  spec.axes[0].values = {"DeepSeek-V3"};
  const Sweep sweep = metro::sweep(spec, workers);
  EXPECT_NE(sweep.rows[0].error.find("no room"), std::string::npos) << sweep.rows[0].error;
  EXPECT_FALSE(sweep.rows[0].pareto);
}

}  // namespace
}  // namespace metro
