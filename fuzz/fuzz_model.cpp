// SPDX-License-Identifier: Apache-2.0
// A config.json that is read gives a model that its own check and the cost model accept.
#include <cmath>
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/model_file.hpp"
#include "metro/cost.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  metro::ModelConfig model;
  try {
    model = metro::io::parse_model_config(metro::io::as_text(std::as_bytes(std::span(data, size))),
                                          "f", "m");
  } catch (const metro::Error&) {
    return 0;
  }
  metro::Deployment deployment;
  deployment.set_weights(model, model.weights);
  const metro::CostModel cost(model, *metro::find_gpu("h200"), deployment);
  metro::StepLoad load;
  load.decode_rows = load.logits_rows = load.global_tokens = 8;
  load.decode_context_tokens = 8000;
  if (!std::isfinite(cost.step(load).total_us())) std::abort();
  return 0;
}
