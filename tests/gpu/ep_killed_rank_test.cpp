// SPDX-License-Identifier: Apache-2.0
// A process of an NCCL job that is killed: the job ends in time, with one line of metro's own.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

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

TEST_F(EpKilledRank, EndsTheJobWithOneLine) {
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
  if (visible < 2) GTEST_SKIP() << "needs two GPUs";
  const auto folder =
      std::filesystem::temp_directory_path() / ("metro_killed_rank_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  if (std::system("mpirun --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "needs mpirun";
  std::ofstream(folder / "script") << "cd " << folder << R"(
mpirun --allow-run-as-root --oversubscribe -np 2 )" METRO_BINARY R"( bench layer --device cuda \
  --gpus 2 --timeout-s 5 --tokens-per-gpu 8 --replication 1.0 --repeats 60000 --json >out 2>err &
job=$!
for i in $(seq 300); do
  ranks=($(pgrep -P $job)); [ ${#ranks[@]} -eq 2 ] && break; sleep 0.1
done
sleep 30
kill -9 ${ranks[1]} || exit 99
date +%s >killed
wait $job
status=$?
date +%s >ended
exit $status
)";
  const int status = std::system(("bash " + (folder / "script").string()).c_str());
  ASSERT_TRUE(WIFEXITED(status));
  const std::string err = text_of(folder / "err");
  EXPECT_EQ(WEXITSTATUS(status), 137) << err;  // mpirun's own, of the rank that was killed
  EXPECT_EQ(text_of(folder / "out"), "");
  const auto line = err.find("metro: rank 0 of 2");
  ASSERT_NE(line, std::string::npos) << err;
  EXPECT_NE(err.find("another rank is lost", line), std::string::npos) << err;
  EXPECT_EQ(err.find("metro: ", line + 1), std::string::npos) << "more than one line: " << err;
  const auto second = [&](const char* name) { return std::stoll(text_of(folder / name)); };
  EXPECT_LT(second("ended") - second("killed"), 30);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace metro::ep::cuda
