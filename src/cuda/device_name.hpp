// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace metro::cuda {

/// The current device's name. Throws Error{kDevice}, in the words of the command line, where none
/// is.
std::string device_name();

}  // namespace metro::cuda
