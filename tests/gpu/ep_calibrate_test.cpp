// SPDX-License-Identifier: Apache-2.0
// `metro calibrate` on a GPU, with experts so small that only its bookkeeping counts.
#include <gtest/gtest.h>

#include <algorithm>

#include "cost/calibration_fit.hpp"
#include "gpu/device_test.hpp"
#include "layer_bench/cuda/calibrate_cuda.hpp"
#include "metro/router.hpp"

namespace metro::layer_bench::cuda {
namespace {

class EpCalibrate : public test::DeviceTest {};

TEST_F(EpCalibrate, MeasuresEveryPartInPositiveTime) {
  CalibrateOptions options;
  options.shapes = {{"tiny", 512, 256, DataType::kBf16}, {"tiny", 512, 256, DataType::kFp8}};
  options.quick = true;
  auto run = calibrate_cuda(options);
  ASSERT_TRUE(run.has_value());
  Calibration& calibration = run->calibration;
  EXPECT_GT(calibration.copy_gb_s, 100);
  EXPECT_GT(calibration.gemm_tflops, 10);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(calibration.router_us.size()),
            std::ranges::count(policies(), true, &PolicyInfo::device));
  for (const auto& [policy, us] : calibration.router_us) EXPECT_GT(us, 0) << policy;
  ASSERT_EQ(calibration.experts.size(), 2U) << run->left_out.front();
  for (auto& expert : calibration.experts) {
    EXPECT_EQ(expert.points.size(), calibration_points(true).size());
    cost::fit_expert_time(expert);
  }
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
  EXPECT_EQ(calibration.collectives.empty(), visible == 1);
  for (auto& collective : calibration.collectives) cost::fit_collective(collective);
  calibration.gpu = "here";
  EXPECT_NO_THROW(calibration.validate());
}

}  // namespace
}  // namespace metro::layer_bench::cuda
