// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <memory>
#include <mutex>
#include <string>

#include "bindings.hpp"
#include "metro/router.hpp"

/// A routing policy that is a Python function: f(layer_placement, topk_ids) -> replica ids.
namespace metro::python {

/// The first error of any such policy. RoutingPolicy::route cannot throw, so it is kept here until
/// somebody who can asks for it.
class FirstError {
 public:
  /// Keeps the exception that is being handled, if it is the first.
  void keep() noexcept;
  [[nodiscard]] bool is_set() const noexcept;
  /// Throws what was kept, if anything was.
  void raise() const;

 private:
  mutable std::mutex mutex_;
  std::exception_ptr error_;
};

/// Binds `function` to a placement. It takes the GIL when it is called, so any thread may; both
/// arguments outlive the result. Ids that the function gives are checked: each must be a replica of
/// its own expert, and -1 for ids of -1. After an error all ids are -1.
std::unique_ptr<RoutingPolicy> make_python_policy(const std::string& name, nb::handle function,
                                                  const LayerPlacement& placement,
                                                  FirstError& errors);

}  // namespace metro::python
