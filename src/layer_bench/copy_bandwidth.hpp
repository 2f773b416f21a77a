// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace metro::layer_bench {

/// GB/s that a copy reaches on `num_threads` threads, bytes read and bytes written: the best of a
/// few copies of buffers that no cache holds. What weight reads are compared with.
double measure_copy_gb_s(int num_threads);

}  // namespace metro::layer_bench
