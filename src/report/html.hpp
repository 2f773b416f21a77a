// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace metro::report {

/// `text` for HTML content and quoted attributes.
std::string escape_html(std::string_view text);

/// JSON for a <script> element: no '<' in it can end the element.
std::string script_json(const nlohmann::ordered_json& value);

}  // namespace metro::report
