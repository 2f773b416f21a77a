// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"

/// Arrays between Python and C++: whatever has DLPack or the buffer protocol comes in (NumPy,
/// torch,
/// ...), as does what numpy.asarray takes; NumPy goes out.
namespace metro::python {

using AnyArray = nb::ndarray<nb::ro, nb::device::cpu>;

template <typename T>
using NumpyArray = nb::ndarray<nb::numpy, T>;

/// The object as an array in host memory. Throws TypeError that names the argument.
AnyArray as_array(nb::handle object, const char* name);

/// Throws ValueError unless the array has one dimension for each name in `dims`.
void require_dims(const AnyArray& array, std::size_t dims, const char* shape, const char* name);

/// Whether the array holds integers. bool is not one.
bool holds_integers(const AnyArray& array) noexcept;

/// Whether the elements lie one after another in C order.
bool is_contiguous(const AnyArray& array) noexcept;

/// A copy in C order. Integers beyond 32 bits saturate. Throws TypeError for other types.
std::vector<std::int32_t> to_int32(const AnyArray& array, const char* name);

/// A copy in C order of integers or floating-point numbers.
std::vector<double> to_double(const AnyArray& array, const char* name);

/// [rows][columns] of 32-bit ids: the array's own memory if it is laid out so, else a copy.
class IdMatrix {
 public:
  IdMatrix(nb::handle object, const char* name);

  [[nodiscard]] std::span<const std::int32_t> ids() const noexcept { return ids_; }
  [[nodiscard]] std::size_t rows() const { return array_.shape(0); }
  [[nodiscard]] std::size_t columns() const { return array_.shape(1); }

 private:
  AnyArray array_;
  std::vector<std::int32_t> copy_;
  std::span<const std::int32_t> ids_;
};

/// Throws ValueError that names the place unless each id is -1 or below `end`; `what`: "a slot".
void check_ids(const IdMatrix& ids, int end, const char* name, const char* what);

/// A NumPy array that takes over the vector's memory.
template <typename T>
NumpyArray<T> to_numpy(std::vector<T> values, std::initializer_list<std::size_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  const nb::capsule owner(owned,
                          [](void* at) noexcept { delete static_cast<std::vector<T>*>(at); });
  return NumpyArray<T>(owned->data(), shape, owner);
}

template <typename T>
NumpyArray<T> to_numpy(std::vector<T> values) {
  const std::size_t size = values.size();
  return to_numpy(std::move(values), {size});
}

/// A read-only NumPy view of memory that `owner` keeps alive.
template <typename T>
NumpyArray<const T> view_of(const std::vector<T>& values, nb::handle owner) {
  return NumpyArray<const T>(values.data(), {values.size()}, owner);
}

}  // namespace metro::python
