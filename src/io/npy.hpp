// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/bytes.hpp"
#include "io/dtype.hpp"

namespace metro::io {

/// The header of a `.npy` file as written: the Python literal, its three keys read.
struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

/// Reads {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }: keys in any order, each once.
/// Not a Python evaluator: no nesting, no escapes. Throws Error{kInput}.
NpyHeader parse_npy_header(std::string_view literal, std::string_view file);

/// A C-order array of little-endian numbers inside the bytes of a `.npy` file.
struct NpyArray {
  DType type;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  ///< not aligned
  std::size_t count = 0;            ///< product of the shape
};

/// Whether the bytes open as a `.npy` file does.
bool is_npy(Bytes file) noexcept;

/// Checks a `.npy` file (format 1.0, 2.0 or 3.0) and finds its array; copies nothing.
/// Throws Error{kInput} unless the type is a DType and the data are exactly as long as the shape
/// says.
NpyArray parse_npy(Bytes bytes, std::string_view file);

/// Throws Error{kInput} unless the array holds integers and has one dimension for each of `dims`.
void require_integers(const NpyArray& array, std::string_view file);
void require_dims(const NpyArray& array, std::size_t dims, std::string_view names,
                  std::string_view file);

/// "(3, 4)", "(3,)" or "()".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// The opening of a `.npy` file (format 1.0) of this type and shape, a multiple of 64 bytes long.
std::string format_npy_header(DType type, const std::vector<std::int64_t>& shape);

}  // namespace metro::io
