// SPDX-License-Identifier: Apache-2.0
#include "bindings.hpp"

NB_MODULE(_metro, module) {
  module.doc() = "The metro library; import metro_moe instead.";
  module.attr("__version__") = METRO_VERSION;
  metro::python::bind_error();
  metro::python::bind_placement(module);
  metro::python::bind_placer(module);
  metro::python::bind_expert_cost(module);
  metro::python::bind_router(module);
  metro::python::bind_metrics(module);
  metro::python::bind_trace(module);
  metro::python::bind_compare(module);
#ifdef METRO_HAVE_CUDA
  metro::python::bind_cuda_router(module);
#endif
}
