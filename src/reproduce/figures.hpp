// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "metro/reproduce.hpp"
#include "reproduce/runner.hpp"

/// One file for each figure of the paper, or for two that are alike; reproduce.cpp names them.
namespace metro::reproduction {

ReproducedFigure make_eplb_figure(Runner& runner);         ///< 5
ReproducedFigure make_router_cost_figure(Runner& runner);  ///< 6
ReproducedFigure make_activated_figure(Runner& runner);    ///< 8
ReproducedFigure make_real_system_figure(Runner& runner);  ///< 9
ReproducedFigure make_simulated_figure(Runner& runner);    ///< 10
ReproducedFigure make_breakdown_figure(Runner& runner);    ///< 11
ReproducedFigure make_slo_figure(Runner& runner);          ///< 12
ReproducedFigure make_mapping_figure(Runner& runner);      ///< 13

/// What the paper says of all its gains at once, over the runs of figures 9 and 10.
ReproducedFigure make_overall(Runner& runner);

}  // namespace metro::reproduction
