// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "metro/trace.hpp"

/// Readers of other programs' routing dumps, for `metro trace convert`; docs/formats.md defines
/// both. `info` says what the dump cannot: num_experts at least; without sequence_lengths all
/// tokens are one sequence. Every id is checked. They throw as the readers of metro/io.hpp do.
namespace metro::io {

/// How a headerless array of ids lies in its file.
struct RawLayout {
  enum class Order {
    kTokensFirst,  ///< [tokens][layers][topk]
    kLayersFirst,  ///< [layers][tokens][topk], as engines that record layer by layer write
  };
  std::string dtype = "<i4";  ///< NumPy's spelling of a little-endian integer: |u1 .. <i8
  Order order = Order::kTokensFirst;
  int num_layers = 0;
  int topk = 0;
};

/// Maps the file; the number of tokens follows from its size. No copy unless layers come first.
/// Throws Error{kUsage} for a layout that no file fits.
RoutingTrace read_raw_trace(const std::filesystem::path& path, const RawLayout& layout,
                            TraceInfo info);

/// What the rows of a CSV file without a header stand for; a file with one says it itself.
struct CsvLayout {
  int num_layers = 0;  ///< 0: not known
  int topk = 0;        ///< 0: not known
};

/// Either a header `token,layer,k,expert` and one row for each id, in any order; or no header and
/// one row for each token, layers * topk ids long, layer by layer.
RoutingTrace read_csv_trace(const std::filesystem::path& path, const CsvLayout& layout,
                            TraceInfo info);

}  // namespace metro::io
