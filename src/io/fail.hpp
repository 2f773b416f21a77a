// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace metro::io {

/// Throws Error{kInput} with the message `<file>: <message>`.
[[noreturn]] void fail(std::string_view file, std::string_view message);

/// Foreign text for a message: in single quotes, printable ASCII, cut after 40 characters.
std::string quote(std::string_view text);

}  // namespace metro::io
