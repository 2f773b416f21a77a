// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "replay/device_route_row.hpp"
#include "replay/route_bench.hpp"
#include "report/table.hpp"

/// What `metro bench route` prints, on the CPU and on a GPU.
namespace metro::report {

nlohmann::ordered_json route_result(const RouteBenchSpec& spec,
                                    const std::vector<RouteBenchRow>& rows,
                                    const std::vector<std::filesystem::path>& inputs);
std::string route_table(const std::vector<RouteBenchRow>& rows, int width = kAnyWidth);

nlohmann::ordered_json device_route_result(const std::vector<DeviceRouteRow>& rows,
                                           std::string_view device, std::string_view algorithm,
                                           std::uint64_t seed);
std::string device_route_table(const std::vector<DeviceRouteRow>& rows, std::string_view device,
                               int width = kAnyWidth);

}  // namespace metro::report
