// SPDX-License-Identifier: Apache-2.0
#include <cblas.h>

#include "ep/matmul_kernels.hpp"
#include "ep/weight_panels.hpp"

namespace metro::ep {
namespace {

class OpenblasMatmul final : public Matmul {
 public:
  void run(const float* x, int rows, const WeightMatrix& w, float* y) override {
    if (rows == 0 || w.size() == 0) return;
    panels_.for_each(w, [&](const float* panel, int first, int count) {
      if (rows == 1) {  // sgemm would copy the weights into its own order first
        cblas_sgemv(CblasRowMajor, CblasNoTrans, count, w.cols, 1.0F, panel, w.cols, x, 1, 0.0F,
                    y + first, 1);
      } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, count, w.cols, 1.0F, x, w.cols,
                    panel, w.cols, 0.0F, y + first, w.rows);
      }
    });
  }

 private:
  WeightPanels panels_;
};

}  // namespace

std::unique_ptr<Matmul> make_openblas() {
  // Experts run side by side instead: the library gains little on a few rows.
  openblas_set_num_threads(1);
  return std::make_unique<OpenblasMatmul>();
}

}  // namespace metro::ep
