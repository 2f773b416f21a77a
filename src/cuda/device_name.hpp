// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace metro::cuda {

bool has_device() noexcept;

/// The current device's name. Throws Error{kDevice} where there is none.
std::string device_name();

}  // namespace metro::cuda
