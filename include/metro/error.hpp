// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace metro {

/// What went wrong, in the words of the command line's exit codes.
enum class ErrorCode {
  kUsage = 2,       ///< an argument is out of its own range
  kInput = 3,       ///< data is missing, unreadable or malformed, or an argument does not fit it
  kInfeasible = 4,  ///< everything is well-formed, but the request is impossible
  kDevice = 5,      ///< CUDA, NCCL or the device itself failed
};

/// The one exception the library throws. The message is one line and names the file, field,
/// index and value at fault, and what would be right.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace metro
