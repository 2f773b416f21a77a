// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

/// metro_moe._metro: one file for each public header, with the same names on both sides.
namespace metro::python {

namespace nb = nanobind;

void bind_error();
void bind_placement(nb::module_& module);
void bind_placer(nb::module_& module);
void bind_expert_cost(nb::module_& module);
void bind_router(nb::module_& module);
void bind_metrics(nb::module_& module);
void bind_trace(nb::module_& module);
void bind_compare(nb::module_& module);
void bind_cuda_router(nb::module_& module);

}  // namespace metro::python
