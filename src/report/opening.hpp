// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace metro::report {

/// What a page of several results opens with, from its result of `compare`: what this is, three
/// numbers, a picture, when it pays, and what to do next. Empty where that result lacks what it
/// takes: the even split and `optimal`, replicas, and more than one batch size.
std::string opening_html(const nlohmann::ordered_json& compare);

}  // namespace metro::report
