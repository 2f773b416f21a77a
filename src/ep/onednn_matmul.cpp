// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "ep/low_precision.hpp"
#include "ep/matmul_kernels.hpp"
#include "metro/error.hpp"

namespace metro::ep {
namespace {

using dnnl::memory;

memory::data_type onednn_type(DataType type) {
  return type == DataType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

/// y [rows][n] = x [rows][k] * transpose(w [n][k]); x in the type of w, y in fp32.
dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, DataType type, memory::dim rows,
                                      memory::dim n, memory::dim k) {
  const memory::desc x({rows, k}, onednn_type(type), memory::dims{k, 1});
  const memory::desc w({k, n}, onednn_type(type), memory::dims{1, k});
  const memory::desc y({rows, n}, memory::data_type::f32, memory::dims{n, 1});
  return {dnnl::matmul::desc(x, w, y), engine};
}

class OnednnMatmul final : public Matmul {
 public:
  void run(const float* x, int rows, const WeightMatrix& w, float* y) override {
    if (rows == 0 || w.size() == 0) return;
    omp_set_num_threads(1);  // of the calling thread's libraries
    try {
      const Plan& plan = plan_for(rows, w);
      // The library takes pointers that it could write through; it does not write to inputs.
      const memory source(plan.desc.src_desc(), engine_, const_cast<void*>(input(x, rows, w)));
      const memory weights(plan.desc.weights_desc(), engine_, const_cast<void*>(w.values));
      const memory target(plan.desc.dst_desc(), engine_, y);
      plan.primitive.execute(
          stream_, {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}});
      stream_.wait();
    } catch (const dnnl::error& error) {
      throw Error(ErrorCode::kDevice, std::string("oneDNN: ") + error.what());
    }
  }

 private:
  struct Plan {
    dnnl::matmul::primitive_desc desc;
    dnnl::matmul primitive;
  };

  const Plan& plan_for(int rows, const WeightMatrix& w) {
    const auto key = std::make_tuple(w.type, rows, w.rows, w.cols);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      auto desc = describe(engine_, w.type, rows, w.rows, w.cols);
      found = plans_.emplace(key, Plan{desc, dnnl::matmul(desc)}).first;
    }
    return found->second;
  }

  const void* input(const float* x, int rows, const WeightMatrix& w) {
    if (w.type == DataType::kFloat32) return x;
    const std::size_t count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(w.cols);
    narrow_.resize(count);
    for (std::size_t i = 0; i < count; ++i) narrow_[i] = to_bf16(x[i]);
    return narrow_.data();
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<std::tuple<DataType, int, int, int>, Plan> plans_;
  std::vector<std::uint16_t> narrow_;
};

}  // namespace

bool onednn_supports(DataType type) {
  if (type == DataType::kFloat32) return true;
  if (type != DataType::kBf16) return false;
  try {
    describe(dnnl::engine(dnnl::engine::kind::cpu, 0), type, 4, 32, 32);
    return true;
  } catch (const dnnl::error&) {
    return false;  // this CPU has no bf16 instructions that the library uses
  }
}

std::unique_ptr<Matmul> make_onednn() { return std::make_unique<OnednnMatmul>(); }

}  // namespace metro::ep
