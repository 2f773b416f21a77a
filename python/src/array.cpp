// SPDX-License-Identifier: Apache-2.0
#include "array.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <type_traits>

namespace metro::python {
namespace {

using nb::dlpack::dtype_code;

/// Of a batch: 16 GiB of ids. One of 65,536 tokens with top-64 has 4 million.
constexpr std::size_t kMaxElements = std::size_t{1} << 32;

bool is_type(const AnyArray& array, dtype_code code) noexcept {
  return array.dtype().code == static_cast<std::uint8_t>(code) && array.dtype().lanes == 1;
}

/// Calls `f` with a zero of the array's element type; false if that is none that we know.
template <bool kAllowFloats, typename F>
bool with_element(const AnyArray& array, F&& f) {
  const int bits = array.dtype().bits;
  if (is_type(array, dtype_code::Int)) {
    if (bits == 8) return f(std::int8_t{}), true;
    if (bits == 16) return f(std::int16_t{}), true;
    if (bits == 32) return f(std::int32_t{}), true;
    if (bits == 64) return f(std::int64_t{}), true;
  } else if (is_type(array, dtype_code::UInt)) {
    if (bits == 8) return f(std::uint8_t{}), true;
    if (bits == 16) return f(std::uint16_t{}), true;
    if (bits == 32) return f(std::uint32_t{}), true;
    if (bits == 64) return f(std::uint64_t{}), true;
  } else if constexpr (kAllowFloats) {
    if (!is_type(array, dtype_code::Float)) return false;
    if (bits == 32) return f(float{}), true;
    if (bits == 64) return f(double{}), true;
  }
  return false;
}

/// Visits the elements in C order, whatever the strides. Not aligned memory is fine.
template <typename T, typename Visit>
void for_each(const AnyArray& array, Visit&& visit) {
  const auto* const base = static_cast<const std::byte*>(array.data());
  const std::size_t dims = array.ndim();
  std::vector<std::size_t> index(dims, 0);
  for (std::size_t left = array.size(); left > 0; --left) {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < dims; ++d) {
      offset += static_cast<std::int64_t>(index[d]) * array.stride(d);
    }
    T value{};
    std::memcpy(&value, base + offset * std::int64_t{sizeof(T)}, sizeof(T));
    visit(value);
    for (std::size_t d = dims; d-- > 0 && ++index[d] == array.shape(d);) index[d] = 0;
  }
}

template <typename T>
std::int32_t saturate(T value) noexcept {
  using Limits = std::numeric_limits<std::int32_t>;
  if constexpr (std::is_signed_v<T> && sizeof(T) > sizeof(std::int32_t)) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(value, Limits::min(), Limits::max()));
  } else if constexpr (std::is_unsigned_v<T> && sizeof(T) >= sizeof(std::int32_t)) {
    return static_cast<std::int32_t>(
        std::min<std::uint64_t>(value, static_cast<std::uint64_t>(Limits::max())));
  } else {
    return static_cast<std::int32_t>(value);
  }
}

[[noreturn]] void fail_type(const AnyArray& array, const char* name, const char* wanted) {
  static constexpr const char* kKinds[] = {"int", "uint", "float"};
  const auto type = array.dtype();
  const char* kind = type.code < std::size(kKinds) ? kKinds[type.code] : "another type of";
  throw nb::type_error(
      fmt::format("{} holds {}{}, must hold {}", name, kind, type.bits, wanted).c_str());
}

