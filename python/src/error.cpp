// SPDX-License-Identifier: Apache-2.0
#include "metro/error.hpp"

#include <exception>
#include <new>
#include <stdexcept>

#include "bindings.hpp"

namespace metro::python {
namespace {

const char* class_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kUsage:
      return "UsageError";
    case ErrorCode::kInput:
      return "InputError";
    case ErrorCode::kInfeasible:
      return "InfeasibleError";
    case ErrorCode::kDevice:
      return "DeviceError";
  }
  return "MetroError";
}

}  // namespace

void bind_error() {
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      const nb::object type = nb::module_::import_("metro_moe.errors").attr(class_of(error.code()));
      PyErr_SetString(type.ptr(), error.what());
    } catch (const std::bad_alloc&) {
      PyErr_SetString(PyExc_MemoryError,
                      "metro: the arguments need more memory than the system gives");
    } catch (const std::length_error&) {
      PyErr_SetString(PyExc_MemoryError, "metro: the arguments need more memory than there can be");
    }
  });
}

}  // namespace metro::python
