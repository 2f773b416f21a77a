// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "ep/matmul.hpp"

/// One factory a kernel; matmul.cpp has the table.
namespace metro::ep {

std::unique_ptr<Matmul> make_plain();
std::unique_ptr<Matmul> make_onednn();
bool onednn_supports(DataType type);

}  // namespace metro::ep
