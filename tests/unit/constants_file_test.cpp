// SPDX-License-Identifier: Apache-2.0
// data/constants: what is compiled in, every bound of the schemas, and every fault's line.
#include "io/constants_file.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "io/builtin_constants.hpp"
#include "metro/error.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using Json = nlohmann::json;

/// One of the three files: its parser, what is compiled in, and its schema.
struct File {
  std::string name;
  std::function<void(const std::string&)> parse;
  Json document;
  Json schema;
};

File file(const std::string& name, std::function<void(const std::string&)> parse,
          std::string_view text) {
  return {name, std::move(parse), Json::parse(text),
          Json::parse(io_test::get(METRO_SOURCE_DIR "/docs/schemas/" + name + ".json"))};
}

std::vector<File> files() {
  return {
      file(
          "gpus", [](const std::string& text) { parse_gpus(text, "f"); }, gpus_json()),
      file(
          "engines", [](const std::string& text) { parse_engines(text, "f"); }, engines_json()),
      file("kernels", [](const std::string& text) { parse_kernels(text, "f"); }, kernels_json())};
}

/// The message for `file` with the value at `pointer` replaced; "" when it is read.
std::string fault(const File& file, const Json::json_pointer& pointer, const Json& value) {
  Json changed = file.document;
  changed[pointer] = value;
  try {
    file.parse(changed.dump());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "";
}

/// Calls `visit(where, properties)` for each kind of object with numbers: the first row of a table,
/// or the object itself; `where` as a JSON pointer and as messages spell it.
template <typename Visit>
void for_each_object(const File& file, Visit visit) {
  for (const auto& [key, schema] : file.schema.at("properties").items()) {
    if (key == "source") continue;  // for people
    if (schema.contains("items")) {
      visit("/" + key + "/0", key + "[0]", schema["items"]);
    } else if (schema.contains("properties")) {
      visit("/" + key, key, schema);
    }
  }
}

TEST(ConstantsFile, KeepsEveryBoundOfItsSchema) {
  int bounds = 0;
  for (const File& f : files()) {
    for_each_object(f, [&](const std::string& at, const std::string& path, const Json& schema) {
      for (const auto& [field, wanted] : schema["properties"].items()) {
        if (!wanted.contains("minimum")) continue;
        SCOPED_TRACE(f.name + " " + path + "." + field);
        const Json::json_pointer pointer(at + "/" + field);
        const std::string start = "f: " + path + "." + field + " is ";
        EXPECT_EQ(fault(f, pointer, wanted["minimum"]), "");
        EXPECT_EQ(fault(f, pointer, wanted["maximum"]), "");
        const bool whole = wanted["type"] == "integer";
        const auto beyond = [&](const char* bound, double step) {
          const auto value = wanted[bound].get<double>();
          return whole ? Json(static_cast<int>(value + step))
                       : Json(value + step * std::max(1e-6, std::abs(value) * 1e-6));
        };
        const std::string low = fault(f, pointer, beyond("minimum", -1));
        const std::string high = fault(f, pointer, beyond("maximum", 1));
        EXPECT_TRUE(low.starts_with(start) && low.find("..") != low.npos) << low;
        EXPECT_TRUE(high.starts_with(start) && high.find("..") != high.npos) << high;
        EXPECT_TRUE(fault(f, pointer, "12").starts_with(start + "'12', must be ")) << "a text";
        bounds += 2;
      }
    });
  }
  EXPECT_EQ(bounds, 2 * (8 + 2 * 11 + 2 * 4 + 7 + 4));
}

TEST(ConstantsFile, NeedsEveryFieldThatItsSchemaRequires) {
  for (const File& f : files()) {
    for_each_object(f, [&](const std::string& at, const std::string& path, const Json& schema) {
      for (const Json& field : schema["required"]) {
        if (field == "source") continue;
        Json object = f.document[Json::json_pointer(at)];
        object.erase(field.get<std::string>());
        EXPECT_EQ(fault(f, Json::json_pointer(at), object),
                  "f: " + path + "." + field.get<std::string>() + " is missing");
      }
    });
  }
}

TEST(ConstantsFile, TakesTheWordsOfItsSchemaAlone) {
  int words = 0;
  for (const File& f : files()) {
    for_each_object(f, [&](const std::string& at, const std::string& path, const Json& schema) {
      for (const auto& [field, wanted] : schema["properties"].items()) {
        if (!wanted.contains("enum")) continue;
        const Json::json_pointer pointer(at + "/" + field);
        for (const Json& word : wanted["enum"]) {
          EXPECT_EQ(fault(f, pointer, word), "");
          ++words;
        }
        const std::string start = "f: " + path + "." + field + " is 'Hopper', must be one of '";
        EXPECT_TRUE(fault(f, pointer, "Hopper").starts_with(start)) << fault(f, pointer, "Hopper");
      }
    });
  }
  EXPECT_EQ(words, (3 + 4) + (3 + 2 + 4) + (3 + 4) + (3 + 6));
}

TEST(ConstantsFile, NamesEveryOtherFault) {
  const auto gpus = files()[0];
  const auto engines = files()[1];
  const auto kernels = files()[2];
  const auto at = [](const char* pointer) { return Json::json_pointer(pointer); };
  EXPECT_EQ(fault(gpus, at("/version"), 2),
            "f: version is 2, this build reads metro-gpus up to version 1");
  EXPECT_EQ(fault(kernels, at("/format"), "metro-gpus"),
            "f: format is 'metro-gpus', must be 'metro-kernels'");
  EXPECT_EQ(fault(gpus, at("/gpus"), Json::array()),
            "f: gpus is an array, must be an array with an element");
  EXPECT_EQ(fault(engines, at("/engines"), 3), "f: engines is 3, must be an array");
  EXPECT_EQ(fault(gpus, at("/gpus/0/name"), ""),
            "f: gpus[0].name is '', must be 1 to 64 characters");
  EXPECT_EQ(fault(gpus, at("/gpus/1/name"), "a100_40g"),
            "f: gpus[1].name is 'a100_40g', must be a name that no GPU before it has");
  EXPECT_EQ(fault(gpus, at("/gpus/0/alias"), "A"),
            "f: gpus[0].alias is 'A', must be left out: no such field is known");
  EXPECT_EQ(fault(gpus, at("/gpus/0/aliases"), Json::array({1})),
            "f: gpus[0].aliases[0] is 1, must be a string");
  EXPECT_EQ(fault(engines, at("/engines/0/mixes_prefill"), 1),
            "f: engines[0].mixes_prefill is 1, must be true or false");
  EXPECT_EQ(fault(kernels, at("/attention/0/engine"), std::string(65, 'x')).substr(0, 29),
            "f: attention[0].engine is 'xx");
}

TEST(BuiltinConstants, AreThere) {
  EXPECT_EQ(find_gpu("RTX_PRO_6000")->memory_bytes_per_s, 1.792e12);
  EXPECT_EQ(find_gpu_of_device("NVIDIA RTX PRO 6000 Blackwell Server Edition"),
            find_gpu("rtx-pro-6000"));
  std::set<std::string> engines;
  for (const auto& engine : builtin_engines().engines) engines.insert(engine.name);
  EXPECT_EQ(engines, (std::set<std::string>{"vllm", "sglang", "trtllm"}));
  EXPECT_EQ(builtin_engines().average.name, "");
  // An unknown engine gets the row of all engines together, which must be there.
  for (const auto& expert : builtin_kernels().experts) {
    const auto all = std::ranges::find_if(builtin_kernels().experts, [&](const auto& other) {
      return other.engine.empty() && other.architecture == expert.architecture &&
             other.weights == expert.weights;
    });
    EXPECT_NE(all, builtin_kernels().experts.end());
  }
}

}  // namespace
}  // namespace metro::io