template <typename Out, bool kAllowFloats, typename Convert>
std::vector<Out> copy(const AnyArray& array, const char* name, const char* wanted,
                      Convert&& convert) {
  std::vector<Out> out;
  try {
    out.reserve(array.size());
  } catch (const std::exception&) {  // no memory, or more than there can be
    PyErr_SetString(PyExc_MemoryError,
                    fmt::format("{} has {} elements, no memory for a copy of {} bytes", name,
                                array.size(), array.size() * sizeof(Out))
                        .c_str());
    throw nb::python_error();
  }
  const auto convert_all = [&]<typename T>(T) {
    if (is_contiguous(array)) {
      const auto* const base = static_cast<const std::byte*>(array.data());
      for (std::size_t i = 0; i < array.size(); ++i) {
        T value{};
        std::memcpy(&value, base + i * sizeof(T), sizeof(T));
        out.push_back(convert(value));
      }
    } else {
      for_each<T>(array, [&](T value) { out.push_back(convert(value)); });
    }
  };
  if (!with_element<kAllowFloats>(array, convert_all)) fail_type(array, name, wanted);
  return out;
}

}  // namespace

AnyArray as_array(nb::handle object, const char* name) {
  AnyArray array;
  if (nb::try_cast(object, array)) return array;
  nb::object converted = nb::module_::import_("numpy").attr("asarray")(object);
  const nb::object type = converted.attr("dtype");
  if (!nb::cast<bool>(type.attr("isnative"))) {
    converted = converted.attr("astype")(type.attr("newbyteorder")("="));
  }
  if (nb::try_cast(converted, array)) return array;
  throw nb::type_error(fmt::format("{} must be an array of numbers in host memory", name).c_str());
}

void require_dims(const AnyArray& array, std::size_t dims, const char* shape, const char* name) {
  if (array.ndim() == dims) return;
  throw nb::value_error(
      fmt::format("{} has {} dimensions, must be {}", name, array.ndim(), shape).c_str());
}

bool holds_integers(const AnyArray& array) noexcept {
  return is_type(array, dtype_code::Int) || is_type(array, dtype_code::UInt);
}

bool is_contiguous(const AnyArray& array) noexcept {
  std::int64_t expected = 1;
  for (std::size_t d = array.ndim(); d-- > 0;) {
    if (array.shape(d) > 1 && array.stride(d) != expected) return false;
    expected *= static_cast<std::int64_t>(array.shape(d));
  }
  return true;
}

std::vector<std::int32_t> to_int32(const AnyArray& array, const char* name) {
  return copy<std::int32_t, false>(array, name, "integers",
                                   [](auto value) { return saturate(value); });
}

std::vector<double> to_double(const AnyArray& array, const char* name) {
  return copy<double, true>(array, name, "numbers",
                            [](auto value) { return static_cast<double>(value); });
}

IdMatrix::IdMatrix(nb::handle object, const char* name) : array_(as_array(object, name)) {
  require_dims(array_, 2, "[tokens, topk]", name);
  // Before anything is copied: a broadcast array is as long as one likes, for nothing.
  constexpr auto kMax = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
  if (rows() > kMax || columns() > kMax || (columns() > 0 && rows() > kMaxElements / columns())) {
    throw nb::value_error(fmt::format("{} is [{}, {}], must have at most {} rows and columns, and "
                                      "{} elements",
                                      name, rows(), columns(), kMax, kMaxElements)
                              .c_str());
  }
  const bool is_aligned =
      reinterpret_cast<std::uintptr_t>(array_.data()) % alignof(std::int32_t) == 0;
  if (array_.dtype() == nb::dtype<std::int32_t>() && is_contiguous(array_) && is_aligned) {
    ids_ = {static_cast<const std::int32_t*>(array_.data()), array_.size()};
  } else if (array_.size() > 0) {
    copy_ = to_int32(array_, name);
    ids_ = copy_;
  }
}

void check_ids(const IdMatrix& ids, int end, const char* name, const char* what) {
  const auto is_bad = [end](std::int32_t id) { return id < -1 || id >= end; };
  const auto bad = std::ranges::find_if(ids.ids(), is_bad);
  if (bad == ids.ids().end()) return;
  const auto at = static_cast<std::size_t>(bad - ids.ids().begin());
  throw nb::value_error(fmt::format("{}[{}, {}] is {}, must be {} 0..{} or -1", name,
                                    at / ids.columns(), at % ids.columns(), *bad, what, end - 1)
                            .c_str());
}

}  // namespace metro::python
