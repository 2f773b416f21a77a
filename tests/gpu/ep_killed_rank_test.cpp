// SPDX-License-Identifier: Apache-2.0
// A process of an NCCL job that is killed: the other one ends in time, with one line and exit 5.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "gpu/device_test.hpp"

namespace metro::ep::cuda {
namespace {

class EpKilledRank : public test::DeviceTest {};

std::string text_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

TEST_F(EpKilledRank, TheOtherEndsWithOneLine) {
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
  if (visible < 2) GTEST_SKIP() << "needs two GPUs";
  const auto folder =
      std::filesystem::temp_directory_path() / ("metro_killed_rank_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  // Started as torchrun would: under mpirun, mpirun itself would end the survivor.
  std::ofstream(folder / "script") << "cd " << folder << R"(
export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 METRO_PORT=$((20000 + $$ % 20000))
run() {
  RANK=$1 LOCAL_RANK=$1 exec )" METRO_BINARY R"( bench layer --device cuda --gpus 2 --timeout-s 5 \
    --tokens-per-gpu 8 --replication 1.0 --repeats 60000 --json
}
run 0 >out 2>err &
first=$!
run 1 >/dev/null 2>&1 &
second=$!
sleep 30
kill -0 $first && kill -9 $second || exit 99
date +%s >killed
wait $first
status=$?
date +%s >ended
exit $status
)";
  const int status = std::system(("bash " + (folder / "script").string()).c_str());
  ASSERT_TRUE(WIFEXITED(status));
  const std::string err = text_of(folder / "err");
  EXPECT_EQ(WEXITSTATUS(status), 5) << err;
  EXPECT_EQ(text_of(folder / "out"), "");
  EXPECT_EQ(std::ranges::count(err, '\n'), 1) << err;
  EXPECT_NE(err.find("metro: NCCL rank 0 of 2"), std::string::npos) << err;
  const auto second = [&](const char* name) { return std::stoll(text_of(folder / name)); };
  EXPECT_LT(second("ended") - second("killed"), 30);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace metro::ep::cuda
